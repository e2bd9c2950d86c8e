"""What a run left beside its tables: figures, job times, provenance, read for the report. No torch."""

import base64
import csv
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.errors import UserError
from bench.report_tables import ABLATIONS, TableView

SHORT = 12  # digits of a hash as shown; the whole one is in its title
PNG = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class FigureView:
    """A picture as a data URI, or in `missing` why it was not drawn."""

    name: str
    title: str
    caption: str
    alt: str
    source: str = ""
    missing: str = ""

    @property
    def number(self) -> int | None:
        """The paper's number of a figure `fig03`; None where it has none."""
        found = re.fullmatch(r"fig0*(\d+)", self.name)
        return int(found[1]) if found else None

    @property
    def heading(self) -> str:
        return f"Figure {self.number}. {self.title}" if self.number else self.title


@dataclass
class Step:
    """Jobs of one kind: how many, their seconds, the largest memory in MiB, the longest of them."""

    name: str
    jobs: list[tuple[str, float, float]] = field(default_factory=list)  # name, seconds, MiB (NaN if unknown)

    @property
    def seconds(self) -> float:
        return sum(job[1] for job in self.jobs)

    @property
    def memory_mib(self) -> float:
        return max((job[2] for job in self.jobs if job[2] == job[2]), default=float("nan"))

    @property
    def longest(self) -> tuple[str, float, float]:
        return max(self.jobs, key=lambda job: job[1])


@dataclass(frozen=True)
class Fact:
    """A line of the provenance: what, its distinct values as (shown, whole)."""

    name: str
    values: list[tuple[str, str]]


def figure_files(results: Path) -> list[Path]:
    """The descriptions of all figures, those with a number first."""
    return sorted((results / "figures").glob("*.json"), key=lambda path: (not path.stem.startswith("fig"), path.stem))


def figures(files: Iterable[Path]) -> list[FigureView]:
    """Figures from their JSON files {title, caption, alt, …}, each beside its PNG, which may be given instead.

    A `missing` in the JSON says why there is no picture. Raises a UserError that names an incomplete file.
    """
    return [_figure(path.with_suffix(".json")) for path in files]


def _figure(path: Path) -> FigureView:
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        texts = [str(about[key]) for key in ("title", "caption", "alt")]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: describes no figure ({type(error).__name__}: {error})") from None
    if about.get("missing"):
        return FigureView(path.stem, *texts, missing=str(about["missing"]))
    picture = path.with_suffix(".png")
    if not picture.is_file():
        raise UserError(f"{picture}: no such file; draw the figure again")
    content = picture.read_bytes()
    if not content.startswith(PNG):
        raise UserError(f"{picture}: not a PNG image; draw the figure again")
    return FigureView(path.stem, *texts, source=data_uri("image/png", content))


