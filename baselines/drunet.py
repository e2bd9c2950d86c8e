"""DRUNet (Zhang et al., TPAMI 2021): a U-Net of residual blocks that takes the noise level as an input.

The authors' weights. Sides that are no multiple of 8 are handled as in their tests: four overlapping quarters.
The paper's colour row quotes a lighter network of other authors; these weights score about 0.1 dB more.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import torch

from baselines import Method, Operator
from baselines.networks.drunet import in_four, load_drunet

CHANNELS = {"denoise_gray": 1, "denoise_color": 3}


class DRUNet(Method):
    """One pass at the noise level of the measurement."""

    name = "drunet"
    label = "DRUNet"
    batches = True
    tasks = ("denoise_gray", "denoise_color")
    remarks: ClassVar = {
        "denoise_color": "the authors' published network; "
        "the paper's row is of a lighter one that Hurault et al. trained"
    }

    def weights_for(self, task: str, sigma: float) -> tuple[str, ...]:
        """`drunet_gray` or `drunet_color`."""
        return (f"drunet_{task.removeprefix('denoise_')}",)

    def setup(self, task: str, sigma: float, weights: Mapping[str, Path], device: torch.device) -> None:
        """Load the network."""
        super().setup(task, sigma, weights, device)
        (name,) = self.weights_for(task, sigma)
        self.network = load_drunet(weights[name], CHANNELS[task]).to(device)

    def reconstruct(self, y: torch.Tensor, operator: Operator, sigma: float) -> torch.Tensor:
        """One pass, in four parts where the size asks for it."""
        return in_four(lambda x: self.network(x, sigma), y)
