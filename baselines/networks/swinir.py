"""SwinIR (Liang et al., 2021) as the mask network of SARR: one channel in, one mask for each of 60 filters out.

Four residual groups of six Swin transformer layers, width 60, six heads, windows of 8×8 pixels that are shifted by 4
in every second layer, MLP ratio 2, a 3×3 convolution to 60 channels, and ½(1 + t/√(1 + t²)) to end in [0, 1].
Parameters bear the names of the published checkpoints, whose buffers are computed here instead.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baselines.networks.readers import load_into

WIDTH, HEADS, WINDOW, GROUPS, DEPTH, RATIO, MASKS = 60, 6, 8, 4, 6, 2, 60
BUFFERS = (".relative_position_index", ".attn_mask")


def windows(x: Tensor) -> Tensor:
    """(B, H, W, C) → (B·number of windows, 64, C), windows in row-major order."""
    batch, height, width, channels = x.shape
    x = x.view(batch, height // WINDOW, WINDOW, width // WINDOW, WINDOW, channels)
    return x.transpose(2, 3).reshape(-1, WINDOW * WINDOW, channels)


def image(parts: Tensor, height: int, width: int) -> Tensor:
    """The inverse of `windows`."""
    x = parts.view(-1, height // WINDOW, width // WINDOW, WINDOW, WINDOW, parts.shape[-1])
    return x.transpose(2, 3).reshape(-1, height, width, parts.shape[-1])


def shift_mask(height: int, width: int, device: torch.device) -> Tensor:
    """What is added to the attention in shifted windows, (windows, 64, 64): −100 between pixels that are not near."""

    def regions(size: int) -> Tensor:
        place = torch.arange(size, device=device)
        return (place >= size - WINDOW).long() + (place >= size - WINDOW // 2)

    label = windows((3 * regions(height)[:, None] + regions(width))[None, :, :, None])[..., 0]
    return -100.0 * (label[:, :, None] != label[:, None, :])


class Attention(nn.Module):
    """Self-attention inside windows with a learned bias for each relative position and head."""

    def __init__(self) -> None:
        super().__init__()
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * WINDOW - 1) ** 2, HEADS))
        self.qkv, self.proj = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        rows, columns = (v.flatten() for v in torch.meshgrid(*2 * [torch.arange(WINDOW)], indexing="ij"))
        offset = (rows[:, None] - rows + WINDOW - 1) * (2 * WINDOW - 1) + columns[:, None] - columns + WINDOW - 1
        self.register_buffer("index", offset.flatten(), persistent=False)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        count, pixels, _ = x.shape
        q, k, v = self.qkv(x).view(count, pixels, 3, HEADS, WIDTH // HEADS).permute(2, 0, 3, 1, 4)
        bias = self.relative_position_bias_table[self.index].view(pixels, pixels, HEADS).permute(2, 0, 1)
        scores = q * (WIDTH // HEADS) ** -0.5 @ k.mT + bias
        if mask is not None:
            scores = (scores.view(-1, len(mask), HEADS, pixels, pixels) + mask[:, None]).view_as(scores)
        return self.proj((scores.softmax(-1) @ v).transpose(1, 2).reshape(count, pixels, WIDTH))


class Perceptron(nn.Module):
    """Two linear layers with GELU between."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(WIDTH, RATIO * WIDTH), nn.Linear(RATIO * WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    """One Swin transformer layer."""

    def __init__(self, shifted: bool) -> None:
        super().__init__()
        self.shift = WINDOW // 2 if shifted else 0
        self.norm1, self.attn, self.norm2, self.mlp = (
            nn.LayerNorm(WIDTH),
            Attention(),
            nn.LayerNorm(WIDTH),
            Perceptron(),
        )

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[1:3]
        z = self.norm1(x)
        if self.shift:
            z = z.roll((-self.shift, -self.shift), (1, 2))
        z = image(self.attn(windows(z), shift_mask(height, width, x.device) if self.shift else None), height, width)
        x = x + (z.roll((self.shift, self.shift), (1, 2)) if self.shift else z)
        return x + self.mlp(self.norm2(x))


class Layers(nn.Module):
    """Six layers, every second one shifted."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(bool(number % 2)) for number in range(DEPTH))


class Group(nn.Module):
    """Six layers and a convolution, with a skip connection."""

    def __init__(self) -> None:
        super().__init__()
        self.residual_group, self.conv = Layers(), nn.Conv2d(WIDTH, WIDTH, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        z = x
        for block in self.residual_group.blocks:
            z = block(z)
        return self.conv(z.permute(0, 3, 1, 2)).permute(0, 2, 3, 1) + x


class Embedding(nn.Module):
    """The normalisation of the pixels' features."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)


class SwinIR(nn.Module):
    """The mask network: (B, 1, H, W) → (B, 60, H, W) in [0, 1]."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_first = nn.Conv2d(1, WIDTH, 3, padding=1)
        self.patch_embed = Embedding()
        self.layers = nn.ModuleList(Group() for _ in range(GROUPS))
        self.norm = nn.LayerNorm(WIDTH)
        self.conv_after_body = nn.Conv2d(WIDTH, WIDTH, 3, padding=1)
        self.upsample = nn.Sequential(nn.Conv2d(WIDTH, MASKS, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        x = F.pad(x, (0, -width % WINDOW, 0, -height % WINDOW), mode="reflect")
        first = self.conv_first(x)
        z = self.patch_embed.norm(first.permute(0, 2, 3, 1))
        for group in self.layers:
            z = group(z)
        z = self.conv_after_body(self.norm(z).permute(0, 3, 1, 2)) + first
        t = self.upsample(z)[..., :height, :width]
        return (1 + t * (1 + t * t).rsqrt()) / 2


def load_swinir(tensors: Mapping[str, Tensor], path: Path) -> SwinIR:
    """The network with the parameters `tensors`, read from `path` (named where they do not fit)."""
    network = SwinIR()
    load_into(network, {key: value for key, value in tensors.items() if not key.endswith(BUFFERS)}, path)
    return network
