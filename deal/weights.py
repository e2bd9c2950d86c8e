"""Weights of DEAL: safetensors with a metadata block, and the authors' checkpoint layout.

A checkpoint of the authors is a torch pickle holding at least `state_dict`; it is read by torch's restricted
unpickler, which refuses anything but tensors and plain containers, so no code in the file can run.
"""

import hashlib
import json
import os
import pickle
import warnings
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from deal.model import DEAL, PUBLISHED, Architecture

RELEASED = Path(__file__).parent / "released"

# our parameter name → the authors' key
_OFFICIAL = {
    **{
        f"{ours}.weights.{i}": f"{theirs}.conv_layers.{i}.{'parametrizations.weight.original' if i == 0 else 'weight'}"
        for ours, theirs in (("W", "W1"), ("W_mask", "M1"))
        for i in range(3)
    },
    "M2.weight": "M2.weight",
    "M3.weight": "M3.weight",
    "phi1.coefficients": "spline1.coefficients",
    "phi2.coefficients": "spline2.coefficients",
    "phi3.coefficients": "spline3.coefficients",
    "kappa.coefficients": "spline_lambda.coefficients",
    "scaling.coefficients": "spline_scaling.coefficients",
}
_SPLINES = {
    "spline1": "phi1",
    "spline2": "phi2",
    "spline3": "phi3",
    "spline_lambda": "kappa",
    "spline_scaling": "scaling",
}


OFFICIAL_SUFFIXES = (".pth", ".pt", ".ckpt")
"""Of files in the authors' layout."""

_MEND = "give a file of deal.save, or a checkpoint (.pth) of the authors"


class WeightsError(ValueError):
    """A weights file that is missing, broken, of another layout, or that tries to run code."""


def sha256(path: str | os.PathLike[str]) -> str:
    """Hex digest of a file."""
    with Path(path).open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def load(name: str | os.PathLike[str], device: str | torch.device = "cpu") -> DEAL:
    """A trained DEAL in evaluation mode.

    Args:
        name: "gray" or "color" for the released weights, or a path: `.safetensors` of this package or `.pth` of the
            authors.

    Raises:
        WeightsError: the file is missing, broken, of another layout, or a pickle that wants to run code.
    """
    path = find(name)
    official = path.suffix in OFFICIAL_SUFFIXES
    state = read_official(path) if official else _read_safetensors(path)
    _check_tensors(path, state)
    kind = "gray" if state["W.weights.0"].shape[1:2] == (1,) else "color"
    model = (PUBLISHED if official else architecture(path)).build(kind)
    _check(path, state, model)
    model.load_state_dict(state)
    return model.requires_grad_(False).eval().to(device)


def find(name: str | os.PathLike[str]) -> Path:
    """The file that `load` reads for `name`; WeightsError if there is none."""
    path = RELEASED / f"{name}.safetensors" if name in ("gray", "color") else Path(name)
    if not path.is_file():
        what = "a folder, not a file" if path.is_dir() else "no such file"
        what = "released weights are not part of this installation" if name in ("gray", "color") else what
        raise WeightsError(f"{path}: {what}; give a path, 'gray' or 'color'")
    return path


def save(model: DEAL, path: str | os.PathLike[str], metadata: dict | None = None) -> None:
    """Write weights as safetensors; `metadata` (training configuration, data hash, code version, …) is kept as JSON.

    So is an architecture other than the published one, since the shapes do not tell whether φ1 and φ2 are constrained.

    Raises:
        ValueError: as `metadata_block`; nothing is written.
    """
    block = metadata_block(model, metadata)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        save_file(tensors, partial, metadata={"deal": json.dumps(block, sort_keys=True)})
        partial.chmod(0o666 & ~_umask())  # safetensors writes files that only their owner may read
        replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def metadata_block(model: DEAL, metadata: dict | None = None) -> dict:
    """What `save` keeps: `metadata` and the keys that it writes itself.

    Raises:
        ValueError: `metadata` says something else under one of these keys: format, kind, architecture.
    """
    own = {"format": "deal", "kind": model.kind}
    if model.architecture != PUBLISHED:
        own["architecture"] = asdict(model.architecture)
    given = metadata or {}
    for key in ("format", "kind", "architecture"):
        if key in given and given[key] != own.get(key):
            raise ValueError(f"metadata: {key!r} is {given[key]!r}, but deal.save writes the model's; leave it out")
    return {**given, **own}


def replace(partial: Path, path: Path) -> None:
    """Rename a finished file onto `path` once it is on the disk, so that a power cut leaves the old or the new one."""
    with partial.open("rb") as handle:
        os.fsync(handle.fileno())
    partial.replace(path)


def metadata(path: str | os.PathLike[str]) -> dict:
    """The metadata block of a safetensors file of this package."""
    try:
        with safe_open(path, framework="pt") as file:
            block = json.loads((file.metadata() or {}).get("deal", "{}"))
    except (SafetensorError, OSError, ValueError) as error:
        raise WeightsError(f"{path}: not a safetensors file ({_short(error)})") from None
    if not isinstance(block, dict):
        raise WeightsError(f"{path}: its metadata are a {type(block).__name__}, expected keys and values")
    return block