def data_uri(kind: str, content: bytes) -> str:
    """The content itself as an address, so that nothing is fetched."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def steps(results: Path) -> list[Step]:
    """Job times from `benchmarks/<step>/….tsv`, by step, longest first."""
    found: dict[str, Step] = {}
    for path in sorted((results / "benchmarks").rglob("*.tsv")):
        with path.open(newline="", encoding="utf-8") as handle:
            rows = list(csv.DictReader(handle, delimiter="\t"))
        if not rows:
            continue
        name, *rest = path.relative_to(results / "benchmarks").with_suffix("").parts
        seconds = sum(float(row["s"]) for row in rows)
        found.setdefault(name, Step(name)).jobs.append(("/".join(rest), seconds, _memory(rows)))
    return sorted(found.values(), key=lambda step: -step.seconds)


def _memory(rows: Sequence[dict[str, str]]) -> float:
    """The largest resident memory in MiB; NaN where the job was too short to be looked at."""
    values = [row.get("max_rss") or "NA" for row in rows]
    return max((float(value) for value in values if value not in ("NA", "-")), default=float("nan"))


def dot(results: Path) -> str:
    """The graph of rules that the last run wrote; empty where there is none."""
    path = results / "rulegraph.dot"
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def sidecars(results: Path, tables: Iterable[TableView]) -> list[dict[str, Any]]:
    """Sidecars of the results behind the tables, as far as the folder holds them."""
    paths = (_sidecar(results, table, name) for table in tables for name in table.inputs)
    return [json.loads(path.read_text(encoding="utf-8")) for path in paths if path.is_file()]


def _sidecar(results: Path, table: TableView, name: str) -> Path:
    """The record of the result `name` behind a table; a variant of the ablations has a folder of results of its own."""
    task, setting, method = Path(name).with_suffix("").parts
    if table.name == ABLATIONS:
        results, method = results / ABLATIONS / method, "deal"
    return results / ("timing" if table.timed else "evaluate") / task / setting / f"{method}.json"


def provenance(tables: Iterable[TableView], records: Sequence[dict[str, Any]]) -> list[Fact]:
    """Code, weights, data, machine, packages and time of what the tables show, each distinct value once."""
    made = [table for table in tables if not table.absent]
    merged: dict[str, list[Any]] = {}
    for table in made:
        for key, values in table.provenance.items():
            known = merged.setdefault(key, [])
            known += [value for value in values if value not in known]
    codes, weights, data = (merged.get(key, []) for key in ("code", "weights", "data"))
    edited = {True: " (edited)"}
    facts = [
        Fact("Version", _whole(code.get("version") for code in codes)),
        Fact("Commit", _hashes((code.get("commit"), edited.get(code.get("dirty"), "")) for code in codes)),
        Fact("Weights", _hashes((digest, f" {name}") for group in weights for name, digest in group.items())),
        Fact("Data", _hashes((found.get("digest"), f" {found.get('dataset')}") for found in data)),
        Fact("Device", _whole(merged.get("device", []))),
        Fact("GPU driver", _whole(merged.get("driver", []))),
        Fact("Threads", _whole(dict.fromkeys(record.get("threads") for record in records))),
        Fact("Noise seed", _whole(merged.get("seed", []))),
        Fact("Packages", _whole(", ".join(f"{n} {v}" for n, v in p.items()) for p in merged.get("packages", []))),
        Fact("Configuration digest", _whole(merged.get("config_digest", []))),
        Fact("Reconstructed", _whole([_when(records)])),
        Fact("Largest memory of a job", _whole([_peak(records)])),
    ]
    return [fact for fact in facts if fact.values]


def _whole(values: Iterable[Any]) -> list[tuple[str, str]]:
    texts = dict.fromkeys(str(value) for value in values if value not in (None, ""))
    return [(text, text) for text in texts]


def _hashes(pairs: Iterable[tuple[Any, str]]) -> list[tuple[str, str]]:
    """(hash, what it is of) → shown short, and whole."""
    found = {(str(digest), about): None for digest, about in pairs if digest}
    return [(f"{digest[:SHORT]}{about}", f"{digest}{about}") for digest, about in found]


def _when(records: Sequence[dict[str, Any]]) -> str:
    """From when to when, and the sum of the jobs' times; empty without records."""
    timed = [record for record in records if record.get("started") and record.get("ended")]
    if not timed:
        return ""
    first, last = min(r["started"] for r in timed), max(r["ended"] for r in timed)
    total = duration(sum(float(record.get("wall_s") or 0) for record in timed))
    first, last = (text[:16].replace("T", " ") for text in (first, last))
    return f"{first} to {last} UTC, {total} of computing in {len(timed)} jobs"


def _peak(records: Sequence[dict[str, Any]]) -> str:
    peak = max((record.get("peak_memory_bytes") or 0 for record in records), default=0)
    return f"{peak / 2**30:.2f} GiB" if peak else ""


def duration(seconds: float) -> str:
    """A time as a person says it: 4.2 s, 12 min, 3 h 05 min."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
