"""FFDNet (Zhang, Zuo, Zhang, TIP 2018): one network for all noise levels. Not in the paper; an extra row."""

from collections.abc import Mapping
from pathlib import Path

import torch

from baselines import Method, Operator
from baselines.networks.ffdnet import load_ffdnet

CHANNELS = {"denoise_gray": 1, "denoise_color": 3}


class FFDNet(Method):
    """The authors' MatConvNet models; the noise level is an input of the network."""

    name = "ffdnet"
    label = "FFDNet"
    batches = True
    tasks = ("denoise_gray", "denoise_color")

    def weights_for(self, task: str, sigma: float) -> tuple[str, ...]:
        """`ffdnet_gray` or `ffdnet_color`."""
        return (f"ffdnet_{task.removeprefix('denoise_')}",)

    def setup(self, task: str, sigma: float, weights: Mapping[str, Path], device: torch.device) -> None:
        """Load the network."""
        super().setup(task, sigma, weights, device)
        (name,) = self.weights_for(task, sigma)
        self.network = load_ffdnet(weights[name], CHANNELS[task]).to(device)

    def reconstruct(self, y: torch.Tensor, operator: Operator, sigma: float) -> torch.Tensor:
        """One pass."""
        return self.network(y, sigma)
