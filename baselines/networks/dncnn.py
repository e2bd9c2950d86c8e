"""Plain stacks of convolutions: DnCNN (Zhang et al., TIP 2017) in the four layouts it is published in.

All predict the noise; what `forward` returns is the denoised image x − net(x). Batch normalisation is merged
into the convolutions when a file is read, so that there is one network whatever the layout:

| layout | layers | bias | names |
|---|---|---|---|
| MatConvNet, cszn/DnCNN | 17 gray, 20 colour | yes | `net.layers` |
| KAIR | 17 | yes | `model.0`, `model.2`, … |
| Provable Plug-and-Play, DnCNN | 17 | in the normalisation | `module.dncnn.0`, `.2`, `.3` (normalisation), … |
| the same, RealSN-DnCNN | 17 | the same | also `weight_orig`, `weight_u`: `weight` is the normalised one |
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from baselines.networks.readers import Convolution, load_into, read_matconvnet, read_state_dict

FEATURES = 64
BN_EPS = 1e-5  # PyTorch's default, with which the models of Provable Plug-and-Play were trained


class ConvStack(nn.Module):
    """3×3 convolutions with bias and zero padding, ReLU between them; (B, in, H, W) → (B, out, H, W).

    The names of its parameters are KAIR's: `model.0.weight`, `model.0.bias`, `model.2.weight`, …
    """

    def __init__(self, channels: Sequence[int], dilations: Sequence[int] | None = None) -> None:
        """`channels`: of the input and of each layer's output; `dilations`: one a layer, default 1."""
        super().__init__()
        layers: list[nn.Module] = []
        for i, (inputs, outputs) in enumerate(itertools.pairwise(channels)):
            dilation = dilations[i] if dilations else 1
            layers += [nn.Conv2d(inputs, outputs, 3, padding=dilation, dilation=dilation), nn.ReLU(inplace=True)]
        self.model = nn.Sequential(*layers[:-1])

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)


class DnCNN(ConvStack):
    """x − net(x), x of shape (B, C, H, W) in [0, 1]; one network a noise level."""

    def __init__(self, channels: int, layers: int) -> None:
        super().__init__([channels, *[FEATURES] * (layers - 1), channels])

    def forward(self, x: Tensor) -> Tensor:
        return x - self.model(x)


class DnCNNSet(nn.Module):
    """Networks for several noise levels as one that takes σ: the one used is the nearest in the logarithm.

    Rescaling the image to the network's level instead loses 5 dB at low noise, where its values leave [0, 1].
    """

    def __init__(self, networks: Mapping[float, DnCNN]) -> None:
        """`networks`: level, as σ in [0, 1] → network."""
        super().__init__()
        self.sigmas, self.levels = list(networks), nn.ModuleList(networks.values())

    def forward(self, x: Tensor, sigma: float) -> Tensor:
        return self.levels[min(range(len(self.sigmas)), key=lambda i: abs(math.log(self.sigmas[i] / sigma)))](x)


def named(convolutions: Sequence[Convolution]) -> dict[str, Tensor]:
    """The convolutions under `ConvStack`'s names."""
    tensors = {}
    for i, (weight, bias) in enumerate(convolutions):
        tensors |= {f"model.{2 * i}.weight": weight, f"model.{2 * i}.bias": bias}
    return tensors


def load_dncnn(path: Path, channels: int, layers: int) -> DnCNN:
    """DnCNN from a file in any of its layouts."""
    if path.suffix == ".mat":
        tensors = named(read_matconvnet(path))
    else:
        tensors = read_state_dict(path)
        if any(".dncnn." in f".{key}" for key in tensors):
            tensors = named(_merged(tensors, path))
    network = DnCNN(channels, layers)
    load_into(network, tensors, path)
    return network


def _merged(tensors: dict[str, Tensor], path: Path) -> list[Convolution]:
    """Convolutions of the layout `module.dncnn.*`, normalisations merged into the convolutions before them."""
    layers: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        *_, number, name = key.split(".")
        if number.isdigit():
            layers.setdefault(int(number), {})[name] = value
    found: list[Convolution] = []
    for number, layer in sorted(layers.items()):
        if "running_mean" in layer:
            if not found:
                raise ValueError(f"{path}: dncnn.{number} normalises the input, expected a convolution first")
            try:
                found[-1] = _merge(*found[-1], layer)
            except (KeyError, RuntimeError) as error:
                raise ValueError(f"{path}: dncnn.{number} does not fit the convolution before it: {error}") from None
        elif "weight" in layer:
            weight = layer["weight"].float()
            found.append((weight, layer.get("bias", torch.zeros(len(weight))).float()))
        else:
            raise ValueError(f"{path}: dncnn.{number} has no weight, but {', '.join(sorted(layer))}")
    return found


def _merge(weight: Tensor, bias: Tensor, norm: dict[str, Tensor]) -> Convolution:
    """γ (w∗x + b − μ)/√(v + ε) + β as one convolution."""
    scale = norm["weight"] / torch.sqrt(norm["running_var"] + BN_EPS)
    return weight * scale[:, None, None, None], (bias - norm["running_mean"]) * scale + norm["bias"]
