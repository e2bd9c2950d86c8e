"""IRCNN (Zhang et al., CVPR 2017): half-quadratic splitting with 25 denoisers.

Super-resolution as DPIR's authors run it: their loop with these denoisers. Deblurring as in the authors'
MATLAB demo, which made Table 5's row: 30 iterations, ρ_k = (σ²/3)/σ_k², no self-ensemble. The demo lets σ_k
fall to 13, to be chosen among 1, 3, …, 15; so it is tuned.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import torch

from baselines import Hyperparameter, Method, Operator
from baselines.networks.ircnn import load_ircnn
from baselines.plug_and_play import FLOOR_255, dpir, half_quadratic_splitting, schedule

COLOR = {"superres_color": True, "deblur_gray": False}
ITERATIONS = 30
LAST_255 = Hyperparameter(13.0, 1.0, 15.0)


class IRCNN(Method):
    """The denoisers by Zhang et al., in the loop of the task."""

    name = "ircnn"
    label = "IRCNN"
    tasks = ("superres_color", "deblur_gray")
    remarks: ClassVar = {"deblur_gray": "the paper quotes a row that was made from measurements not rounded to 8 bits"}
    tuned_tasks = ("deblur_gray",)

    def weights_for(self, task: str, sigma: float) -> tuple[str, ...]:
        """`ircnn_color` or `ircnn_gray`."""
        return ("ircnn_color" if COLOR[task] else "ircnn_gray",)

    def hyperparameters_for(self, task: str, sigma: float) -> Mapping[str, Hyperparameter]:
        """For deblurring `last_255`, the last σ_k in 0-255 units; else none."""
        return {} if COLOR[task] else {"last_255": LAST_255}

    def setup(self, task: str, sigma: float, weights: Mapping[str, Path], device: torch.device) -> None:
        """Load the denoisers."""
        super().setup(task, sigma, weights, device)
        (name,) = self.weights_for(task, sigma)
        self.color = COLOR[task]
        self.network = load_ircnn(weights[name], 3 if self.color else 1).to(device)

    def reconstruct(
        self, y: torch.Tensor, operator: Operator, sigma: float, *, last_255: float = LAST_255.default
    ) -> torch.Tensor:
        """The last denoised image."""
        if self.color:
            x, iterations = dpir(y, operator, sigma, self.network)
        else:
            iterations, sigmas = ITERATIONS, schedule(last_255 / 255, ITERATIONS)
            rhos = [max(sigma, FLOOR_255 / 255) ** 2 / 3 / level**2 for level in sigmas]
            x = half_quadratic_splitting(y, y, operator, self.network, sigmas, rhos, ensemble=False)
        self.info = {"iterations": iterations}
        return x
