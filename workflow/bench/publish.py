"""Gather the results of several runs in a folder of the repository, with the tables that they make together.

The folder holds results files as a run does, `evaluate/<task>/<setting>/<method>.csv` with a sidecar, without times:
those of one machine say nothing beside another's. Tables of times and of ablations are copied whole.
"""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from bench import ablations, layouts, render, tables, timing_table
from bench.config import Config, evaluation_part
from bench.conventions import CONVENTIONS
from bench.errors import UserError
from bench.files import write_json, write_text
from bench.provenance import sha256, sidecar_path, verify
from bench.results import RESULT_COLUMNS, Result, to_csv

KEPT = ("missing", *render.PROVENANCE, "command", "config", "tuned", "hyperparameters", "images")
"""What a published sidecar says."""


def publish(config: Config, published_dir: str | os.PathLike[str], reference: Config) -> Path:
    """Add the results of the run `config` to those published, and remake the tables of `reference` from all of them.

    What is there gives way to a measurement over as many images or more, never to fewer or to a reason why there is
    none. Returns the manifest.json beside the tables: sha256 of each file, provenance.

    Raises a UserError, before anything is written, when there is nothing to publish, a file is not what its sidecar
    says, or a task of the run is another experiment than that of `reference`.
    """
    source, target = Path(config.results), Path(published_dir)
    found = Result.read(sorted(source.glob("evaluate/*/*/*.csv")))
    whole = _whole(source / "tables", reference)
    if not found and not whole:
        raise UserError(f"{source}: no results to publish; make some first, e.g. `snakemake table1`")
    for key in [key for key in found if key[1] not in reference.task(key[0]).settings()]:
        print(f"{'/'.join(key)}: left out, tasks.{key[0]} of the reference has no such setting")
        del found[key]
    for result in found.values():
        _same_experiment(result, config, reference)
    stored = {path.relative_to(target / "evaluate").with_suffix("").parts: path for path in _stored(target)}
    Result.read(path for key, path in stored.items() if key not in found)  # a damaged one ends here
    manifest = target / "manifest.json"
    known = _tables_of(manifest)
    for result in found.values():
        _add(result, target / "evaluate")
    for paths in whole.values():
        for path in paths:
            write_text(target / path.name, path.read_text(encoding="utf-8"))
    names = {name: [path.name for path in paths] for name, paths in whole.items()} | _remade(target, reference)
    for name, files in names.items():
        provenance = json.loads((target / f"{name}.json").read_text(encoding="utf-8"))["provenance"]
        known[name] = {"files": {file: sha256(target / file) for file in files}, "provenance": provenance}
    write_json(manifest, {"tables": dict(sorted(known.items()))})
    return manifest


def _tables_of(manifest: Path) -> dict[str, Any]:
    """What the manifest says of tables that stay as they are."""
    if not manifest.exists():
        return {}
    try:
        return dict(json.loads(manifest.read_text(encoding="utf-8"))["tables"])
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{manifest}: is no list of tables ({type(error).__name__}); delete it and publish again"
        ) from None


def _stored(folder: Path) -> list[Path]:
    return sorted(folder.glob("evaluate/*/*/*.csv"))


def _whole(folder: Path, reference: Config) -> dict[str, list[Path]]:
    """Files of the tables that are copied, where they have been made."""
    timed = [name for name in type(reference.tables).model_fields if layouts.is_timing(reference, name)]
    suffixes = dict.fromkeys(timed, timing_table.RENDERERS) | {"ablations": ablations.RENDERERS}
    made = {name: ends for name, ends in suffixes.items() if (folder / f"{name}.json").is_file()}
    files = {name: [folder / (name + end) for end in ends] for name, ends in made.items()}
    if absent := [path for paths in files.values() for path in paths if not path.is_file()]:
        raise UserError(f"{absent[0]}: no such file; make the table again")
    return files


def _same_experiment(result: Result, config: Config, reference: Config) -> None:
    """A UserError unless the result was computed for a setting of the reference; how many images is free.

    What it was computed for is what its sidecar says; the solver of DEAL is free too, and in the record.
    """
    task, setting, method = result.key
    ours = result.sidecar.get("config") or evaluation_part(config, task, setting, method)
    theirs = evaluation_part(reference, task, setting, method)
    ours, theirs = (json.loads(json.dumps({**part, "solver": None})) for part in (ours, theirs))
    tuned = result.sidecar.get("tuned")
    for part, of in ((ours, config.tuned(task) if tuned is None else tuned), (theirs, reference.tuned(task))):
        part["hyperparameters"] = "tuned" if of else "paper"
    if CONVENTIONS[task].variants and result.rows:
        ours["kernels"] = sorted({int(row["image"].rpartition("_k")[2]) for row in result.rows})
        theirs["kernels"] = sorted(reference.task(task).selection()["kernels"])
    for key in theirs:
        if ours.get(key) != theirs[key]:
            raise UserError(
                f"tasks.{task}.{key} is {json.dumps(ours.get(key))} in this run and {json.dumps(theirs[key])} in "
                "the reference: its results belong into other tables (--to, with a --reference of theirs)"
            )


def _add(result: Result, folder: Path) -> None:
    """Store a result without its times, unless what is there is worth more."""
    path = folder.joinpath(*result.key).with_suffix(".csv")
    if verify(path) is None:
        stored = Result.read([path])[result.key]
        if len(stored.rows) > len(result.rows):
            print(f"{path}: kept, it is over more images")
            return
        for what, before, now in _unlike(stored.sidecar, result.sidecar):
            print(f"{path}: {what} was {before}, is now {now}")
    write_text(path, to_csv(RESULT_COLUMNS, ({**row, "seconds": ""} for row in result.rows)))
    sidecar: dict[str, Any] = {key: result.sidecar.get(key) for key in KEPT if key in result.sidecar}
    write_json(sidecar_path(path), sidecar | {"output": {"name": path.name, "sha256": sha256(path)}})


def _unlike(stored: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Solver, weights and hyperparameters, where a result that takes the place of another was computed with others."""
    for what, both in (
        ("weights", (stored, new)),
        ("solver", ((s.get("config") or {}) for s in (stored, new))),
        ("hyperparameters", (stored, new)),
    ):
        before, now = (json.dumps(record.get(what), sort_keys=True) for record in both)
        if before != now:
            yield what, before, now


def _remade(folder: Path, reference: Config) -> dict[str, list[str]]:
    """The files of the tables that something has been measured for, made anew."""
    names = [name for name in type(reference.tables).model_fields if not layouts.is_timing(reference, name)]
    made = {}
    for name in names:
        paths = [folder / "evaluate" / t / s / f"{m}.csv" for t, s, m in layouts.results(reference, name)]
        results = Result.read(path for path in paths if path.is_file())
        if any(result.rows for result in results.values()):
            render.write(tables.build(layouts.layout(reference, name), results), folder)
            made[name] = [name + suffix for suffix in render.RENDERERS]
    return made
