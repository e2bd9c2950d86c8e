"""DPIR (Zhang et al., TPAMI 2021): half-quadratic splitting with DRUNet; and the same loop with other denoisers.

FFDNet and DnCNN need no weights that are hard to come by. Only DRUNet's rows are in the paper, and IRCNN's of
super-resolution (ircnn.py). Another denoiser takes a class with its name, label, `prefix` and `load`.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import ClassVar

import torch

from baselines import Method, Operator
from baselines.dncnn import LAYERS
from baselines.networks.dncnn import DnCNNSet, load_dncnn
from baselines.networks.drunet import load_drunet, split
from baselines.networks.ffdnet import load_ffdnet
from baselines.networks.ircnn import load_ircnn
from baselines.plug_and_play import dpir

COLOR = {"superres_color": True, "deblur_gray": False}
DNCNN = {"superres_color": ("color", (5, 15, 25)), "deblur_gray": ("plain", (5, 15, 40))}
"""Kind and levels (0-255 units) of the networks of DnCNN; those of Provable Plug-and-Play reach further in gray."""


class _HQS(Method):
    """A denoiser in DPIR's loop; no parameter is tuned."""

    tasks = ("superres_color", "deblur_gray")
    prefix: ClassVar[str]
    """The weights are called `<prefix>_color` and `<prefix>_gray`."""
    load: ClassVar[Callable[..., torch.nn.Module]]
    """File, or one for each of `weights_for`, and number of `channels` → network (x, σ) → denoised x."""

    def weights_for(self, task: str, sigma: float) -> tuple[str, ...]:
        """Those of the task's channels, whatever the noise level."""
        return (f"{self.prefix}_color" if COLOR[task] else f"{self.prefix}_gray",)

    def setup(self, task: str, sigma: float, weights: Mapping[str, Path], device: torch.device) -> None:
        """Load the network."""
        super().setup(task, sigma, weights, device)
        paths = [weights[name] for name in self.weights_for(task, sigma)]
        self.network = self.load(*paths, channels=3 if COLOR[task] else 1).to(device)

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
    remarks: ClassVar = {"deblur_gray": "the paper quotes a row that was made from measurements not rounded to 8 bits"}
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


def _load_dncnn(*paths: Path, channels: int) -> DnCNNSet:
    """The networks of DNCNN, from files in that order."""
    task = "superres_color" if channels == 3 else "deblur_gray"
    levels = (level / 255 for level in DNCNN[task][1])
    return DnCNNSet({s: load_dncnn(path, channels, LAYERS[channels]) for s, path in zip(levels, paths, strict=True)})


class DPIRDnCNN(_HQS):
    """DnCNN in the loop, at every σ_k that of the nearest level."""

    name = "dpir_dncnn"
    label = "DPIR (DnCNN)"
    load = staticmethod(_load_dncnn)

    def weights_for(self, task: str, sigma: float) -> tuple[str, ...]:
        """All levels, since the loop passes them all."""
        kind, levels = DNCNN[task]
        return tuple(f"dncnn_{kind}_{level}" for level in levels)
