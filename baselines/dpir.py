"""DPIR (Zhang et al., TPAMI 2021): half-quadratic splitting with DRUNet; and the same loop with FFDNet.

The second needs no weights that are hard to come by. It is not in the paper.
Another denoiser takes a class with its name, label, `prefix` and `load`.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import ClassVar

import torch

from baselines import Method, Operator
from baselines.networks.drunet import load_drunet, split
from baselines.networks.ffdnet import load_ffdnet
from baselines.plug_and_play import dpir

COLOR = {"superres_color": True, "deblur_gray": False}


class _HQS(Method):
    """A denoiser in DPIR's loop; no parameter is tuned."""

    tasks = ("superres_color", "deblur_gray")
    prefix: ClassVar[str]
    """The weights are called `<prefix>_color` and `<prefix>_gray`."""
    load: ClassVar[Callable[[Path, int], torch.nn.Module]]
    """File and number of channels → network (x, σ) → denoised x."""

    def weights_for(self, task: str, sigma: float) -> tuple[str, ...]:
        """Those of the task's channels, whatever the noise level."""
        return (f"{self.prefix}_color" if COLOR[task] else f"{self.prefix}_gray",)

    def setup(self, task: str, sigma: float, weights: Mapping[str, Path], device: torch.device) -> None:
        """Load the network."""
        super().setup(task, sigma, weights, device)
        (name,) = self.weights_for(task, sigma)
        self.network = self.load(weights[name], 3 if COLOR[task] else 1).to(device)

    def denoise(self, x: torch.Tensor, sigma: float) -> torch.Tensor:
        """One pass."""
        return self.network(x, sigma)

    def reconstruct(self, y: torch.Tensor, operator: Operator, sigma: float) -> torch.Tensor:
        """The last denoised image."""
        x, iterations = dpir(y, operator, sigma, self.denoise)
        self.info = {"iterations": iterations}
        return x


class DPIR(_HQS):
    """DRUNet in the loop."""

    name = "dpir"
    label = "DPIR"
    prefix = "drunet"
    load = staticmethod(load_drunet)

    def denoise(self, x: torch.Tensor, sigma: float) -> torch.Tensor:
        """One pass, large images in parts."""
        return split(lambda part: self.network(part, sigma), x)


class DPIRFFDNet(_HQS):
    """FFDNet in the loop."""

    name = "dpir_ffdnet"
    label = "DPIR (FFDNet)"
    prefix = "ffdnet"
    load = staticmethod(load_ffdnet)