def architecture(path: str | os.PathLike[str]) -> Architecture:
    """The architecture that a safetensors file names; the published one where it names none."""
    values = metadata(path).get("architecture", {})
    try:
        return Architecture(**values)
    except (TypeError, ValueError) as error:
        raise WeightsError(f"{path}: metadata with an unknown architecture ({_short(error)})") from None


def describe(name: str | os.PathLike[str]) -> dict:
    """What is known of the weights `name` (as for `load`): metadata block, file name and sha256."""
    path = find(name)
    block = metadata(path) if path.suffix == ".safetensors" else {}
    return {**block, "file": path.name, "sha256": sha256(path)}


def read_official(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """State of a checkpoint in the authors' layout, under this package's names; runs no code of the file."""
    try:
        with warnings.catch_warnings(action="ignore"):  # other pickle protocols: read or refused below
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise WeightsError(f"{path}: refused, it holds other objects than tensors or is broken; {_MEND}") from None
    except Exception as error:  # a broken pickle can fail in any way
        raise WeightsError(f"{path}: not a readable torch checkpoint ({type(error).__name__}); {_MEND}") from None
    official = content.get("state_dict") if isinstance(content, dict) else None
    if not isinstance(official, dict):
        raise WeightsError(f"{path}: no 'state_dict' entry, so not of the authors; {_MEND}")
    missing = [key for key in _OFFICIAL.values() if key not in official]
    if missing:
        raise WeightsError(f"{path}: lacks {len(missing)} of {len(_OFFICIAL)} keys, first {missing[0]!r}; {_MEND}")
    extra = [key for key in official if key not in _OFFICIAL.values() and not str(key).endswith(".D2_filter")]
    if extra:
        raise WeightsError(f"{path}: unknown key {_short(repr(extra[0]))}; {_MEND}")
    if odd := [key for key in _OFFICIAL.values() if not isinstance(official[key], Tensor)]:
        raise WeightsError(f"{path}: {odd[0]} is a {type(official[odd[0]]).__name__}, expected a tensor; {_MEND}")
    return {ours: official[theirs] for ours, theirs in _OFFICIAL.items()}


def write_official(model: DEAL, path: str | os.PathLike[str]) -> None:
    """Write a checkpoint in the authors' layout, which their code and deepinv's DEAL read.

    Raises:
        ValueError: the model is not of the published architecture, the only one they have.
    """
    if model.architecture != PUBLISHED:
        raise ValueError(f"the authors' layout has no place for a model with {model.architecture}")
    state = {theirs: model.get_parameter(ours).detach().cpu() for ours, theirs in _OFFICIAL.items()}
    for theirs, ours in _SPLINES.items():
        step = model.get_submodule(ours).step
        state[f"{theirs}.D2_filter"] = torch.tensor([[[1.0, -2.0, 1.0]]]) / step
    partial = Path(f"{path}.{os.getpid()}.part")
    try:
        torch.save({"state_dict": state}, partial)
        replace(partial, Path(path))
    finally:
        partial.unlink(missing_ok=True)


def convert_official(source: str | os.PathLike[str], target: str | os.PathLike[str]) -> None:
    """Convert an authors' `.pth` to safetensors, recording the source's sha256.

    Raises:
        WeightsError: as `load`, and for a target that is not called `.safetensors`.
    """
    if Path(target).suffix != ".safetensors":
        raise WeightsError(f"{target}: the file to write is a .safetensors; nothing was written")
    model = load(source)
    save(model, target, {"source": Path(source).name, "source_sha256": sha256(source)})


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt") as file:
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path}: not a safetensors file ({_short(error)})") from None
    if "W.weights.0" not in state or state["W.weights.0"].ndim != 4:
        raise WeightsError(f"{path}: safetensors, but not weights of DEAL (no 'W.weights.0')")
    return state


def _check_tensors(path: Path, state: dict[str, Tensor]) -> None:
    """Refuse tensors that have no shape or no real values."""
    for key, tensor in state.items():
        stored = tensor.layout == torch.strided and not (tensor.is_nested or tensor.is_quantized or tensor.is_meta)
        if not stored or tensor.is_complex():
            raise WeightsError(f"{path}: {key!r} is not an ordinary tensor of real numbers; {_MEND}")


def _check(path: Path, state: dict[str, Tensor], model: DEAL) -> None:
    expected = model.state_dict()
    odd = sorted(expected.keys() ^ state.keys())
    if odd:
        raise WeightsError(f"{path}: key {odd[0]!r} is {'missing' if odd[0] in expected else 'unknown'}")
    for key, tensor in state.items():
        if tensor.shape != expected[key].shape:
            found, wanted = tuple(tensor.shape), tuple(expected[key].shape)
            model_of = f"of a model with {model.architecture}"
            raise WeightsError(f"{path}: {key} is {found}, expected {wanted} {model_of}; {_MEND}")
        if not torch.isfinite(tensor.to(expected[key].dtype)).all():
            raise WeightsError(f"{path}: {key} contains NaN or infinite values; {_MEND}")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _short(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:120]
