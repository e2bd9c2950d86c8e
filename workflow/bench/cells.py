"""What a table is made of: columns, methods, and for each pair a cell with its interval and its rank."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from bench.results import Key, Result
from bench.stats import Interval, mean_interval

DIGITS = 2  # of a PSNR as shown; ranks are those of the shown numbers
NOTHING = Interval(math.nan, math.nan, math.nan, 0)
NOT_EVALUATED = "not evaluated: there is no results file"


@dataclass(frozen=True)
class Column:
    """One column; `paper` is its name in paper_values.csv, whose images the last two fields describe."""

    task: str
    setting: str
    group: str
    label: str
    paper: str
    dataset: str
    images_expected: int | None
    image: str | None = None  # this image alone; None: all
    variants: bool = False  # rows `<image>_k0`, …: an image's value is the mean over them
    tuned: bool = False  # whether hyperparameters are chosen on validation images


@dataclass(frozen=True)
class Method:
    """One row; `paper` is its name in paper_values.csv. Oracles stand below the others, without a rank."""

    name: str
    label: str
    paper: str | None = None
    oracle: bool = False
    tasks: tuple[str, ...] | None = None  # None: all
    tunes: tuple[str, ...] = ()  # tasks for which it has hyperparameters
    remarks: tuple[tuple[str, str], ...] = ()  # task, why its rows are another experiment than the paper's


@dataclass
class Cell:
    """A mean PSNR over images, or the reason why there is none."""

    result: Result | None
    missing: str | None
    images: list[str] = field(default_factory=list)
    psnr: Interval = NOTHING
    ssim: float = math.nan
    partial: bool = False  # over other images than the column calls for
    rank: int | None = None  # 1 or 2, shared in a tie


@dataclass
class Table:
    """Everything that the renderers need."""

    name: str
    caption: str
    convention: str
    tolerance: float | None  # None: nothing in the paper to compare with
    columns: list[Column]
    methods: list[Method]  # oracles last
    cells: dict[tuple[Method, Column], Cell]
    comparison: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    per_image: list[str] = field(default_factory=list)  # notes on images one by one, for the comparison
    rows_are: str = "Method"
    left: dict[str, list[str]] = field(default_factory=dict)  # further columns: heading → a text for each method
    right: dict[str, list[str]] = field(default_factory=dict)  # the same, after the numbers

    @property
    def title(self) -> str:
        number = self.name.removeprefix("table")
        return f"Table {number}. {self.caption}" if number.isdigit() else self.caption

    def row(self, method: Method) -> list[Cell]:
        return [self.cells[method, column] for column in self.columns]

    def items(self) -> list[tuple[Column, Method, Cell]]:
        """All cells, column by column."""
        return [(column, m, self.cells[m, column]) for column in self.columns for m in self.methods]

    @property
    def reasons(self) -> list[str]:
        """Why cells are missing, row by row; the position is the footnote's number."""
        return list(dict.fromkeys(c.missing for m in self.methods for c in self.row(m) if c.missing))

    @property
    def results(self) -> list[Result]:
        """The results files behind the table, each once."""
        return list({cell.result.key: cell.result for _, _, cell in self.items() if cell.result}.values())


def make_cell(column: Column, method: Method, results: Mapping[Key, Result]) -> Cell:
    """The cell, not yet ranked."""
    result = results.get((column.task, column.setting, method.name))
    if result is None and method.tasks is not None and column.task not in method.tasks:
        return Cell(None, f"{method.label} does not serve the task {column.task}")
    if result is None or result.missing:
        return Cell(result, result.missing if result else NOT_EVALUATED)
    groups: dict[str, list[Mapping[str, str]]] = {}
    for row in result.rows:
        if column.image in (None, row["image"]):
            groups.setdefault(row["image"].rpartition("_k")[0] if column.variants else row["image"], []).append(row)
    if not groups:
        return Cell(result, f"image {column.image} is not among those evaluated")
    # An image's variants are averaged first: the interval is one over images.
    psnr, ssim = ([fmean(float(row[n]) for row in rows) for rows in groups.values()] for n in ("psnr", "ssim"))
    return Cell(result, None, list(groups), mean_interval(psnr), sum(ssim) / len(ssim))


def rank(column: Column, cells: Mapping[Method, Cell]) -> None:
    """Mark cells over a part of the images; rank those over the same, fullest set of them, oracles aside."""
    measured = {method: cell for method, cell in cells.items() if not cell.missing}
    sets = [cell.images for cell in measured.values()]
    fullest = max(sets, key=lambda images: (len(images), sets.count(images)), default=[])
    for cell in measured.values():
        cell.partial = cell.images != fullest or column.images_expected not in (None, len(fullest))
    ranked = [c for method, c in measured.items() if c.images == fullest and not method.oracle]
    best = sorted({round(cell.psnr.mean, DIGITS) for cell in ranked}, reverse=True)[:2]
    for cell in ranked if len(ranked) > 1 else []:
        shown = round(cell.psnr.mean, DIGITS)
        cell.rank = best.index(shown) + 1 if shown in best else None
