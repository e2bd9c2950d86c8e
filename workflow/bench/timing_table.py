"""The table of reconstruction times: read, refuse to mix machines, render. No torch; equal files, equal bytes.

A number is the median over all measured calls, its spread the quartiles; the mean over images, of each image's
median, stands beside the paper's, which is a mean. Times of two machines have no common verdict, ratios to DEAL do.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from statistics import fmean, median, quantiles
from typing import Any

from bench.errors import UserError
from bench.files import write_text
from bench.render import LATEX, PROVENANCE, TEX, bullets, footnotes, mark, pipe
from bench.results import Key, Saved, to_csv
from bench.tables import cautions, foreign, paper_values

COLUMNS = ["task", "setting", "dataset", "image", "method", "repeat", "seconds", "iterations"]
TABLE_COLUMNS = ["task", "setting", "method", "label", "images", "calls", "median_s", "low_s", "high_s", "mean_s"]
TABLE_COLUMNS += ["missing"]
COMPARISON_COLUMNS = ["table", "method", "label", "setting", "metric", "unit", "paper", "ours", "paper_ratio"]
COMPARISON_COLUMNS += ["our_ratio", "images", "verdict", "reason"]
REFERENCE = "deal"  # ratios are to its time
NOT_TIMED = "not measured: there is no file of times"


class Timing(Saved):
    """The file of a measurement."""

    columns = COLUMNS

    @property
    def seconds(self) -> list[float]:
        return [float(row["seconds"]) for row in self.rows]

    @property
    def images(self) -> int:
        return len({row["image"] for row in self.rows})

    @property
    def spread(self) -> tuple[float, float]:
        """Quartiles over all calls; of one call, that call."""
        values = self.seconds
        if len(values) < 2:
            return values[0], values[0]
        low, _, high = quantiles(values, n=4, method="inclusive")
        return low, high

    @property
    def mean(self) -> float:
        """Mean over images of the median over an image's calls."""
        by_image: dict[str, list[float]] = {}
        for row in self.rows:
            by_image.setdefault(row["image"], []).append(float(row["seconds"]))
        return fmean(median(values) for values in by_image.values())


@dataclass
class TimingTable:
    """Everything that the renderers need; columns and methods are mappings as `bench.layouts` makes them."""

    name: str
    caption: str
    columns: list[Mapping[str, Any]]
    methods: list[Mapping[str, Any]]
    timings: Mapping[Key, Timing]
    machine: Mapping[str, Any] | None
    comparison: list[dict[str, Any]] = field(default_factory=list)

    @property
    def title(self) -> str:
        return f"Table {self.name.removeprefix('table')}. {self.caption}"

    def timing(self, method: Mapping[str, Any], column: Mapping[str, Any]) -> Timing | None:
        """What was measured, None where nothing was."""
        found = self.timings.get((column["task"], column["setting"], method["name"]))
        return found if found and not found.missing else None

    def missing(self, method: Mapping[str, Any], column: Mapping[str, Any]) -> str | None:
        """Why there is no time."""
        found = self.timings.get((column["task"], column["setting"], method["name"]))
        if found:
            return found.missing
        serves = method.get("tasks") is None or column["task"] in method["tasks"]
        return NOT_TIMED if serves else f"{method['label']} does not serve the task {column['task']}"

    @property
    def reasons(self) -> list[str]:
        """Why cells are empty, row by row; the position is the footnote's number."""
        cells = [self.missing(m, c) for m in self.methods for c in self.columns]
        return list(dict.fromkeys(reason for reason in cells if reason))


def one_machine(timings: Mapping[Key, Timing]) -> Mapping[str, Any] | None:
    """The machine that all times were measured on, None without any; a UserError where there are two."""
    measured = [timing for timing in timings.values() if timing.rows]
    for timing in measured[1:]:
        first, here = measured[0].sidecar["machine"], timing.sidecar["machine"]
        for key in first:
            if first[key] != here.get(key):
                names = ["/".join(t.key) for t in (measured[0], timing)]
                raise UserError(
                    f"times of two machines are not comparable: {key} is {first[key]} for {names[0]} and "
                    f"{here.get(key)} for {names[1]}; delete the times of one and measure them again"
                )
    return measured[0].sidecar["machine"] if measured else None


