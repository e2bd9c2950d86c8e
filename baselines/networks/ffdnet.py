"""FFDNet (Zhang, Zuo, Zhang, TIP 2018): one network for all noise levels, on a pixel-unshuffled image.

Gray: 15 layers of 64 features; colour: 12 layers of 96. Four sub-images a channel, plus a constant map of σ,
go in; four denoised sub-images a channel come out (the network does not predict the noise).
"""

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, pixel_shuffle, pixel_unshuffle

from baselines.networks.dncnn import ConvStack, named
from baselines.networks.readers import Convolution, load_into, read_matconvnet, read_state_dict

SIZES = {1: (15, 64), 3: (12, 96)}  # image channels → layers, features


class FFDNet(nn.Module):
    """Denoises x of shape (B, C, H, W) in [0, 1] at the noise level σ in [0, 1].

    An odd side is made even by repeating the last row or column, as the authors do, and cut again.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        layers, features = SIZES[channels]
        self.stack = ConvStack([4 * channels + 1, *[features] * (layers - 1), 4 * channels])

    def forward(self, x: Tensor, sigma: float) -> Tensor:
        height, width = x.shape[-2:]
        parts = pixel_unshuffle(pad(x, (0, width % 2, 0, height % 2), mode="replicate"), 2)
        level = parts.new_full((len(x), 1, *parts.shape[-2:]), sigma)
        return pixel_shuffle(self.stack(torch.cat([parts, level], 1)), 2)[..., :height, :width]


def load_ffdnet(path: Path, channels: int) -> FFDNet:
    """FFDNet from the authors' `.mat` or from KAIR's `.pth`."""
    tensors = named(_row_major(read_matconvnet(path), channels)) if path.suffix == ".mat" else read_state_dict(path)
    network = FFDNet(channels)
    load_into(network.stack, tensors, path)
    return network


def _row_major(convolutions: list[Convolution], channels: int) -> list[Convolution]:
    """Sub-images in PyTorch's order (down the columns of each 2×2 block in MATLAB, along its rows here)."""
    order = [4 * c + k for c in range(channels) for k in (0, 2, 1, 3)]
    (first, bias), (last, last_bias) = convolutions[0], convolutions[-1]
    if first.shape[1] == 4 * channels + 1:  # other widths are reported by load_into
        convolutions[0] = first[:, [*order, 4 * channels]], bias
    if len(last) == 4 * channels:
        convolutions[-1] = last[order], last_bias[order]
    return convolutions
