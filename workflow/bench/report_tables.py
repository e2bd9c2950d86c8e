"""A table as the report shows it, read from the files that `bench.publish.write` left. No torch."""

import csv
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from statistics import median
from typing import Any

from bench.cells import DIGITS, NOT_EVALUATED
from bench.errors import UserError
from bench.stats import CLOSE
from bench.tables import ABSENT
from bench.timing_table import three_digits

VERDICTS = {
    "match": ("=", "within the tolerance"),
    "close": ("≈", f"within {CLOSE} tolerances"),
    "differs": ("≠", "further away"),
    "subset": ("‡", "over a part of the paper's images, so no verdict"),
    "other hardware": ("÷", "a time on another machine, compared by its ratio to DEAL's"),
    "missing": ("–", "no number of ours, or one of other images"),
}
"""Verdict on a value of the paper → its sign, its meaning."""
NO_COLUMN = "the configuration has no such column"
ABLATIONS = "ablations"


@dataclass
class Shown:
    """One cell: numbers as text, empty where there is none, and what is said of them."""

    value: str = ""
    detail: str = ""  # below the value: quartiles of a time
    paper: str = ""
    difference: str = ""  # to the paper, or both ratios to DEAL's time
    interval: str = ""
    images: str = ""
    verdict: str = ""  # empty where the paper has no value
    rank: int | None = None
    partial: bool = False
    reason: str = ""  # why there is no value, or what is special about it

    @property
    def sign(self) -> str:
        return VERDICTS[self.verdict][0] if self.verdict else ""

    @property
    def hover(self) -> str:
        """What a pointer over the cell shows."""
        parts = [f"paper {self.paper}" if self.paper else "", f"95 % interval {self.interval}" if self.interval else ""]
        parts += [f"{self.images} images" if self.images else "", self.verdict, self.reason]
        return "; ".join(part for part in parts if part)


@dataclass
class Row:
    """A method; `ours` is False for one of the paper's that the configuration does not name."""

    label: str
    cells: list[Shown]
    oracle: bool = False
    ours: bool = True
    left: list[str] = field(default_factory=list)  # texts before the cells, as `TableView.left`
    right: list[str] = field(default_factory=list)


@dataclass
class Converged:
    """Of one method in one setting: how many reconstructions met the stopping rule, of those that say."""

    label: str
    place: str
    met: int
    said: int
    iterations: str


@dataclass
class TableView:
    """Everything that a template needs of one table; with `absent`, the reason why it was not made, and no more."""

    name: str
    title: str
    absent: str = ""
    unit: str = "dB"
    tolerance: float | None = None
    columns: list[Mapping[str, Any]] = field(default_factory=list)
    rows_are: str = "Method"
    left: list[str] = field(default_factory=list)  # headings of further columns, before the numbers and after
    right: list[str] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    comparison: list[dict[str, str]] = field(default_factory=list)
    converged: list[Converged] = field(default_factory=list)
    provenance: Mapping[str, list[Any]] = field(default_factory=dict)
    inputs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def timed(self) -> bool:
        return self.unit == "s"

    @property
    def groups(self) -> list[tuple[str, int]]:
        """Headings over neighbouring columns, and how many columns each spans."""
        return [(group, len(list(run))) for group, run in groupby(column["group"] for column in self.columns)]

    @property
    def reasons(self) -> list[str]:
        """Why cells are empty, row by row, each once; the position is the footnote's number."""
        cells = (cell for row in self.rows for cell in row.cells)
        return list(dict.fromkeys(cell.reason for cell in cells if cell.reason and not cell.value))

    @property
    def all_reasons(self) -> list[str]:
        """The same, then what else is said of values of the paper."""
        return list(dict.fromkeys([*self.reasons, *(row["reason"] for row in self.comparison if row["reason"])]))

    @property
    def counts(self) -> dict[str, int]:
        """Verdict → how many of the paper's values have it, in the order of VERDICTS, none left out."""
        found = Counter(row["verdict"] for row in self.comparison)
        return {verdict: found[verdict] for verdict in VERDICTS}

    @property
    def measured(self) -> int:
        """Cells with a number of ours."""
        return sum(bool(cell.value) for row in self.rows for cell in row.cells)


def folder_of(results: Path) -> Path:
    """Where tables lie: in `tables` of a results folder, in a published folder itself."""
    return results / "tables" if (results / "tables").is_dir() else results


