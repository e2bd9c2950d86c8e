"""The table of ablations: a row a variant, with its size, its PSNR, and how its solver fared.

A variant's folder, `<results>/ablations/<variant>`, is laid out as the results folder itself; its evaluations are those
of Table 1's method `deal`. Here they get the variant's name in the method's place.
"""

import itertools
import json
import os
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from bench import layouts, registry, tables
from bench.cells import Method, Table
from bench.config import Architecture, Config
from bench.files import write_text
from bench.render import render_latex, render_markdown, render_sidecar
from bench.results import TIMELESS, Key, Result, to_csv

CHANNELS = (1, 4, 8)
"""Of W and of W_mask, the last layer's aside, as in `deal.model.LAYERS`."""
HEAD = ["variant", "filters", "kernel_size", "splines", "parameters"]
TAIL = ["updates_median", "updates_least", "updates_most", "converged", "reconstructions", "missing"]


def parameters(architecture: Architecture) -> int:
    """Learned numbers of a gray model: W and W_mask, M2 and M3, φ1 to φ3, κ and the noise scaling."""
    count, size = architecture.filters, architecture.kernel_size
    block = size**2 * sum(a * b for a, b in itertools.pairwise((*CHANNELS, count)))
    return 2 * block + 2 * 9 * count**2 + 3 * 31 + 53 + 14 * count


def build(config: Config) -> Table:
    """The table from what has been evaluated; cells without an evaluation say what is missing."""
    results = {key: _read(config, key, path) for key, path in layouts.ablation_results(config).items()}
    table = tables.build(layouts.ablations(config), {key: found for key, found in results.items() if found})
    built = [config.ablations.variants[method.name] for method in table.methods]
    table.rows_are = "Variant"
    table.left = {
        "N_C": [str(each.filters) for each in built],
        "Kernel size": [str(each.kernel_size) for each in built],
        "φ1, φ2": ["non-decreasing" if each.non_decreasing else "free" for each in built],
        "Parameters": [str(parameters(each)) for each in built],
    }
    solved = [_solved(table, method) for method in table.methods]
    table.right = {
        "Mask updates": ["{updates_median} ({updates_least}–{updates_most})".format(**s) if s else "–" for s in solved],
        "Converged": ["{converged} of {reconstructions}".format(**s) if s else "–" for s in solved],
    }
    table.notes += _notes(config, [each == Architecture() for each in built])
    return table


def write(table: Table, results_dir: str | os.PathLike[str]) -> None:
    """Write all forms of the table into `<results_dir>/tables`, each atomically."""
    for suffix, render in RENDERERS.items():
        write_text(Path(results_dir, "tables", table.name + suffix), render(table))


def render_csv(table: Table) -> str:
    """A line a variant; four decimals, empty where missing."""
    rows = []
    for number, method in enumerate(table.methods):
        texts = [texts[number] for texts in table.left.values()]
        row: dict[str, Any] = dict(zip(HEAD, (method.label, *texts), strict=True))
        cells = dict(zip(table.columns, table.row(method), strict=True))
        row |= {f"psnr_{column.setting}": f"{cell.psnr.mean:.6f}" for column, cell in cells.items() if not cell.missing}
        row["missing"] = "; ".join(dict.fromkeys(cell.missing for cell in cells.values() if cell.missing))
        rows.append(row | (_solved(table, method) or {}))
    return to_csv([*HEAD, *(f"psnr_{column.setting}" for column in table.columns), *TAIL], rows)


def render_per_image(table: Table) -> str:
    """The rows behind the table, without their timing."""
    rows = ({**row, "variant": result.key[2]} for result in table.results for row in result.rows)
    return to_csv(["variant", *TIMELESS], rows)


RENDERERS = {
    ".csv": render_csv,
    "_per_image.csv": render_per_image,
    ".md": render_markdown,
    ".tex": render_latex,
    ".json": render_sidecar,
}


def _read(config: Config, key: Key, path: Path) -> Result | None:
    """One evaluation under its variant's name, or why there is none; None: it only has not been made yet."""
    if not path.is_file():
        weights = registry.trained(config.ablated(key[2]), "gray")
        return None if weights.is_file() else Result(key, [], f"not trained: there is no {weights}", {})
    (found,) = Result.read([path]).values()
    weights = {f"{name} of {key[2]}": digest for name, digest in found.sidecar["weights"].items()}
    return replace(found, key=key, sidecar={**found.sidecar, "weights": weights})


def _solved(table: Table, method: Method) -> dict[str, Any] | None:
    """How the solver fared over all images and noise levels."""
    rows = [row for cell in table.row(method) if cell.result for row in cell.result.rows]
    updates = [int(row["iterations"]) for row in rows]
    if not rows:
        return None
    return {
        "updates_median": f"{median(updates):g}",
        "updates_least": min(updates),
        "updates_most": max(updates),
        "converged": sum(row["converged"] == "true" for row in rows),
        "reconstructions": len(rows),
    }


def _notes(config: Config, published: list[bool]) -> list[str]:
    """What the last columns count, which row is the published model, and how the variants were trained."""
    notes = [
        "Mask updates: median (least–most) over all images and noise levels; converged: those that met the tolerance."
    ]
    if same := [name for name, is_it in zip(config.ablations.names, published, strict=True) if is_it]:
        notes.append(f"The published architecture: {', '.join(same)}.")
    schedules: dict[str, str] = {}
    for name in config.ablations.names:
        path = registry.trained(config.ablated(name), "gray").with_suffix(".json")
        if path.is_file():
            training = json.loads(path.read_text(encoding="utf-8"))["training"]
            training.pop("architecture", None)
            steps = sum(phase["steps"] for phase in training["phases"])
            words = f"{steps} steps from random weights, seed {training['seed']}"
            schedules.setdefault(json.dumps(training, sort_keys=True), words)
    if len(schedules) == 1:
        notes.append(f"All variants that are shown were trained by one schedule: {next(iter(schedules.values()))}.")
    elif schedules:
        notes.append(f"Caution: the variants were trained by {len(schedules)} different schedules.")
    return notes
