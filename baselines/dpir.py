"""DPIR (Zhang et al., TPAMI 2021): half-quadratic splitting with DRUNet; and the same loop with FFDNet.

The second needs no weights that are hard to come by. It is not in the paper.
"""

from collections.abc import Mapping
from pathlib import Path

import torch

from baselines import Method, Operator
from baselines.networks.drunet import load_drunet, split
from baselines.networks.ffdnet import load_ffdnet
from baselines.plug_and_play import dpir

COLOR = {"superres_color": True, "deblur_gray": False}


class DPIR(Method):
    """DRUNet in the loop; no parameter is tuned."""

    name = "dpir"
    label = "DPIR"
    tasks = ("superres_color", "deblur_gray")

    def weights_for(self, task: str, sigma: float) -> tuple[str, ...]:
        """`drunet_color` or `drunet_gray`."""
        return ("drunet_color" if COLOR[task] else "drunet_gray",)

    def setup(self, task: str, sigma: float, weights: Mapping[str, Path], device: torch.device) -> None:
        """Load the network."""
        super().setup(task, sigma, weights, device)
        (name,) = self.weights_for(task, sigma)
        self.network = load_drunet(weights[name], 3 if COLOR[task] else 1).to(device)

    def denoise(self, x: torch.Tensor, sigma: float) -> torch.Tensor:
        """One pass, large images in parts."""
        return split(lambda part: self.network(part, sigma), x)

    def reconstruct(self, y: torch.Tensor, operator: Operator, sigma: float) -> torch.Tensor:
        """The last denoised image."""
        x, iterations = dpir(y, operator, sigma, self.denoise)
        self.info = {"iterations": iterations}
        return x


class DPIRFFDNet(Method):
    """FFDNet in the loop."""

    name = "dpir_ffdnet"
    label = "DPIR (FFDNet)"
    tasks = ("superres_color", "deblur_gray")

    def weights_for(self, task: str, sigma: float) -> tuple[str, ...]:
        """`ffdnet_color` or `ffdnet_gray`."""
        return ("ffdnet_color" if COLOR[task] else "ffdnet_gray",)

    def setup(self, task: str, sigma: float, weights: Mapping[str, Path], device: torch.device) -> None:
        """Load the network."""
        super().setup(task, sigma, weights, device)
        (name,) = self.weights_for(task, sigma)
        self.network = load_ffdnet(weights[name], 3 if COLOR[task] else 1).to(device)

    def reconstruct(self, y: torch.Tensor, operator: Operator, sigma: float) -> torch.Tensor:
        """The last denoised image."""
        x, iterations = dpir(y, operator, sigma, self.network)
        self.info = {"iterations": iterations}
        return x
