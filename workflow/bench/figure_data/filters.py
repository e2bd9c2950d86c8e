"""What a model shows without data: effective kernels, the spectrum of WᵀW, splines (Figures 6, 13, 14 and 15)."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import rotate

from bench import registry
from bench.config import Config
from bench.provenance import sha256

if TYPE_CHECKING:
    from deal import DEAL

GRID = 279
"""Side of the authors' grid for ‖WᵀW‖: a 49×49 impulse response, 115 pixels of zeros on each side."""
PAPER_CHANNELS = (44, 93, 99)
"""Channels of the authors' gray weights that the paper shows, counted from 0."""
NEAR_ZERO = 1e-10
"""Eigenvalues of WᵀW below this fraction of the largest count as zero: float64 leaves 1e−16 of a true zero."""
SIGMAS_255 = (25, 15, 5)
CURVE = 401
"""Points of a drawn spline."""


def model(config: Config, kind: str) -> tuple["DEAL", dict[str, str]]:
    """DEAL of `kind` ("gray" or "color") in float64 on the CPU, and {name of the weights: sha256}."""
    task, name = f"denoise_{kind}", f"deal_{kind}"
    path: Path = registry.locate(name, config)
    method = registry.create("deal", config)
    method.setup(task, 25 / 255, {name: path}, torch.device("cpu"))
    return method.model.double(), {name: sha256(path)}


