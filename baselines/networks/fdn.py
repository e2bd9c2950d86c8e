"""Fourier deconvolution network (Kruse, Rother, Schmidt, ICCV 2017), as published: ten stages, Keras weights.

A stage is x⁺ = F⁻¹[(λ K̄ Y + F(f(x))) / (λ|K|² + Σ_i |G_i|²)], with K the transfer function of the blur, f a small
CNN, g_i = Σ_j B_j w_ji 24 filters of 5×5 pixels without mean (B the DCT basis), and λ = softplus(MLP(1/σ²)), σ in
0-255 units. All convolutions of f pad with zeros, after 20 pixels of replication that are cut off again.
"""

import re
from pathlib import Path

import h5py
import numpy as np
import torch
import torch.nn.functional as F
from scipy.fft import idctn
from torch import Tensor, nn

BORDER, SIDE, FILTERS = 20, 5, 24


def dct_basis() -> Tensor:
    """The orthonormal DCT basis of SIDE × SIDE patches without the constant, one filter a column, (25, 24)."""
    columns = []
    for index in range(1, SIDE * SIDE):
        unit = np.zeros((SIDE, SIDE))
        unit.flat[index] = 1
        columns.append(idctn(unit, norm="ortho").T.ravel())
    return torch.from_numpy(np.stack(columns, axis=1)).float()


def transfer(kernels: Tensor, height: int, width: int) -> Tensor:
    """Spectra (…, height, width // 2 + 1) of real kernels (…, h, w) whose centre is [h // 2, w // 2].

    Kernels larger than the image wrap around, as circular convolution has it.
    """
    h, w = kernels.shape[-2:]
    rows = (torch.arange(h, device=kernels.device) - h // 2) % height
    columns = (torch.arange(w, device=kernels.device) - w // 2) % width
    grid = kernels.new_zeros(*kernels.shape[:-2], height, w).index_add_(-2, rows, kernels)
    grid = kernels.new_zeros(*kernels.shape[:-2], height, width).index_add_(-1, columns, grid)
    return torch.fft.rfft2(grid)


class Stage(nn.Module):
    """One update of the image; the names of its parts are those of the published file."""

    def __init__(self) -> None:
        super().__init__()
        convs = [(1, 32), (32, 32), (32, 32), (32, 32), (32, 32), (32, 1)]
        self.conv = nn.ModuleList(nn.Conv2d(i, o, 3, padding=1) for i, o in convs)
        self.dense = nn.ModuleList(nn.Linear(i, o) for i, o in [(1, 16), (16, 16), (16, 16), (16, 1)])
        self.filter_weights = nn.Parameter(torch.eye(FILTERS))
        self.register_buffer("basis", dct_basis(), persistent=False)

    def strength(self, sigma_255: float) -> Tensor:
        """λ(σ), a scalar."""
        out = self.filter_weights.new_full((1, 1), 1 / sigma_255**2)
        for layer in self.dense[:-1]:
            out = F.elu(layer(out))
        return F.softplus(self.dense[-1](out)).squeeze()

    def regularised(self, x: Tensor) -> Tensor:
        """f(x), (B, 1, H, W)."""
        out = F.pad(x, (BORDER,) * 4, mode="replicate")
        for layer in self.conv[:-1]:
            out = F.elu(layer(out))
        return self.conv[-1](out)[..., BORDER:-BORDER, BORDER:-BORDER]

    def forward(self, x: Tensor, y: Tensor, blur: Tensor, sigma_255: float) -> Tensor:
        """x⁺; `blur` is K on the grid of `rfft2`."""
        height, width = x.shape[-2:]
        filters = (self.basis @ self.filter_weights).T.reshape(FILTERS, SIDE, SIDE)
        prior = transfer(filters, height, width).abs().square().sum(0)
        lmbda = self.strength(sigma_255)
        numerator = lmbda * torch.fft.rfft2(y) * blur.conj() + torch.fft.rfft2(self.regularised(x))
        return torch.fft.irfft2(numerator / (lmbda * blur.abs().square() + prior), s=(height, width))


def load(path: Path) -> list[Stage]:
    """The stages in their order; ValueError for a file of another layout."""
    stages = []
    try:
        with h5py.File(path) as file:
            names = [name.decode() for name in file.attrs["layer_names"]]
            for name in (n for n in names if re.fullmatch(r"model_\d+", n)):
                stages.append(_stage(file[name]))
    except Exception as error:  # h5py raises whatever a damaged file makes it stumble on
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{path}: not a Keras file of FDN's layout ({reason})") from None
    if not stages:
        raise ValueError(f"{path}: holds no stage of FDN")
    return stages


def _stage(group: h5py.Group) -> Stage:
    parts = {name.rsplit("_", 1)[0]: group[name] for name in group}
    stage = Stage()
    with torch.no_grad():
        stage.filter_weights.copy_(torch.from_numpy(parts["x_out"]["filter_weights:0"][()]))
        for number, layer in enumerate(stage.conv, 1):
            layer.weight.copy_(torch.from_numpy(parts[f"conv{number}"]["kernel:0"][()]).permute(3, 2, 0, 1))
            layer.bias.copy_(torch.from_numpy(parts[f"conv{number}"]["bias:0"][()]))
        for layer, name in zip(stage.dense, ("dense1", "dense2", "dense3", "lambda"), strict=True):
            layer.weight.copy_(torch.from_numpy(parts[name]["kernel:0"][()]).T)
            layer.bias.copy_(torch.from_numpy(parts[name]["bias:0"][()]))
    return stage.eval().requires_grad_(False)
