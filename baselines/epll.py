"""EPLL: expected patch log-likelihood under a Gaussian mixture (Zoran, Weiss, ICCV 2011), for deblurring.

Half-quadratic splitting, β = 50·(1, 2, 4, …, 64) with one round each, from the measurement: every 8×8 patch, without
its mean, becomes its Wiener estimate at noise level β^(-1/2) under the component most likely for it; overlapping
patches are averaged to v; x = argmin ½‖Ax − y‖² + ½ βσ² ‖x − v‖². This is the schedule of the authors' deblurring; for
denoising they take β = (1, 4, 8, 16, 32)/σ².
"""

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from baselines import Method, Operator

SIDE = 8
BETAS = tuple(50.0 * 2**k for k in range(7))
_PATCHES = 1 << 14  # patches at a time


class Prior:
    """A mixture of Gaussians of mean zero on patches without their mean.

    Args:
        weights: (K,), positive, sum 1.
        covariances: (K, 64, 64), pixels of a patch in row-major order, images in [0, 1].
    """

    def __init__(self, weights: Tensor, covariances: Tensor, device: torch.device | str = "cpu") -> None:
        size = SIDE * SIDE
        if weights.ndim != 1 or covariances.shape != (len(weights), size, size):
            raise ValueError(f"weights {tuple(weights.shape)} and covariances {tuple(covariances.shape)} do not fit")
        if not (torch.isfinite(covariances).all() and (weights > 0).all()):
            raise ValueError("a mixture has positive weights and finite covariances")
        self.learned = weights.numel() + covariances.numel()
        self.weights = (weights / weights.sum()).double().to(device)
        values, vectors = torch.linalg.eigh(((covariances + covariances.mT) / 2).double())
        self.values, self.vectors = values.clamp(min=0).to(device), vectors.to(device)

    @classmethod
    def load(cls, path: Path, device: torch.device | str = "cpu") -> "Prior":
        """From an .npz of this project, or the authors' GSModel_8x8_200_2M_noDC_zeromean.mat (MATLAB: column-major)."""
        try:
            if path.suffix == ".mat":
                from scipy.io import loadmat

                model = loadmat(path)["GS"][0, 0]
                weights, covariances = model["mixweights"].ravel(), model["covs"].transpose(2, 0, 1)
                order = np.arange(SIDE * SIDE).reshape(SIDE, SIDE).T.ravel()
                covariances = covariances[:, order][:, :, order]
            else:
                with path.open("rb") as handle, np.load(handle, allow_pickle=False) as found:
                    weights, covariances = found["weights"], found["covariances"]
            return cls(*(torch.from_numpy(np.array(v, dtype=np.float64)) for v in (weights, covariances)), device)
        except Exception as error:  # numpy and scipy raise whatever their parsers stumble on
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise ValueError(f"{path}: not a prior of EPLL ({reason})") from None

    def denoise(self, patches: Tensor, variance: float) -> Tensor:
        """Wiener estimates of patches (N, 64) without mean, each under its most likely component."""
        noisy = self.values + variance
        scores = patches.new_empty(len(self.weights), len(patches))
        constants = self.weights.log() - noisy.log().sum(1) / 2
        for k, whitening in enumerate((self.vectors * noisy.rsqrt()[:, None, :]).to(patches)):
            scores[k] = float(constants[k]) - (patches @ whitening).square_().sum(1) / 2
        chosen = scores.argmax(0)
        gains = (self.vectors * (self.values / noisy)[:, None, :]) @ self.vectors.mT
        out = torch.empty_like(patches)
        for k in chosen.unique().tolist():
            rows = chosen == k
            out[rows] = patches[rows] @ gains[k].to(patches)
        return out


def average(x: Tensor, prior: Prior, variance: float) -> Tensor:
    """The mean over all patches that hold a pixel of their estimates; x is (B, 1, H, W)."""
    columns = F.unfold(x, SIDE).transpose(1, 2)
    means = columns.mean(2, keepdim=True)
    flat = (columns - means).reshape(-1, SIDE * SIDE)
    flat = torch.cat([prior.denoise(part, variance) for part in flat.split(_PATCHES)])
    columns = (flat.view_as(columns) + means).transpose(1, 2)
    counts = F.fold(torch.ones_like(columns[:1]), x.shape[-2:], SIDE)
    return F.fold(columns, x.shape[-2:], SIDE) / counts


class EPLL(Method):
    """A 200-component mixture, trained from BSD400 by the workflow, or the authors' prior file."""

    name = "epll"
    label = "EPLL"
    tasks = ("deblur_gray",)
    remarks: ClassVar = {
        "deblur_gray": "a circular boundary known to the method, a prior that may be our own training's; "
        "the paper quotes a row that was made "
        "from measurements not rounded to 8 bits"
    }

    def __init__(self) -> None:
        super().__init__()
        self.prior: Prior | None = None

    def weights_for(self, task: str, sigma: float) -> tuple[str, ...]:
        """One prior for all noise levels."""
        return ("epll_prior",)

    def setup(self, task: str, sigma: float, weights: Mapping[str, Path], device: torch.device) -> None:
        """Load the prior."""
        super().setup(task, sigma, weights, device)
        self.prior = Prior.load(weights["epll_prior"], device)

    def reconstruct(self, y: Tensor, operator: Operator, sigma: float) -> Tensor:
        """The image after the last β."""
        if self.prior is None:
            raise RuntimeError("setup has not been called")
        x = y
        for beta in BETAS:
            x = operator.prox(average(x, self.prior, 1 / beta), y, beta * sigma**2)
        self.info = {"iterations": len(BETAS)}
        return x.float()
