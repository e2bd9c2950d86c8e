"""The 25 denoisers of IRCNN (Zhang et al., CVPR 2017), for σ = 2, 4, …, 50 in 0-255 units.

Seven dilated 3×3 convolutions of 64 features that predict the noise. Published (KAIR) as one dictionary
"0" … "24" → state dict.
"""

import math
from pathlib import Path

from torch import Tensor, nn

from baselines.networks.dncnn import FEATURES, ConvStack
from baselines.networks.readers import load_into, read_pth

DILATIONS = (1, 2, 3, 4, 3, 2, 1)
LEVELS = 25


class IRCNN(ConvStack):
    """x − net(x) for one noise level."""

    def __init__(self, channels: int) -> None:
        super().__init__([channels, *[FEATURES] * 6, channels], DILATIONS)

    def forward(self, x: Tensor) -> Tensor:
        return x - self.model(x)


class IRCNNSet(nn.Module):
    """The 25 denoisers as one that takes σ: the level used is the next even one above, between 2 and 50."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.levels = nn.ModuleList(IRCNN(channels) for _ in range(LEVELS))

    def forward(self, x: Tensor, sigma: float) -> Tensor:
        return self.levels[level(sigma)](x)


def level(sigma: float) -> int:
    """Index of the denoiser for σ in [0, 1]: ⌈255 σ / 2⌉ − 1, in 0 … 24."""
    return min(max(math.ceil(round(255 * sigma / 2, 6)) - 1, 0), LEVELS - 1)


def load_ircnn(path: Path, channels: int) -> IRCNNSet:
    """The set from KAIR's `ircnn_gray.pth` or `ircnn_color.pth`."""
    found = read_pth(path)
    network = IRCNNSet(channels)
    for index, denoiser in enumerate(network.levels):
        tensors = found.get(str(index))
        if not isinstance(tensors, dict) or not all(isinstance(value, Tensor) for value in tensors.values()):
            raise ValueError(f"{path}: '{index}' is no state dict; expected one for each of '0' to '{LEVELS - 1}'")
        load_into(denoiser, tensors, path)
    return network
