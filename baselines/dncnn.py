"""DnCNN (Zhang et al., TIP 2017): one residual network for each noise level, batch normalisation merged.

The authors' MatConvNet models. They trained gray ones for σ = 10, 15, …, 75 and colour ones for 5, 10, 15, 25,
35, 50; the data registry has those of Table 1, so there is none for σ = 5 in gray.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import torch

from baselines import Method, Operator
from baselines.networks.dncnn import load_dncnn

CHANNELS = {"denoise_gray": 1, "denoise_color": 3}
LAYERS = {1: 17, 3: 20}
LEVELS = {"denoise_gray": (15, 25), "denoise_color": (5, 15, 25)}


class DnCNN(Method):
    """x − net(x), with the network of the noise level."""

    name = "dncnn"
    label = "DnCNN"
    batches = True
    tasks = ("denoise_gray", "denoise_color")
    remarks: ClassVar = {
        "denoise_color": "the authors' published networks; the paper's row is of a DnCNN that Hurault et al. trained, "
        "and what the published ones were trained on is not documented"
    }

    def unavailable(self, task: str, sigma: float) -> str | None:
        """Says which noise levels there are where there is none for σ."""
        if self.weights_for(task, sigma):
            return None
        kind, levels = task.removeprefix("denoise_"), " and ".join(map(str, LEVELS[task]))
        return f"DnCNN has no {kind} network for σ = {255 * sigma:g} (https://github.com/cszn/DnCNN); here: {levels}"

    def weights_for(self, task: str, sigma: float) -> tuple[str, ...]:
        """`dncnn_gray_15` and the like; none for a noise level without a network."""
        kind, sigma_255 = task.removeprefix("denoise_"), 255 * sigma
        return tuple(f"dncnn_{kind}_{level}" for level in LEVELS[task] if abs(sigma_255 - level) < 1e-6)

    def setup(self, task: str, sigma: float, weights: Mapping[str, Path], device: torch.device) -> None:
        """Load the network of the noise level."""
        super().setup(task, sigma, weights, device)
        (name,) = self.weights_for(task, sigma)
        channels = CHANNELS[task]
        self.network = load_dncnn(weights[name], channels, LAYERS[channels]).to(device)

    def reconstruct(self, y: torch.Tensor, operator: Operator, sigma: float) -> torch.Tensor:
        """One pass."""
        return self.network(y)