def build(layout: Mapping[str, Any], timings: Mapping[Key, Timing]) -> TimingTable:
    """The table that `layout` asks for, with the paper's values beside it."""
    head = (layout["table"], layout["caption"], layout["columns"], layout["methods"])
    table = TimingTable(*head, timings, one_machine(timings))
    papers = {(row["method"], row["setting"]): float(row["value"]) for row in paper_values(table.name)}
    reference = next((m for m in table.methods if m["name"] == REFERENCE), None)
    for value in paper_values(table.name):
        method = next((m for m in table.methods if m["paper"] == value["method"]), None)
        column = next((c for c in table.columns if c["paper"] == value["setting"]), None)
        row = {**value, "paper": value["value"], "label": method["label"] if method else value["method"]}
        base = papers.get((reference["paper"], value["setting"])) if reference else None
        row |= {"verdict": "missing", "paper_ratio": float(value["value"]) / base if base else None}
        found = table.timing(method, column) if method and column else None
        if found is None:
            absent = table.missing(method, column) if method and column else None
            row["reason"] = absent or ("not in config.yaml's methods" if column else "no such column")
        elif reason := foreign(found.rows[0]["dataset"], column["dataset"]):
            row["reason"] = reason
        else:
            ours = table.timing(reference, column) if reference else None
            row |= {"ours": found.mean, "our_ratio": found.mean / ours.mean if ours else None, "images": found.images}
            row |= {"verdict": "other hardware", "reason": ""}
        table.comparison.append(row)
    return table


def hardware(machine: Mapping[str, Any] | None) -> str:
    """One line about the machine."""
    if machine is None:
        return "nothing was measured"
    where = machine["device"]
    if machine["driver"]:
        where += f" (driver {machine['driver']}), host {machine['processor']}"
    return f"{where}, {machine['threads']} of {machine['cores']} threads, torch {machine['torch']}"


def write(table: TimingTable, results_dir: str) -> None:
    """Write all forms of the table into `<results_dir>/tables`, each atomically."""
    for suffix, render in RENDERERS.items():
        write_text(Path(results_dir, "tables", table.name + suffix), render(table))


def render_csv(table: TimingTable) -> str:
    """One line a cell."""
    rows = []
    for column in table.columns:
        for method in table.methods:
            row = {"task": column["task"], "setting": column["setting"], "method": method["name"]}
            row |= {"label": method["label"], "missing": table.missing(method, column)}
            if found := table.timing(method, column):
                low, high = found.spread
                row |= {"images": found.images, "calls": len(found.rows), "missing": None}
                row |= {"median_s": f"{median(found.seconds):.6f}", "mean_s": f"{found.mean:.6f}"}
                row |= {"low_s": f"{low:.6f}", "high_s": f"{high:.6f}"}
            rows.append(row)
    return to_csv(TABLE_COLUMNS, rows)


def render_calls(table: TimingTable) -> str:
    """Every measured call."""
    shown = [table.timing(m, c) for c in table.columns for m in table.methods]
    return to_csv(COLUMNS, (row for found in shown if found for row in found.rows))


def render_markdown(table: TimingTable) -> str:
    """GitHub Markdown: median and quartiles in seconds."""
    groups = [(group, len(list(run))) for group, run in groupby(c["group"] for c in table.columns)]
    headers = [text for group, width in groups for text in (group, *[""] * (width - 1))]
    body = [["Method", *(column["label"] for column in table.columns)], *_rows(table, {}, "%s")]
    grid = pipe(["", *headers], body, ["left"] + ["center"] * len(headers))
    return f"### {table.title}\n\n{grid}\n\n{bullets(_notes(table))}"


def render_latex(table: TimingTable) -> str:
    """A booktabs table, notes in small print below."""
    spans, rules, first = "", "", 2
    for group, run in groupby(column["group"] for column in table.columns):
        width = len(list(run))
        spans += rf" & \multicolumn{{{width}}}{{c}}{{{group.translate(TEX)}}}"
        rules += rf"\cmidrule(lr){{{first}-{first + width - 1}}}"
        first += width
    labels = [column["label"].translate(TEX) for column in table.columns]
    convention, *notes = (note.translate(TEX) for note in _notes(table))
    return LATEX.format(
        caption=f"{table.caption.translate(TEX)}. {convention}",
        name=table.name,
        **dict.fromkeys(("graphicx", "fit", "fitted"), ""),
        alignment="l" + "c" * len(table.columns),
        head=f"{spans} \\\\\n{rules}\nMethod & {' & '.join(labels)} \\\\",
        body="\n".join(rf"{' & '.join(row)} \\" for row in _rows(table, TEX, r"\rlap{%s}")),
        notes="\n\\par\n".join(notes),
    )


def render_comparison_csv(table: TimingTable) -> str:
    """Every value of the paper beside ours, and the ratios to DEAL."""
    keys = ("ours", "paper_ratio", "our_ratio")
    return to_csv(COMPARISON_COLUMNS, (row | {k: _number(row.get(k)) for k in keys} for row in table.comparison))


