"""What the figures show, computed and saved: one module a figure, found by its name.

A module `<name>.py` with a function `collect(config) -> (arrays, meta)` makes `results/figures/data/<name>.npz`. It
also holds, as literals that are read without importing it:

    PROBLEMS = {"denoising": "all"}  # sections of the key `figures` → whose weights it needs: "all" methods compared
                                     # in figures, or a list of names, ["deal"]
    MODELS = ("gray",)               # DEAL's models it needs beside those
    SECTIONS = ("robustness",)       # other sections of the key `figures` that it depends on
    TABLES = ("table1",)             # tables whose results it reads
    TRAININGS = ("gray",)            # trainings whose logs it reads
    FILES = ("tables/table1.csv",)   # files of the results folder that it reads
    OWN = {"brain": "all"}           # as PROBLEMS, but run on data that the section names in place of the task's
    TIMED = True                     # it measures seconds, so that nothing may run beside it

`arrays` are numpy arrays, `meta` is JSON: `facts` (name → text, for the caption's template), `images`, `settings`,
`weights` (name → sha256), `missing` (method's label → why it is not shown) and whatever the drawing needs.
The drawing (`bench.figures`) reads nothing else. Where weights cannot be had or nothing is left to show, the data are
empty and `meta` holds the reason, `absent`; the report says it in the figure's place.
"""

import importlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench import config as cfg
from bench import layouts, registry
from bench.config import Config, did_you_mean
from bench.errors import UserError
from bench.files import atomic
from bench.literals import literals
from bench.provenance import Record


class NotShown(UserError):
    """Nothing to draw, and no mistake of the configuration: the report gives the reason in the figure's place."""


FOLDER = Path(__file__).parent
NEEDS = ("MODELS", "SECTIONS", "TABLES", "TRAININGS", "FILES")


@dataclass(frozen=True)
class Entry:
    """What the source of a module says of its needs."""

    name: str
    problems: Mapping[str, Any]
    models: tuple[str, ...]
    sections: tuple[str, ...]
    tables: tuple[str, ...]
    trainings: tuple[str, ...]
    files: tuple[str, ...]
    own: Mapping[str, Any]
    timed: bool

    @property
    def module(self) -> str:
        """Its dotted name."""
        return f"bench.figure_data.{self.name}"

    @property
    def sections_of_figures(self) -> list[str]:
        """All sections of the key `figures` that it depends on."""
        return [*self.problems, *self.own, *self.sections]

    def pairs(self, config: Config) -> list[tuple[str, str, str]]:
        """(task, setting, method) of all that is reconstructed of the tasks' data."""
        return _pairs(config, self.problems)

    def own_pairs(self, config: Config) -> list[tuple[str, str, str]]:
        """The same of data of its own."""
        return _pairs(config, self.own)

    def datasets(self, config: Config) -> list[str]:
        """Data sets of the registry that it reads itself."""
        return [dataset for name in self.own for dataset in getattr(config.figures, name).datasets()]


def _pairs(config: Config, problems: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    found = []
    for problem, methods in problems.items():
        section = getattr(config.figures, problem)
        names = compared(config, section.task) if methods == "all" else list(methods)
        found += [(section.task, setting(config, problem), name) for name in names]
    return found


def entry(name: str) -> Entry:
    """The entry of the module that collects `name`; a UserError names an unknown one."""
    path = FOLDER / f"{name}.py"
    known = {p.stem: p for p in sorted(FOLDER.glob("[a-z]*.py")) if "PROBLEMS" in literals(p)}
    if path.stem not in known:
        raise UserError(f"unknown figure data '{name}'{did_you_mean(name, known)}")
    found = literals(path)
    others = [tuple(found.get(key, ())) for key in NEEDS]
    return Entry(name, found["PROBLEMS"], *others, found.get("OWN", {}), found.get("TIMED", False))


def setting(config: Config, problem: str) -> str:
    """The setting of the section `problem` of `figures`; a UserError where its task has no such setting."""
    section = getattr(config.figures, problem)
    known = config.task(section.task).settings()
    if section.setting not in known:
        raise UserError(
            f"figures.{problem}.setting: unknown setting {section.setting!r}; tasks.{section.task} has "
            f"{', '.join(known)}"
        )
    return section.setting


def compared(config: Config, task: str) -> list[str]:
    """Methods shown for `task` where methods are compared, in the order of the configuration."""
    names = config.figures.methods or [name for name in config.methods if not registry.entry(name).oracle]
    return [name for name in names if registry.entry(name).serves(task)]


def part(config: Config, name: str) -> dict[str, Any]:
    """What the data of a figure depend on in the configuration."""
    found = entry(name)
    pairs = [[cfg.evaluation_part(config, *pair), config.tuned(pair[0])] for pair in found.pairs(config)]
    selections = [config.task(task).selection() for task, _, _ in found.pairs(config)]
    own = config.figures.part(found.sections_of_figures)
    models = [found.models, config.weights, config.solver.model_dump(mode="json") if found.models else None]
    tables = [[*key] for table in found.tables for key in layouts.results(config, table)]
    drawn = {"seed", "phantom"}  # for data of a figure's own, whatever the task's source
    alone = [
        [cfg.evaluation_part(config, *pair), config.task(pair[0]).model_dump(mode="json", include=drawn)]
        for pair in found.own_pairs(config)
    ]
    found = {"pairs": pairs, "selections": selections, "figures": own, "models": models, "device": config.device}
    return found | {"results": tables, "alone": alone}


def write(config: Config, name: str, output: Path) -> None:
    """Collect the data of a figure into the npz file `output`, with its sidecar; the reason where there are none."""
    found = entry(name)
    methods = {registry.entry(method).module for *_, method in [*found.pairs(config), *found.own_pairs(config)]}
    record = Record([found.module, *sorted(methods)], config.digest())
    try:
        arrays, meta = importlib.import_module(found.module).collect(config)
    except (NotShown, registry.MissingWeights) as reason:
        print(f"{name}: {reason}", file=sys.stderr)
        arrays, meta = {}, {"absent": str(reason)}
    with atomic(output) as partial, partial.open("wb") as handle:
        np.savez_compressed(handle, **arrays)
    about = dict(meta)
    shared = {key: about.pop(key) for key in ("weights", "seed", "data", "device") if key in about}
    record.write(output, **shared, config=part(config, name), figure=about)
