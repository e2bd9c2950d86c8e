"""DPIR (Zhang et al., TPAMI 2021): half-quadratic splitting with DRUNet; and the same loop with other denoisers.

FFDNet and DnCNN need no weights that are hard to come by. Only DRUNet's rows are in the paper, and IRCNN's of
super-resolution (ircnn.py). Another denoiser takes a class with its name, label, `prefix` and `load`.
"""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import ClassVar

import torch

from baselines import Method, Operator
from baselines.networks.dncnn import load_dncnn
from baselines.networks.drunet import load_drunet, split
from baselines.networks.ffdnet import load_ffdnet
from baselines.networks.ircnn import load_ircnn
from baselines.plug_and_play import dpir

COLOR = {"superres_color": True, "deblur_gray": False}
DNCNN = {True: ("color", (5, 15, 25)), False: ("plain", (5, 15, 40))}
"""By colour: kind and levels (0-255 units) of the networks of DnCNN."""


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


class DPIRIRCNN(_HQS):
    """IRCNN's denoisers in the loop, for deblurring; for super-resolution that is what `ircnn` does."""

    name = "dpir_ircnn"
    label = "DPIR (IRCNN)"
    tasks = ("deblur_gray",)
    prefix = "ircnn"
    load = staticmethod(load_ircnn)


class DPIRDnCNN(_HQS):
    """DnCNN in the loop: at every level the network whose own level is nearest, in the logarithm.

    Rescaling the image to the network's level instead loses 5 dB at low noise, where its values leave [0, 1].
    """

    name = "dpir_dncnn"
    label = "DPIR (DnCNN)"

    def weights_for(self, task: str, sigma: float) -> tuple[str, ...]:
        """All levels that the loop passes: of the plain gray networks for deblurring, or the colour ones."""
        kind, levels = DNCNN[COLOR[task]]
        return tuple(f"dncnn_{kind}_{level}" for level in levels)

    def setup(self, task: str, sigma: float, weights: Mapping[str, Path], device: torch.device) -> None:
        """Load the networks."""
        Method.setup(self, task, sigma, weights, device)
        channels, layers = (3, 20) if COLOR[task] else (1, 17)
        _, levels = DNCNN[COLOR[task]]
        self.networks = {
            level / 255: load_dncnn(weights[name], channels, layers).to(device)
            for level, name in zip(levels, self.weights_for(task, sigma), strict=True)
        }

    def denoise(self, x: torch.Tensor, sigma: float) -> torch.Tensor:
        """One pass of the nearest network."""
        return self.networks[min(self.networks, key=lambda level: abs(math.log(level / sigma)))](x)