def render_comparison_markdown(table: TimingTable) -> str:
    """The comparison for reading."""
    places = {column["paper"]: f"{column['group']}, {column['label']}" for column in table.columns}
    reasons = list(dict.fromkeys(row["reason"] for row in table.comparison if row["reason"]))
    body = []
    for row in table.comparison:
        ours, ratios = three_digits(row.get("ours")), [three_digits(row.get(k)) for k in ("paper_ratio", "our_ratio")]
        line = [row["label"], places.get(row["setting"], row["setting"]), row["paper"], ours, *ratios]
        body.append([*line, row["verdict"] + mark(reasons, row["reason"])])
    head = ["Method", "Setting", "Paper (s)", "Ours (s)", "Paper: ratio to DEAL", "Ours", "Verdict"]
    grid = pipe(head, body, ["left", "left", "right", "right", "right", "right", "left"])
    notes = [
        f"Ours: {hardware(table.machine)}. Paper: Tesla V100-SXM2-32GB, including the metrics after every iteration.",
        "Both are means over images; ours of the median over an image's calls. Compare ratios, not seconds.",
        *footnotes(reasons),
    ]
    return f"### {table.title}: ours and the paper's\n\n{grid}\n\n{bullets(notes)}"


def render_sidecar(table: TimingTable) -> str:
    """JSON: how the table is laid out, its inputs, the machine, the distinct values of what the sidecars say."""
    layout = {"title": table.title, "columns": table.columns, "methods": table.methods}
    layout["notes"] = _notes(table)[: -len(table.reasons) or None]
    inputs = {"/".join(t.key) + ".csv": {"output": t.sidecar["output"]["sha256"], "missing": t.missing}
              for t in table.timings.values()}  # fmt: skip
    provenance = {}
    for key in (*PROVENANCE, "timing"):
        texts = {json.dumps(t.sidecar.get(key), sort_keys=True) for t in table.timings.values()}
        provenance[key] = [json.loads(text) for text in sorted(texts - {"null", "{}"})]
    value = {"table": table.name, "machine": table.machine, "inputs": inputs, "layout": layout}
    value["provenance"] = provenance
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def _rows(table: TimingTable, escape: Mapping[int, str], raised: str) -> list[list[str]]:
    """Label and cells of every method, `median (low–high)`."""
    rows = []
    for method in table.methods:
        row = [method["label"].translate(escape)]
        for column in table.columns:
            if found := table.timing(method, column):
                low, high = found.spread
                cell = f"{three_digits(median(found.seconds))} ({three_digits(low)}–{three_digits(high)})".translate(
                    escape
                )
            else:
                note = mark(table.reasons, table.missing(method, column)).translate(escape)
                cell = "–".translate(escape) + raised % note
            row.append(cell)
        rows.append(row)
    return rows


def _notes(table: TimingTable) -> list[str]:
    measured = [timing for timing in table.timings.values() if timing.rows]
    notes = [f"Seconds of one reconstruction, median (quartiles) over the measured calls. {hardware(table.machine)}."]
    for text in dict.fromkeys(json.dumps(timing.sidecar["timing"]) for timing in measured):
        limits = json.loads(text)
        counts = sorted({timing.images for timing in measured if timing.sidecar["timing"] == limits})
        images = f"{counts[0]} to {counts[-1]}" if len(counts) > 1 else str(counts[0])
        notes.append(
            f"Measured alone. Images: {images}; calls for each: {limits['repeats']}; unmeasured ones before, for each "
            f"new shape: {limits['warmup']}. The clock is read when the device is idle; loading, set-up and "
            "metrics are not in it."
        )
    for method in table.methods:
        found = [timing for timing in measured if timing.key[2] == method["name"]]
        told = {json.dumps(timing.sidecar.get("parameters") or {}, sort_keys=True) for timing in found}
        for text in sorted(told - {"{}"}):
            values = ", ".join(f"{key} {value}" for key, value in json.loads(text).items())
            notes.append(f"{method['label']}: {values}.")
    shown = [(c, found) for c in table.columns for m in table.methods if (found := table.timing(m, c))]
    notes += cautions((c["group"], foreign(found.rows[0]["dataset"], c["dataset"])) for c, found in shown)
    return notes + footnotes(table.reasons)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


def three_digits(value: float | None) -> str:
    """Three digits that count."""
    if value is None:
        return "–"
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    return f"{value:.{max(0, 2 - math.floor(math.log10(abs(value))))}f}"


RENDERERS = {
    ".csv": render_csv,
    "_per_image.csv": render_calls,
    ".tex": render_latex,
    ".md": render_markdown,
    "_vs_paper.csv": render_comparison_csv,
    "_vs_paper.md": render_comparison_markdown,
    ".json": render_sidecar,
}
"""As of the other tables, whose files have the same names."""
