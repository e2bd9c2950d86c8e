"""Write a table's files; copy those of a reference run into the repository, with a manifest."""

import json
import os
from pathlib import Path

from bench.cells import Table
from bench.errors import UserError
from bench.files import write_json, write_text
from bench.provenance import sha256
from bench.render import RENDERERS


def write(table: Table, results_dir: str | os.PathLike[str]) -> None:
    """Write all forms of the table into `<results_dir>/tables`, each atomically."""
    for suffix, render in RENDERERS.items():
        write_text(Path(results_dir, "tables", table.name + suffix), render(table))


def suffixes(name: str) -> list[str]:
    """Ends of a table's files; the paper has no numbers for the ablations."""
    return [suffix for suffix in RENDERERS if name != "ablations" or "_vs_paper" not in suffix]


def publish(results_dir: str | os.PathLike[str], published_dir: str | os.PathLike[str]) -> Path:
    """Copy all tables; returns the manifest.json written beside them: sha256 of each file, provenance.

    That of the ablations goes along where it is there. Tables that were published before and are not there now stay.
    Raises a UserError, before anything is written, when there is no table or one of its files is absent.
    """
    folder, manifest = Path(results_dir, "tables"), Path(published_dir, "manifest.json")
    names = sorted(sidecar.stem for sidecar in [*folder.glob("table*.json"), *folder.glob("ablations.json")])
    if not names:
        raise UserError(f"{folder}: no tables to publish; make them first, e.g. `snakemake table1`")
    files = {name: [folder / (name + suffix) for suffix in suffixes(name)] for name in names}
    if absent := [path for paths in files.values() for path in paths if not path.is_file()]:
        raise UserError(f"{absent[0]}: no such file; make the table again")
    tables = json.loads(manifest.read_text(encoding="utf-8"))["tables"] if manifest.exists() else {}
    for name, paths in files.items():
        for path in paths:
            write_text(Path(published_dir, path.name), path.read_text(encoding="utf-8"))
        provenance = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))["provenance"]
        tables[name] = {"files": {path.name: sha256(path) for path in paths}, "provenance": provenance}
    write_json(manifest, {"tables": dict(sorted(tables.items()))})
    return manifest
