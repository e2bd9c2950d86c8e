"""Read what `evaluate` wrote: a CSV for each (task, setting, method), one row an image, with its sidecar."""

import csv
import hashlib
import io
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

from bench.errors import UserError
from bench.provenance import sidecar_path, verify

RESULT_COLUMNS = ["task", "setting", "dataset", "image", "method", "seed", "parameters", "psnr", "ssim"]
RESULT_COLUMNS += ["seconds", "iterations", "converged"]
TIMELESS = [column for column in RESULT_COLUMNS if column != "seconds"]  # a resumed run repeats these
Key = tuple[str, str, str]  # task, setting, method


@dataclass(frozen=True)
class Saved:
    """What one job saved: its rows as text, column → field, or why there are none; its sidecar."""

    key: Key
    rows: list[dict[str, str]]
    missing: str | None
    sidecar: Mapping[str, Any]

    columns: ClassVar[Sequence[str]] = ()

    @classmethod
    def read(cls, paths: Iterable[str | os.PathLike[str]]) -> dict[Key, Self]:
        """Read files `…/{task}/{setting}/{method}.csv`, in any order.

        A file that is absent, not what its sidecar describes, or contradicts its own path is a UserError.
        """
        saved = [cls._read(Path(path)) for path in paths]
        return {one.key: one for one in saved}

    @classmethod
    def _read(cls, path: Path) -> Self:
        if problem := verify(path):
            raise UserError(f"{problem}; run its job again")
        sidecar = json.loads(sidecar_path(path).read_text(encoding="utf-8"))
        with path.open(newline="", encoding="utf-8") as handle:
            reader = csv.DictReader(handle)
            rows, header = list(reader), list(reader.fieldnames or [])
        if header != list(cls.columns):
            raise UserError(f"{path}: the columns are {','.join(header)}, expected {','.join(cls.columns)}")
        missing = sidecar.get("missing")
        if bool(missing) == bool(rows):
            raise UserError(f"{path}: has {len(rows)} rows, but its sidecar says missing: {json.dumps(missing)}")
        key = (*path.resolve().parts[-3:-1], path.stem)
        if others := {tuple(row[c] for c in ("task", "setting", "method")) for row in rows} - {key}:
            raise UserError(f"{path}: holds {'/'.join(min(others))}, but its path says {'/'.join(key)}")
        return cls(key, rows, " ".join(missing.split()) if missing else None, sidecar)


class Result(Saved):
    """The file of an evaluation."""

    columns = RESULT_COLUMNS

    @property
    def images(self) -> list[str]:
        return [row["image"] for row in self.rows]

    @property
    def digest(self) -> str:
        """sha256 of the rows without their timing."""
        return hashlib.sha256(to_csv(TIMELESS, self.rows).encode()).hexdigest()


def to_csv(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """The `columns` of `rows` as CSV text; None, like an absent key, becomes an empty field."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
