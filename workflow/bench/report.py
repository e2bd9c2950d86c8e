"""One page with everything a run has made: it opens offline, on a phone and on paper. It reads results; no torch.

Its contents come from files alone: tables and figures with their JSON, the sidecars behind them, the times of the jobs,
the resolved configuration, the graph of rules. The templates lie in `workflow/report`.
"""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

import jinja2
import yaml

from bench import report_record, report_tables, rulegraph
from bench.errors import UserError
from bench.files import write_text
from bench.report_record import Fact, duration
from bench.report_tables import VERDICTS, TableView

TEMPLATES = Path(__file__).parents[1] / "report"
PAPER = "https://proceedings.mlr.press/v267/pourya25a.html"
LONG_URL = 60  # characters
WEIGHTS = {
    "train": "trained by this run",
    "released": "shipped with this package (deal/released/README.md says how they were trained)",
    "official": "the authors', downloaded",
}


@dataclass
class Missing:
    """A reason, and the cells of ours that are empty for it: table title → places."""

    reason: str
    places: dict[str, list[str]] = field(default_factory=dict)

    @property
    def cells(self) -> int:
        return sum(len(places) for places in self.places.values())


def write(
    results: str | os.PathLike[str],
    output: str | os.PathLike[str],
    names: Mapping[str, str],
    figures: Sequence[str | os.PathLike[str]] | None = None,
) -> Path:
    """Write the page about the folder `results` (one of a run, or a published one) to `output`, atomically.

    Args:
        names: the configuration's tables, name → caption, in the order of the page.
        figures: the figures' JSON or PNG files; None: all that the folder holds.

    Raises:
        UserError: there is no table at all, or a file is not what it should be.
    """
    folder = Path(results)
    tables = report_tables.read(folder, names)
    if all(table.absent for table in tables):
        raise UserError(f"{report_tables.folder_of(folder)}: no tables; make them first, e.g. `snakemake table1`")
    ablations = report_tables.ablations(folder)
    write_text(output, render(folder, tables, ablations, None if figures is None else [Path(path) for path in figures]))
    return Path(output)


def render(
    folder: Path,
    tables: Sequence[TableView],
    ablations: Sequence[TableView] = (),
    figures: Sequence[Path] | None = None,
) -> str:
    """The page as HTML text; equal files, equal text. `ablations` are shown too, and not counted."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"duration": duration, "short_urls": short_urls}
    made = [table for table in tables if not table.absent]
    facts = report_record.provenance(made, report_record.sidecars(folder, made))
    shown = [*made, *ablations]
    config_text = _text(folder / "config.resolved.yaml")
    return environment.get_template("report.html.j2").render(
        css=_text(TEMPLATES / "report.css"),
        script=_text(TEMPLATES / "report.js"),
        paper=PAPER,
        verdicts=VERDICTS,
        tables=list(tables),
        ablations=list(ablations),
        made=made,
        counts=total_counts(made),
        missing=missing(shown),
        met=sum(found.met for table in made for found in table.converged),
        said=sum(found.said for table in made for found in table.converged),
        lead=lead(made, facts, yaml.safe_load(config_text) or {}),
        figures=report_record.figures(report_record.figure_files(folder) if figures is None else figures),
        steps=report_record.steps(folder),
        graph=_graph(folder),
        facts=report_record.provenance(shown, report_record.sidecars(folder, shown)),
        config_text=config_text,
        inputs=[(table.title, name, entry) for table in shown for name, entry in table.inputs.items()],
    )


def total_counts(tables: Sequence[TableView]) -> dict[str, int]:
    """Verdict → values of the paper in all tables."""
    return {verdict: sum(table.counts[verdict] for table in tables) for verdict in VERDICTS}


def missing(tables: Sequence[TableView]) -> list[Missing]:
    """Why cells are empty, reasons with the most cells first."""
    found: dict[str, Missing] = {}
    for table in tables:
        for row in table.rows:
            for column, cell in zip(table.columns, row.cells, strict=True):
                if cell.reason and not cell.value:
                    entry = found.setdefault(cell.reason, Missing(cell.reason))
                    place = f"{row.label} ({column['group']}, {column['label']})"
                    entry.places.setdefault(table.title, []).append(place)
    return sorted(found.values(), key=lambda entry: -entry.cells)


def lead(tables: Sequence[TableView], facts: Sequence[Fact], config: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What was run, with which weights, on which data and machine: (what, text)."""
    known = {fact.name: [shown for shown, _ in fact.values] for fact in facts}
    shown = [row for table in tables for row in table.rows if not row.oracle and any(cell.value for cell in row.cells)]
    methods = dict.fromkeys(row.label for row in shown)
    deal = [text for text in known.get("Weights", []) if " deal_" in text]
    chosen = config.get("weights")
    source = WEIGHTS.get(chosen, f"from {chosen}") if chosen else ""
    extent = f"the first {config['subset']} images of every task" if config.get("subset") else ""
    return [
        (what, text)
        for what, text in (
            ("Methods", ", ".join(methods)),
            ("Weights of DEAL", "; ".join(part for part in (source, ", ".join(deal)) if part)),
            ("Data", ", ".join(text.partition(" ")[2] for text in known.get("Data", []))),
            ("Extent", extent),
            ("Hyperparameters", _chosen(config)),
            ("Machine", ", ".join(known.get("Device", []))),
            ("Code", ", ".join([*known.get("Version", []), *_few(known.get("Commit", []), "commits")])),
            ("When", "; ".join(known.get("Reconstructed", []))),
        )
        if text
    ]


def _chosen(config: Mapping[str, Any]) -> str:
    """Which tasks' hyperparameters are tuned and which are the paper's."""
    default, found = config.get("hyperparameters", ""), {}
    for task, section in config.get("tasks", {}).items():
        found.setdefault(section.get("hyperparameters") or default, []).append(task)
    if len(found) < 2:
        return "".join(found) or default
    return "; ".join(f"{how}: {', '.join(tasks)}" for how, tasks in found.items())


def _few(texts: Sequence[str], what: str) -> list[str]:
    """At most two texts, else how many there are."""
    return list(texts) if len(texts) <= 2 else [f"{len(texts)} {what} (see the provenance)"]


def short_urls(text: str) -> str:
    """`text` as HTML, long addresses without their middle; the whole one is in the element's title."""

    def shorten(found: re.Match[str]) -> str:
        host, name = found[1], found[0].rpartition("/")[2]
        return f'<span class="url" title="{found[0]}">{host}/…/{name}</span>' if len(found[0]) > LONG_URL else found[0]

    return re.sub(r"(https?://[^\s/]+)/[^\s:]*[^\s:.,;)]", shorten, escape(text))


def _graph(folder: Path) -> str:
    dot = report_record.dot(folder)
    try:
        return rulegraph.draw(dot) if dot else ""
    except ValueError as error:
        raise UserError(f"{folder / 'rulegraph.dot'}: {error}") from None


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""
