"""SARR: a ridge regulariser with spatially adaptive weights (Neumayer, Altekrüger, 2024).

WCRR gives x¹; a SwinIR network turns it into weights Λ in [0, 1], one image for each filter; then the problem is solved
once more with ∇R = Wᵀ(Λ ⊙ φ(W x)). The authors fine-tuned the network for MRI on validation images; those weights are
taken for MRI, as they did. Whether the paper's row has them is not known, so `sarr_plain` does without. The first stage
keeps there the σ to which they had tuned WCRR; λ is shared.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from baselines import Hyperparameter, Method, Operator
from baselines.networks.crr import RidgeRegulariser, load_ridge
from baselines.networks.readers import read_pth, read_state_dict
from baselines.networks.swinir import SwinIR, load_swinir
from baselines.wcrr import denoise, sagd, starting_point

MRI_TUNED = {
    "single4_pd": (4.3869e-3, 11.3975),
    "single4_pdfs": (2.9056e-3, 21.1442),
    "multi8_pd": (1.2747e-3, 10.6412),
    "multi8_pdfs": (1.4623e-3, 11.3975),
}
"""Setting of MRI → (λ, σ in 0-255 units), tuned by the authors; of other settings those of the first are taken."""


class SARR(Method):
    """The weakly convex version with the SwinIR mask."""

    name = "sarr"
    label = "SARR"
    tasks = ("denoise_gray", "mri")
    tuned_tasks = ("mri",)

    def __init__(self) -> None:
        super().__init__()
        self.task = ""
        self.first: RidgeRegulariser | None = None
        self.second: RidgeRegulariser | None = None
        self.network: SwinIR | None = None

    def weights_for(self, task: str, sigma: float) -> tuple[str, ...]:
        """WCRR's, for the first stage, and the retrained profiles with the mask network."""
        return ("wcrr", "sarr_mri" if task == "mri" else "sarr")

    def hyperparameters_for(self, task: str, sigma: float) -> Mapping[str, Hyperparameter]:
        """None for denoising; λ and the second stage's noise level for MRI."""
        if task != "mri":
            return {}
        lmbda, level = self._tuned
        return {"lmbda": Hyperparameter(lmbda, 1e-6, 10), "sigma_255": Hyperparameter(level, 0.1, 50)}

    def setup(self, task: str, sigma: float, weights: Mapping[str, Path], device: torch.device) -> None:
        """Load both regularisers and the network."""
        super().setup(task, sigma, weights, device)
        self.task = task
        plain, path = (weights[name] for name in self.weights_for(task, sigma))
        self.first = load_ridge(read_state_dict(plain), plain, True, device)
        found = read_pth(path)
        for key in ("state_dict", "state_dict_mask"):
            if key not in found:
                raise ValueError(f"{path}: has no entry '{key}'")
        self.second = load_ridge(found["state_dict"], path, True, device)
        self.network = load_swinir(found["state_dict_mask"], path).to(device)

    @property
    def _tuned(self) -> tuple[float, float]:
        return MRI_TUNED.get(self.setting, MRI_TUNED["single4_pd"])

    def reconstruct(
        self,
        y: Tensor,
        operator: Operator,
        sigma: float,
        *,
        lmbda: float | None = None,
        sigma_255: float | None = None,
    ) -> Tensor:
        """The second stage's minimiser, unclipped; `info` counts the iterations of both stages."""
        if self.first is None or self.second is None or self.network is None:
            raise RuntimeError("setup has not been called")
        level = sigma * 255
        plain = starting_point(self.task, sigma, self.setting)
        one = self.first.at(level if plain is None else plain[1])
        if plain is not None:
            lmbda, level = (d if v is None else v for v, d in zip((lmbda, sigma_255), self._tuned, strict=True))
        two = self.second.at(level)
        if plain is not None:
            zero = torch.zeros_like(operator.A_adjoint(y))
            x, before, _ = sagd(y, operator, one.gradient, one.mu, lmbda, start=zero, tol=1e-5, most=1000)
            masked = partial(two.gradient, mask=self.network(x))
            x, after, converged = sagd(y, operator, masked, two.mu, lmbda, start=x, tol=1e-5, most=1000)
        else:
            x, before, _ = denoise(y, one.gradient, one.mu, most=250)
            masked = partial(two.gradient, mask=self.network(x))
            x, after, converged = denoise(y, masked, two.mu)
        self.info = {"iterations": before + after, "converged": converged}
        return x


class SARRPlain(SARR):
    """MRI with the mask network as it was trained for denoising; its tuning starts from SARR's values."""

    name = "sarr_plain"
    label = "SARR (not fine-tuned)"
    tasks = ("mri",)

    def weights_for(self, task: str, sigma: float) -> tuple[str, ...]:
        """Those for denoising."""
        return ("wcrr", "sarr")
