"""From results to a table and its comparison with the paper. No clock enters: equal results, equal bytes."""

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from bench import per_image
from bench.cells import Cell, Column, Method, Table, make_cell, rank
from bench.config import STORED_NOISE
from bench.render import render_markdown, write
from bench.results import Key, Result
from bench.stats import verdict

__all__ = ["build", "paper_values", "render_markdown", "write"]

PAPER_VALUES = Path(__file__).parents[1] / "data" / "paper_values.csv"
ABSENT = "not in config.yaml's methods"
PAPERS_SEED = "0"
CHOSEN = {
    True: "Hyperparameters chosen on validation images",
    False: "Hyperparameters not tuned, but the paper's, or where it has none the method's starting point",
}


def paper_values(table: str) -> list[dict[str, str]]:
    """The paper's numbers in `table`, as text: table, method, setting, metric, value, unit."""
    with PAPER_VALUES.open(newline="", encoding="utf-8") as handle:
        return [row for row in csv.DictReader(handle) if row["table"] == table]


def build(layout: Mapping[str, Any], results: Mapping[Key, Result]) -> Table:
    """The table that `layout` (see bench/layouts.py) asks for; results that it does not show are ignored."""
    columns = [Column(**column) for column in layout["columns"]]
    methods = [
        Method(
            **{**m, "tasks": m.get("tasks") and tuple(m["tasks"])}
            | {"tunes": tuple(m.get("tunes", ())), "remarks": tuple(map(tuple, m.get("remarks", ())))}
        )
        for m in layout["methods"]
    ]
    methods.sort(key=lambda method: method.oracle)  # stable
    cells = {(m, column): make_cell(column, m, results) for column in columns for m in methods}
    for column in columns:
        rank(column, {m: cells[m, column] for m in methods})
    head = (layout[key] for key in ("table", "caption", "convention", "tolerance"))
    table = Table(*head, columns, methods, cells)
    table.comparison = [_compared(table, value) for value in paper_values(table.name)]
    table.notes = _notes(table) + _disagreements(table)
    table.per_image = per_image.notes(table)
    return table


def _compared(table: Table, value: Mapping[str, str]) -> dict[str, Any]:
    """A value of the paper, and ours where there is one."""
    method = next((m for m in table.methods if m.paper == value["method"]), None)
    column = next((c for c in table.columns if c.paper == value["setting"]), None)
    record = {**value, "paper": value["value"], "label": method.label if method else value["method"]}
    record |= {"tolerance": table.tolerance, "verdict": "missing"}
    if method is None or column is None:
        return record | {"reason": f"no column for {value['setting']}" if method else ABSENT}
    cell = table.cells[method, column]
    record |= {"images": cell.psnr.images, "images_expected": column.images_expected}
    if reason := cell.missing or _foreign(cell, column):
        return record | {"reason": reason}
    paper, ours = float(value["value"]), cell.psnr.mean
    record |= {"ours": ours, "difference": ours - paper, "low": cell.psnr.low, "high": cell.psnr.high}
    if cell.partial:  # other images alone move a mean by more than the tolerance
        return record | {"verdict": "subset", "reason": f"subset: {_extent(cell, column)}"}
    remarks = [text for task, text in method.remarks if task == column.task]
    if (seed := cell.result.rows[0]["seed"]) not in (PAPERS_SEED, STORED_NOISE):
        remarks.append(f"another draw of the noise than the paper's, seed {seed}")
    return record | {"verdict": verdict(paper, ours, table.tolerance), "reason": "; ".join(remarks)}


def foreign(found: str, expected: str) -> str:
    """Why what was measured on the data `found` has nothing to do with the paper's, if so."""
    return "" if found == expected else f"measured on {found}, not on the paper's {expected}"


def cautions(found: Iterable[tuple[str, str]]) -> list[str]:
    """A note for each pair of a heading and a reason of `foreign`, where there is one."""
    return [f"Caution: {group} was {why}; it is not compared." for group, why in dict.fromkeys(found) if why]


def _foreign(cell: Cell, column: Column) -> str:
    return foreign(cell.result.rows[0]["dataset"], column.dataset)


def _extent(cell: Cell, column: Column) -> str:
    """What a partial cell is a mean over."""
    if column.images_expected in (None, cell.psnr.images):
        return f"{cell.psnr.images} images, not those of the other methods"
    return f"{cell.psnr.images} of {column.images_expected} images"


def _notes(table: Table) -> list[str]:
    """How many images, which noise, and what keeps numbers from being compared."""
    cells = [(column, m.label, cell) for column, m, cell in table.items() if not cell.missing]
    if not cells:
        return []
    counts = _grouped((column.group, str(cell.psnr.images)) for column, _, cell in cells)
    images = "Images: " + ", ".join(f"{group} {' or '.join(found)}" for group, found in counts.items()) + "."
    if all(column.image for column, _, _ in cells):
        images = "One image a column."
    labels = _grouped((cell.result.rows[0]["seed"], label) for _, label, cell in cells)
    seeds = _grouped((column, cell.result.rows[0]["seed"]) for column, _, cell in cells)
    if list(labels) == [STORED_NOISE]:
        notes = [f"{images} The noise is that of the data, the same for every method."]
    elif all(len(found) == 1 for found in seeds.values()):
        notes = [f"{images} Noise seed {' or '.join(labels)}, the same for every method."]
    else:
        listed = "; ".join(f"seed {seed}: {', '.join(found)}" for seed, found in labels.items())
        notes = [images, f"Caution: the methods saw different noise, {listed}."]
    chosen = _grouped((column.tuned, m.label) for column, m, cell in table.items()
                      if not cell.missing and column.task in m.tunes)  # fmt: skip
    notes += [f"{CHOSEN[tuned]}: {', '.join(found)}." for tuned, found in chosen.items()]
    partial = _grouped(((c.group, _extent(cell, c)), label) for c, label, cell in cells if cell.partial)
    for (group, extent), found in partial.items():
        everybody = {label for column, label, _ in cells if column.group == group} == set(found)
        notes.append(f"‡ {group}: {extent}" + ("." if everybody else f" ({', '.join(found)})."))
    return notes + cautions((c.group, _foreign(cell, c)) for c, _, cell in cells)


def _disagreements(table: Table) -> list[str]:
    """A line for everything that should be one and the same behind all numbers and is not."""
    facts = []
    for method, cell in ((method, cell) for _, method, cell in table.items() if not cell.missing):
        code, data, weights = (cell.result.sidecar[key] for key in ("code", "data", "weights"))
        # the digest covers what a method imports, so that methods rightly differ and settings do not
        facts.append((f"versions of the code of {method.label}", code["digest"]))
        facts.append((f"versions of the data set {data['dataset']}", data["digest"]))
        facts += [(f"files of the weights {name}", digest) for name, digest in weights.items()]
    several = {what: len(found) for what, found in _grouped(facts).items() if len(found) > 1}
    return [f"Caution: the numbers come from {count} {what}." for what, count in several.items()]


def _grouped(pairs: Iterable[tuple[Any, Any]]) -> dict[Any, list[Any]]:
    """The distinct seconds of each first, both in order of appearance."""
    found: dict[Any, dict[Any, None]] = {}
    for first, second in pairs:
        found.setdefault(first, {})[second] = None
    return {first: list(seconds) for first, seconds in found.items()}
