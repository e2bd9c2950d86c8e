"""DRUNet (Zhang et al., TPAMI 2021), the gradient-step denoiser made of it (Hurault et al., ICML 2022), and how
both are run on images of any size.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from baselines.networks.readers import load_into, read_state_dict

WIDTHS = (64, 128, 256, 512)
Denoiser = Callable[[Tensor], Tensor]


class ResBlock(nn.Module):
    """x + conv(activation(conv(x)))."""

    def __init__(self, width: int, activation: type[nn.Module]) -> None:
        super().__init__()
        self.res = nn.Sequential(_conv(width, width), activation(), _conv(width, width))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.res(x)


class DRUNet(nn.Module):
    """U-Net of residual blocks at four scales, without biases; the names are those of the published weights.

    The published denoisers have 4 blocks a scale and ReLU (32.64 million parameters); the light one of
    Prox-DRUNet has 2 and softplus.
    """

    def __init__(
        self,
        channels: int,
        blocks: int = 4,
        activation: type[nn.Module] = nn.ReLU,
        widths: Sequence[int] = WIDTHS,
    ) -> None:
        super().__init__()
        a, b, c, d = widths

        def residual(width: int) -> list[nn.Module]:
            return [ResBlock(width, activation) for _ in range(blocks)]

        def down(width: int, next_width: int) -> nn.Sequential:
            return nn.Sequential(*residual(width), nn.Conv2d(width, next_width, 2, 2, bias=False))

        def up(width: int, next_width: int) -> nn.Sequential:
            return nn.Sequential(nn.ConvTranspose2d(width, next_width, 2, 2, bias=False), *residual(next_width))

        self.m_head = _conv(channels + 1, a)
        self.m_down1, self.m_down2, self.m_down3 = down(a, b), down(b, c), down(c, d)
        self.m_body = nn.Sequential(*residual(d))
        self.m_up3, self.m_up2, self.m_up1 = up(d, c), up(c, b), up(b, a)
        self.m_tail = _conv(a, channels)

    def forward(self, x: Tensor, sigma: float) -> Tensor:
        """Denoise x, (B, C, H, W) in [0, 1], sides divisible by 8, at the noise level σ in [0, 1]."""
        level = x.new_full((len(x), 1, *x.shape[-2:]), sigma)
        x1 = self.m_head(torch.cat([x, level], 1))
        x2 = self.m_down1(x1)
        x3 = self.m_down2(x2)
        x4 = self.m_down3(x3)
        x = self.m_up3(self.m_body(x4) + x4)
        x = self.m_up2(x + x3)
        x = self.m_up1(x + x2)
        return self.m_tail(x + x1)


def _conv(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)


def load_drunet(path: Path, channels: int) -> DRUNet:
    """DRUNet from KAIR's `drunet_gray.pth` or `drunet_color.pth`."""
    network = DRUNet(channels)
    load_into(network, read_state_dict(path), path)
    return network


class GradientStep(nn.Module):
    """D = I − ∇g with g(x) = ½‖x − N(x, σ)‖², hence D(x) = N + J_Nᵀ(x − N), J_Nᵀ by automatic differentiation."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
        """(D(x), g(x)) for x of shape (B, C, H, W); g is (B,), in float64."""
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            denoised = in_four(lambda v: self.network(v, sigma), x)
            residual = x - denoised
            (pulled,) = torch.autograd.grad(denoised, x, residual.detach())
        residual, x = residual.detach(), x.detach()
        return x - residual + pulled, 0.5 * residual.double().square().sum(dim=(1, 2, 3))


def load_prox_drunet(path: Path) -> GradientStep:
    """Prox-DRUNet from its Lightning checkpoint: the names `student_grad.model.*`, colour."""
    network = DRUNet(3, blocks=2, activation=nn.Softplus)
    load_into(network, read_state_dict(path, "student_grad.model."), path)
    return GradientStep(network)


def in_four(denoise: Denoiser, x: Tensor, multiple: int = 8, field: int = 64) -> Tensor:
    """The authors' test mode for denoising: four overlapping quarters where a side is no multiple of 8.

    A quarter is (⌊n/2/64⌋ + 1)·64 pixels a side; the results meet at n//2. Images smaller than a quarter are
    padded by repeating their border, bottom and right.
    """
    height, width = x.shape[-2:]
    if height % multiple == 0 and width % multiple == 0:
        return denoise(x)
    if any(_part(n, field) > n for n in (height, width)):
        return padded(denoise, x, multiple)
    return _stitched(denoise, x, field)


def split(denoise: Denoiser, x: Tensor, side: int = 256, field: int = 32, multiple: int = 16) -> Tensor:
    """The test mode inside plug-and-play loops: quarters of quarters until they have at most `side`² pixels.

    Images that small are padded to a multiple of 16.
    """
    height, width = x.shape[-2:]
    if height * width <= side**2 or any(_part(n, field) > n for n in (height, width)):
        return padded(denoise, x, multiple)
    if height * width <= 4 * side**2:
        return _stitched(denoise, x, field)
    return _stitched(lambda part: split(denoise, part, side, field, multiple), x, field)


def padded(denoise: Denoiser, x: Tensor, multiple: int) -> Tensor:
    """Repeat the border, bottom and right, to the next multiple; denoise; cut."""
    height, width = x.shape[-2:]
    return denoise(pad(x, (0, -width % multiple, 0, -height % multiple), mode="replicate"))[..., :height, :width]


def _part(n: int, field: int) -> int:
    return (n // 2 // field + 1) * field


def _stitched(denoise: Denoiser, x: Tensor, field: int) -> Tensor:
    height, width = x.shape[-2:]
    tall, wide = _part(height, field), _part(width, field)
    rows = []
    for top in (True, False):
        strip = x[..., :tall, :] if top else x[..., height - tall :, :]
        left = denoise(strip[..., :wide])[..., : width // 2]
        right = denoise(strip[..., width - wide :])[..., width // 2 - width :]
        row = torch.cat([left, right], -1)
        rows.append(row[..., : height // 2, :] if top else row[..., height // 2 - height :, :])
    return torch.cat(rows, -2)