def collect(config: Config, kind: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Kernels, spectrum and splines of one model."""
    deal, weights = model(config, kind)
    kernels = effective_kernels(deal)
    found = eigenvalues(kernels)
    arrays = {
        "W": kernels.astype(np.float32),
        "W_mask": effective_kernels(deal, "W_mask").astype(np.float32),
        "response": normal_response(deal),
        "eigenvalues": np.fft.fftshift(found, axes=(0, 1)),
        **splines(deal),
    }
    paper = kind == "gray" and config.weights == "official"
    channels = dict(zip("abc", PAPER_CHANNELS, strict=True)) if paper else choose_channels(kernels)
    zero = np.sort(found.ravel())
    meta = {
        "weights": weights,
        "kind": kind,
        "channels": list(channels.values()),
        "sigmas_255": list(SIGMAS_255),
        "architecture": architecture(deal),
        "facts": {
            "kind": {"gray": "gray", "color": "colour"}[kind],
            "weights": config.weights,
            "channels": ", ".join(map(str, channels.values())),
            "parameters": f"{architecture(deal)['parameters']:,}".replace(",", "\u202f"),
            "count": str(kernels.shape[0]),
            "support": str(kernels.shape[-1]),
            "grid": str(GRID),
            "zeros": str(int((zero < NEAR_ZERO * zero[-1]).sum())),
            "of": str(zero.size),
            "middle": f"{arrays['response'][0, 0].max():.2f}",
            "smallest": f"{abs(zero[0]):.0e}",
            "next": f"{zero[1]:.1e}",
            "largest": f"{zero[-1]:.3f}",
        },
    }
    return arrays, meta


@torch.no_grad()
def splines(deal: "DEAL") -> dict[str, np.ndarray]:
    """φ1 and φ2 on [−4, 4]; clip(φ3(α_c(σ)|t|), 0.01, 1) on [−10, 10], (levels, 128, points)."""
    exact = torch.float64
    small, wide = (torch.linspace(-end, end, CURVE, dtype=exact) for end in (4, 10))
    levels = torch.tensor(SIGMAS_255, dtype=exact)
    weight = deal.phi3(deal.alpha(levels / 255)[:, :, None] * wide).clamp(0.01, 1)
    found = {"t_small": small, "t_wide": wide, "phi1": deal.phi1(small), "phi2": deal.phi2(small)}
    found["phi_sigma"] = weight
    return {name: value.numpy() for name, value in found.items()}


def architecture(deal: "DEAL") -> dict[str, Any]:
    """Sizes that the schematics name."""
    return {
        "channels": list(deal.W.channels),
        "kernel": int(deal.W.weights[0].shape[-1]),
        "mask_kernel": int(deal.M2.weight.shape[-1]),
        "parameters": sum(p.numel() for p in deal.parameters()),
    }


@torch.no_grad()
def normal_response(deal: "DEAL") -> np.ndarray:
    """Impulse responses of WᵀW/L in float64, (output channel, input channel, 49, 49), 0-shift in the middle."""
    kernels = effective_kernels(deal)
    size = kernels.shape[-1]
    # WᵀW correlates the composite kernels with one another; F.conv2d is that correlation.
    k = torch.from_numpy(kernels).transpose(0, 1)
    return F.conv2d(k, k, padding=size - 1).numpy()


@torch.no_grad()
def effective_kernels(deal: "DEAL", which: str = "W") -> np.ndarray:
    """Responses to an impulse, (128, C, 25, 25) in float64: of W divided by √L, or of W_mask as it is."""
    block = getattr(deal, which)
    kernels = block.effective_kernels().double().cpu()
    return (kernels / block.squared_norm().double().cpu().sqrt() if which == "W" else kernels).numpy()


def transfer(kernels: np.ndarray, grid: int = GRID) -> np.ndarray:
    """Ŵᴴ Ŵ on a periodic grid, the half of it that `rfft2` keeps.

    Kernels (N, C, k, k) give Hermitian matrices (grid, grid//2 + 1, C, C).
    """
    channels = kernels.shape[1]
    total = np.zeros((grid, grid // 2 + 1, channels, channels), dtype=complex)
    for some in np.array_split(kernels, 16):  # a spectrum of all of them fills half a gigabyte
        hat = np.fft.rfft2(some, s=(grid, grid)).transpose(2, 3, 0, 1)
        total += hat.conj().swapaxes(2, 3) @ hat
    return total


def eigenvalues(kernels: np.ndarray, grid: int = GRID) -> np.ndarray:
    """Eigenvalues of the periodic WᵀW at each frequency, ascending, (grid, grid, C)."""
    half = np.linalg.eigvalsh(transfer(kernels, grid))
    opposite = np.roll(half[::-1], 1, axis=0)[:, (grid - 1) // 2 : 0 : -1]  # W is real: the same at −ω
    return np.concatenate([half, opposite], axis=1)


def orientation(kernels: np.ndarray) -> np.ndarray:
    """1 for a filter that sees vertical edges only, −1 for horizontal ones, 0 for neither: (N, C, k, k) → (N,).

    The mean of (ω_x² − ω_y²)/(ω_x² + ω_y²) over the filter's power spectrum.
    """
    grid = 64
    power = (np.abs(np.fft.fft2(kernels, s=(grid, grid))) ** 2).sum(1)
    rows, columns = np.meshgrid(np.fft.fftfreq(grid), np.fft.fftfreq(grid), indexing="ij")
    squared = rows**2 + columns**2
    squared[0, 0] = 1
    return (power * (columns**2 - rows**2) / squared).sum((1, 2)) / power.sum((1, 2))


def choose_channels(kernels: np.ndarray) -> dict[str, int]:
    """The most telling vertical, horizontal and oblique filter: orientation times the norm of the kernel."""
    norm = np.sqrt((kernels**2).sum((1, 2, 3)))
    flipped = orientation(rotated_45(kernels))
    score = orientation(kernels)
    return {
        "vertical": int(np.argmax(score * norm)),
        "horizontal": int(np.argmax(-score * norm)),
        "oblique": int(np.argmax(np.abs(flipped) * norm * (1 - np.abs(score)))),
    }


def rotated_45(kernels: np.ndarray) -> np.ndarray:
    """The kernels turned by 45°, bilinearly, as the orientation of oblique filters needs; same shape."""
    return rotate(kernels, 45, axes=(-2, -1), reshape=False, order=1)