def read(results: Path, names: Mapping[str, str]) -> list[TableView]:
    """The tables `names` (name → caption), each with an `absent` where its files are not there.

    Raises a UserError for files that are incomplete or of another version.
    """
    return [_read(folder_of(results), name, caption) for name, caption in names.items()]


def _read(folder: Path, name: str, caption: str) -> TableView:
    sidecar = folder / f"{name}.json"
    if not sidecar.is_file():
        title = f"Table {name.removeprefix('table')}. {caption}"
        return TableView(name, title, f"Not made: {sidecar} is not there. To make it: snakemake {name}")
    table, layout = _laid_out(sidecar)
    values, comparison, per_image = (_rows(folder / f"{name}{end}.csv") for end in ("", "_vs_paper", "_per_image"))
    labels = {method["name"]: method["label"] for method in layout["methods"]}
    table.comparison = [_compared(row, table) for row in comparison]
    table.rows = _methods(table, layout, values)
    table.converged = [] if table.timed else list(_converged(per_image, labels, table.columns))
    return table


def ablations(results: Path) -> list[TableView]:
    """The table of ablations, none where it was not made: the paper has no numbers to compare it with."""
    folder = folder_of(results)
    sidecar = folder / f"{ABLATIONS}.json"
    if not sidecar.is_file():
        return []
    table, layout = _laid_out(sidecar)
    values, per_image = (_rows(folder / f"{ABLATIONS}{end}.csv") for end in ("", "_per_image"))
    try:
        table.rows = _methods(table, layout, _ablated(table, values, per_image))
        for number, row in enumerate(table.rows):
            row.left, row.right = ([texts[number] for texts in layout[key].values()] for key in ("left", "right"))
    except (KeyError, IndexError, ValueError):
        raise UserError(f"{sidecar}: not of the table beside it; make it again: `snakemake {ABLATIONS}`") from None
    table.rows_are, table.left, table.right = "Variant", list(layout["left"]), list(layout["right"])
    return [table]


def _ablated(
    table: TableView, values: Iterable[Mapping[str, str]], per_image: Iterable[Mapping[str, str]]
) -> Iterable[dict[str, str]]:
    """A line a cell, as the other tables have it, of a line a variant."""
    images = Counter((row["variant"], row["setting"]) for row in per_image)
    for row in values:
        for column in table.columns:
            task, setting, variant = column["task"], column["setting"], row["variant"]
            psnr, found = row[f"psnr_{setting}"], table.inputs.get(f"{task}/{setting}/{variant}.csv", {})
            cell = {"task": task, "setting": setting, "method": variant, "images": str(images[variant, setting])}
            cell["missing"] = "" if psnr else found.get("missing") or NOT_EVALUATED
            yield cell | {"psnr": psnr, "psnr_low": "", "psnr_high": ""}


