"""Published weight files, read without running what is in them.

| format | who publishes in it | reader |
|---|---|---|
| MatConvNet `.mat` (MATLAB 7.3, which is HDF5, or MATLAB 5) | DnCNN, FFDNet | `read_matconvnet` |
| state dict `.pth` | DRUNet, IRCNN, DnCNN of KAIR and of Provable Plug-and-Play | `read_pth` |
| Lightning `.ckpt` | Prox-DRUNet | `read_pth` |

A file that is not what it should be is a ValueError naming the file and what is wrong with it.
"""

import pickle
import warnings
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

Convolution = tuple[Tensor, Tensor]
"""Weight (out, in, kh, kw) and bias (out,), float32."""


# Classes that Lightning pickles beside the weights. An empty OrderedDict stands for each: it runs nothing.
_BOOKKEEPING = (
    "argparse.Namespace",
    "lightning.fabric.utilities.data.AttributeDict",
    "lightning_fabric.utilities.data.AttributeDict",
    "pytorch_lightning.utilities.parsing.AttributeDict",
    "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint",
    "pytorch_lightning.callbacks.early_stopping.EarlyStopping",
)


def read_pth(path: Path) -> dict[str, Any]:
    """The dictionary in a `.pth` or `.ckpt`, on the CPU; no code that the file names is ever run.

    Lightning keeps hyper-parameters and callbacks beside the weights; these become plain dictionaries.
    """
    try:
        allowed = torch.serialization.safe_globals([(OrderedDict, name) for name in _BOOKKEEPING])
        with allowed, warnings.catch_warnings(action="ignore"):  # other pickle protocols: read or refused below
            found = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file") from None
    except Exception as error:  # a broken pickle can fail in any way
        reason = "it holds objects other than tensors, which are not loaded" if _refused(error) else _line(error)
        raise ValueError(f"{path} cannot be read as PyTorch weights: {reason}") from None
    if not isinstance(found, dict):
        raise ValueError(f"{path} holds a {type(found).__name__}, expected a dictionary of tensors")
    return found


def _refused(error: Exception) -> bool:
    return isinstance(error, pickle.UnpicklingError) and "GLOBAL" in str(error)


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def read_state_dict(path: Path, prefix: str = "") -> dict[str, Tensor]:
    """The tensors whose names begin with `prefix`, without it; the entry `state_dict` of a checkpoint."""
    found = read_pth(path)
    found = found.get("state_dict", found)
    if not isinstance(found, dict):
        raise ValueError(f"{path}: state_dict is a {type(found).__name__}, expected a dictionary of tensors")
    tensors = {str(key).removeprefix(prefix): value for key, value in found.items() if str(key).startswith(prefix)}
    if not tensors:
        raise ValueError(f"{path} holds no tensor whose name begins with '{prefix}'")
    for key, value in tensors.items():
        if not isinstance(value, Tensor):
            raise ValueError(f"{path}: {key} is a {type(value).__name__}, expected a tensor")
    return tensors


def load_into(module: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Copy `tensors` into `module`; every name and shape must agree. Then evaluation mode, no gradients."""
    expected = module.state_dict()
    for key, value in expected.items():
        if key not in tensors:
            raise ValueError(f"{path}: {key} is missing")
        if tensors[key].shape != value.shape:
            found = tuple(tensors[key].shape)
            raise ValueError(f"{path}: {key} has the shape {found}, expected {tuple(value.shape)}")
        if not torch.isfinite(tensors[key]).all():
            raise ValueError(f"{path}: {key} contains NaN or infinite values")
    if unknown := sorted(set(tensors) - set(expected)):
        raise ValueError(f"{path}: {unknown[0]} has no place in {type(module).__name__}")
    module.load_state_dict({key: value.float() for key, value in tensors.items()})
    module.eval().requires_grad_(False)


def read_matconvnet(path: Path) -> list[Convolution]:
    """The convolutions of a MatConvNet SimpleNN, in order.

    MatConvNet keeps filters as (kh, kw, in, out), drops a trailing `out` of 1, and correlates as PyTorch
    does. HDF5 shows MATLAB's axes in reverse.
    """
    import h5py

    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    layers = _layers_hdf5(path) if h5py.is_hdf5(path) else _layers_matlab5(path)
    convolutions = []
    for number, (kind, weights) in enumerate(layers):
        if kind == "conv":
            if len(weights) != 2:
                raise ValueError(f"{path}: convolution {number} has {len(weights)} weight arrays, expected 2")
            convolutions.append(_convolution(path, number, *weights))
        elif kind == "bnorm":
            raise ValueError(f"{path}: layer {number} is a batch normalisation, expected it merged into the filters")
    if not convolutions:
        raise ValueError(f"{path} holds no convolution")
    return convolutions


def _convolution(path: Path, number: int, filters: np.ndarray, bias: np.ndarray) -> Convolution:
    while filters.ndim < 4:
        filters = filters[..., None]
    outputs = filters.shape[3]
    if filters.ndim != 4 or filters.dtype.kind != "f" or bias.size != outputs:
        raise ValueError(f"{path}: layer {number} has filters {filters.shape} and {bias.size} biases")
    weight = np.ascontiguousarray(filters.transpose(3, 2, 0, 1), dtype=np.float32)
    return torch.from_numpy(weight), torch.from_numpy(bias.astype(np.float32).reshape(outputs))


def _layers_hdf5(path: Path) -> list[tuple[str, list[np.ndarray]]]:
    """(type, weights) of each layer of `net.layers` in a MATLAB 7.3 file."""
    import h5py

    found = []
    try:
        with h5py.File(path) as file:
            for reference in file["net/layers"][()].ravel():
                layer = file[reference]
                kind = "".join(map(chr, layer["type"][()].ravel()))
                weights = layer.get("weights")
                references = weights[()].ravel() if weights is not None and weights.dtype == h5py.ref_dtype else []
                found.append((kind, [file[r][()].T for r in references]))
    except Exception as error:  # h5py raises whatever a damaged file makes it stumble on
        raise ValueError(f"{path} holds no MatConvNet network net.layers: {_line(error)}") from None
    return found


def _layers_matlab5(path: Path) -> list[tuple[str, list[np.ndarray]]]:
    """The same of a MATLAB 5 file."""
    from scipy.io import loadmat

    try:
        layers = loadmat(path, variable_names=["net"])["net"]["layers"][0, 0].ravel()
        found = []
        for layer in layers:
            kind = str(layer["type"][0, 0].ravel()[0])
            has = "weights" in (layer.dtype.names or ())
            found.append((kind, list(layer["weights"][0, 0].ravel()) if has else []))
    except Exception as error:  # scipy raises whatever its parser stumbles on
        raise ValueError(f"{path} holds no MatConvNet network net.layers: {_line(error)}") from None
    return found
