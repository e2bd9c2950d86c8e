"""A colour model from a gray one: a start for training that already denoises (not in the paper).

In the orthonormal opponent basis white noise stays white, so the gray filters can act on luminance and on the two
chromas. The mask is computed from luminance, where the edges are, and shared by the filters of all three.
"""

import torch
from torch import Tensor

from deal.model import DEAL, N_FILTERS

OPPONENT = torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.0, -1.0], [1.0, -2.0, 1.0]])
OPPONENT = OPPONENT / OPPONENT.norm(dim=1, keepdim=True)  # rows: luminance, red minus blue, green against the others
SHARES = (64, 32, 32)  # filters of luminance and of each chroma


@torch.no_grad()
def color_from_gray(gray: DEAL, seed: int = 0, noise: float = 0.02) -> DEAL:
    """A colour model that applies the strongest filters of `gray` to luminance and chroma.

    Args:
        gray: a trained gray model.
        seed: of the small random weights that keep the unused connections trainable.
        noise: their standard deviation, relative to that of the layer.

    Raises:
        ValueError: `gray` is not a gray model, or has another number of filters than the published one.
    """
    if gray.kind != "gray":
        raise ValueError(f"a colour model starts from a gray one, not from a {gray.kind} one")
    if gray.architecture.filters != N_FILTERS:
        raise ValueError(f"a colour model starts from {N_FILTERS} gray filters, not from {gray.architecture.filters}")
    color = gray.architecture.build("color")
    # Kernels in force, mean removed: the mean over all channels that the colour model removes is 0 for a chroma.
    generator = torch.Generator().manual_seed(seed)
    strength = gray.W.effective_kernels().square().sum(dim=(1, 2, 3))
    order = strength.argsort(descending=True)
    channel = torch.repeat_interleave(torch.arange(3), torch.tensor(SHARES))
    source = torch.cat([order[:n] for n in SHARES])  # gray filter behind each colour filter

    for layer, (mine, theirs) in enumerate(zip(color.W.weights, gray.W.kernels(), strict=True)):
        mine.copy_(_spread(theirs, mine.shape, layer, noise, generator, source, channel))
    for layer, (mine, theirs) in enumerate(zip(color.W_mask.weights, gray.W_mask.kernels(), strict=True)):
        luminance = torch.zeros(N_FILTERS, dtype=torch.long)
        mine.copy_(_spread(theirs, mine.shape, layer, noise, generator, torch.arange(N_FILTERS), luminance))
    color.M2.weight.copy_(gray.M2.weight)
    color.M3.weight.copy_(gray.M3.weight[source])
    color.scaling.coefficients.copy_(gray.scaling.coefficients[source])
    for name in ("phi1", "phi2", "phi3", "kappa"):
        getattr(color, name).load_state_dict(getattr(gray, name).state_dict())
    return color


def _spread(gray: Tensor, shape, layer: int, noise: float, generator, source: Tensor, channel: Tensor) -> Tensor:
    """One layer of the colour block: three copies of the gray one, each on its opponent channel, and small noise."""
    out = torch.randn(shape, generator=generator) * gray.std() * noise
    rows, columns = gray.shape[:2]
    if layer == 0:
        out += torch.einsum("oihw,kc->kochw", gray, OPPONENT).flatten(0, 1)
    elif layer == 1:
        for k in range(3):
            out[k * rows : (k + 1) * rows, k * columns : (k + 1) * columns] += gray
    else:
        for k in range(3):
            mine = channel == k
            out[mine, k * columns : (k + 1) * columns] += gray[source[mine]]
    return out