def _laid_out(sidecar: Path) -> tuple[TableView, Mapping[str, Any]]:
    """A table without its rows, and its layout."""
    name = sidecar.stem
    try:
        about = json.loads(sidecar.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{sidecar}: {error}; make the table again: `snakemake {name}`") from None
    if "layout" not in about:
        raise UserError(f"{sidecar}: says nothing of the table's layout; make the table again: `snakemake {name}`")
    layout = about["layout"]
    table = TableView(name, layout["title"], columns=layout["columns"], notes=layout["notes"])
    table.tolerance = layout.get("tolerance")
    table.unit = "dB" if "tolerance" in layout else "s"
    table.provenance, table.inputs = about["provenance"], about["inputs"]
    return table, layout


def _rows(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        raise UserError(f"{path}: no such file; make the table again")
    with path.open(newline="", encoding="utf-8") as handle:
        return list(csv.DictReader(handle))


def _methods(table: TableView, layout: Mapping[str, Any], values: Iterable[Mapping[str, str]]) -> list[Row]:
    """Our methods in the table's order, then those of the paper that were not run."""
    ours = {(row["task"], row["setting"], row.get("image") or None, row["method"]): row for row in values}
    papers = {(row["label"], row["setting"]): row for row in table.comparison}
    rows = []
    for method in layout["methods"]:
        cells, (ranks, partial) = [], (layout.get(key, {}).get(method["name"]) for key in ("rank", "partial"))
        for n, column in enumerate(table.columns):
            row = ours[column["task"], column["setting"], column.get("image"), method["name"]]
            cell = _cell(row, papers.get((method["label"], column["paper"]), {}), table.timed)
            cell.rank, cell.partial = ranks[n] if ranks else None, bool(partial and partial[n])
            cells.append(cell)
        rows.append(Row(method["label"], cells, oracle=method.get("oracle", False)))
    rows.sort(key=lambda row: row.oracle)
    known, settings = {row.label for row in rows}, [column["paper"] for column in table.columns]
    others = dict.fromkeys(row["label"] for row in table.comparison if row["label"] not in known)
    first_oracle = next((n for n, row in enumerate(rows) if row.oracle), len(rows))
    absent = [Row(label, [_paper_only(papers.get((label, s))) for s in settings], ours=False) for label in others]
    absent = [row for row in absent if any(cell.reason for cell in row.cells)]
    return rows[:first_oracle] + absent + rows[first_oracle:]


def _cell(row: Mapping[str, str], compared: Mapping[str, str], timed: bool) -> Shown:
    cell = Shown(paper=compared.get("paper", ""), verdict=compared.get("verdict", ""), reason=row["missing"])
    if row["missing"]:
        return cell
    cell.images, cell.reason = row["images"], compared.get("reason", "")
    cell.difference, cell.interval = compared.get("difference_shown", ""), compared.get("interval", "")
    if timed:
        cell.value, low, high = (seconds(row[key]) for key in ("median_s", "low_s", "high_s"))
        cell.detail = f"{low}–{high}"
    else:
        cell.value = decibels(row["psnr"])
        cell.interval = cell.interval or span(row["psnr_low"], row["psnr_high"])
    return cell


def _paper_only(compared: Mapping[str, str] | None) -> Shown:
    """The paper's value in a row of which we have nothing."""
    return Shown(paper=compared["paper"], verdict="missing", reason=compared["reason"]) if compared else Shown()


def _compared(row: dict[str, str], table: TableView) -> dict[str, str]:
    """A line of the comparison, with what is shown of it: place, ours_shown, difference_shown, interval."""
    places = {column["paper"]: f"{column['group']}, {column['label']}" for column in table.columns}
    row = {**row, "place": places.get(row["setting"], row["setting"]), "difference_shown": "", "interval": ""}
    if row["setting"] not in places and row["reason"] != ABSENT:
        row["reason"] = NO_COLUMN  # one reason for all of them
    if table.timed:
        row["ours_shown"] = seconds(row["ours"])
        if row["our_ratio"]:
            row["difference_shown"] = f"×{float(row['our_ratio']):.3g} of DEAL, paper ×{float(row['paper_ratio']):.3g}"
    else:
        row["ours_shown"] = decibels(row["ours"])
        if row["difference"]:
            row["difference_shown"] = f"{float(row['difference']):+.{DIGITS}f}".replace("-", "−")
        row["interval"] = span(row["low"], row["high"])
    return row


def _converged(
    rows: Iterable[Mapping[str, str]], labels: Mapping[str, str], columns: Iterable[Mapping[str, Any]]
) -> Iterable[Converged]:
    """Counts for each method and setting whose rows say whether they converged."""
    single = {
        (c["task"], c["setting"]): c["group"] if c.get("image") else f"{c['group']}, {c['label']}" for c in columns
    }
    said: dict[tuple[str, str, str], list[Mapping[str, str]]] = {}
    for row in rows:
        if row["converged"]:
            said.setdefault((row["method"], row["task"], row["setting"]), []).append(row)
    for (method, task, setting), found in sorted(said.items(), key=lambda item: list(labels).index(item[0][0])):
        counts = [int(row["iterations"]) for row in found if row["iterations"]]
        shown = f"{median(counts):g} ({min(counts)}–{max(counts)})" if counts else ""
        met = sum(row["converged"] == "true" for row in found)
        yield Converged(labels[method], single.get((task, setting), setting), met, len(found), shown)


def decibels(text: str) -> str:
    """A PSNR with two decimals; empty stays empty."""
    return f"{float(text):.{DIGITS}f}".replace("inf", "∞") if text else ""


def seconds(text: str) -> str:
    """A time with three digits that count; empty stays empty."""
    return three_digits(float(text)) if text else ""


def span(low: str, high: str) -> str:
    """The bounds of an interval; empty where there is none or it is a point."""
    return f"{decibels(low)} … {decibels(high)}" if low and high and float(low) < float(high) else ""
