"""The figures, drawn from saved data alone: one module a figure, found by its name. Never imports torch.

A module `<name>.py` holds the constants TITLE, CAPTION and ALT (templates, filled with the data's `facts`), if need be
DATA (the name of the data it draws, by default its own), and `draw(data, meta) -> matplotlib.figure.Figure`.
"""

import importlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.config import did_you_mean
from bench.errors import UserError
from bench.files import atomic
from bench.literals import literals
from bench.provenance import Record, sha256, sidecar_path

FOLDER = Path(__file__).parent


def names() -> list[str]:
    """All figures that there are."""
    return [path.stem for path in sorted(FOLDER.glob("[a-z]*.py")) if "TITLE" in literals(path)]


def checked(name: str) -> str:
    """`name`, if there is such a figure; a UserError names the nearest."""
    if name not in (known := names()):
        raise UserError(f"unknown figure '{name}'{did_you_mean(name, known)}")
    return name


def data_of(name: str) -> str:
    """The name of the data that a figure draws."""
    return literals(FOLDER / f"{checked(name)}.py").get("DATA", name)


def load(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any], dict[str, Any]]:
    """Arrays, the figure's meta and the whole sidecar of saved data."""
    try:
        sidecar = json.loads(sidecar_path(path).read_text(encoding="utf-8"))
        with np.load(path, allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files}, sidecar["figure"], sidecar
    except (ValueError, KeyError) as error:
        raise UserError(f"{path}: not the data of a figure ({type(error).__name__}: {error})") from None


def caption(template: str, meta: Mapping[str, Any]) -> str:
    """The template with its facts, then what is common to all: settings, and what is missing and why."""
    text = " ".join(template.format(**meta.get("facts", {})).split())
    if settings := meta.get("settings"):
        text += " Settings: " + "; ".join(f"{key} {value}" for key, value in settings.items()) + "."
    if capped := meta.get("capped"):
        text += f" Stopped at the cap of updates, not converged: {', '.join(capped)}."
    reasons: dict[str, list[str]] = {}
    for label, reason in meta.get("missing", {}).items():
        reasons.setdefault(brief(reason), []).append(label)
    for reason, labels in reasons.items():
        text += f" Not shown: {', '.join(labels)} ({reason})."
    return text


def brief(reason: str) -> str:
    """A reason without addresses and what else follows a colon; the sidecar has it whole."""
    return f"weights {reason.split(':')[0]}" if reason.startswith("cannot be downloaded:") else reason


def draw(name: str, data: Mapping[str, np.ndarray], meta: Mapping[str, Any]):
    """The figure, in the shared style; a UserError for the data of another one."""
    from bench.figures import style

    with style.context():
        if reason := meta.get("absent"):
            return style.absent(brief(reason))
        try:
            figure = importlib.import_module(f"bench.figures.{checked(name)}").draw(data, meta)
        except KeyError as key:
            raise UserError(f"figure {name} needs data with {key}: take those of '{data_of(name)}'") from None
        figure.draw_without_rendering()  # the layout finds room for the labels by drawing once
    return figure


def write(name: str, source: Path, output: Path, zoom: Sequence[int] | None = None) -> None:
    """Draw the data `source` into `output` (.png) and a .pdf beside it; the sidecar (.json) holds the caption.

    `zoom` is the region enlarged, where there is one: top row, left column, height, width; None, or
    what the data say is of another image: the busiest. Data that hold only a reason give a picture that
    says so, and a sidecar with the reason as `missing`.

    Raises:
        UserError: for data of another figure, and for an output that is no .png.
    """
    from bench.figures import style

    if output.suffix != ".png":
        raise UserError(f"{output}: the name must end in .png; the .pdf and the .json are put beside it")

    record = Record([f"bench.figures.{checked(name)}"], "")
    module = importlib.import_module(f"bench.figures.{name}")
    data, meta, sidecar = load(source)
    meta = meta | {"zoom": list(zoom) if zoom and list(zoom) != meta.get("not_zoom") else None}
    figure = draw(name, data, meta)
    for path, metadata in ((output.with_suffix(".pdf"), {"CreationDate": None}), (output, {"Software": None})):
        # Without dates and versions, so that the same data give the same bytes.
        with style.context(), atomic(path) as partial:
            figure.savefig(partial, format=path.suffix[1:], dpi=style.DPI, metadata=metadata)
    width, height = (float(side) for side in figure.get_size_inches())
    absent, facts = meta.get("absent"), meta.get("facts", {})
    record.write(
        output,
        figure=name,
        title=module.TITLE,
        caption="" if absent else caption(module.CAPTION, meta),
        alt="Not drawn" if absent else " ".join(module.ALT.format(**facts).split()),
        width_in=width,
        height_in=height,
        zoom=meta["zoom"],
        missing=absent,
        not_shown=meta.get("missing", {}),
        source={"name": source.name, "sha256": sha256(source), "provenance": sidecar},
    )
