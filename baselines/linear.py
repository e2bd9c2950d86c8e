"""What iterative methods need of an operator, and sums over the pixels of each image of a batch."""

from collections.abc import Callable

import torch
from torch import Tensor

from baselines import Operator


def dot(a: Tensor, b: Tensor) -> Tensor:
    """Inner product of each pair of images, (B, 1, 1, 1)."""
    return (a * b).sum(dim=(1, 2, 3), keepdim=True)


def norm(a: Tensor) -> Tensor:
    """Euclidean norm of each image, (B, 1, 1, 1)."""
    return torch.linalg.vector_norm(a, dim=(1, 2, 3), keepdim=True)


def relative_change(new: Tensor, old: Tensor) -> Tensor:
    """‖new − old‖ / ‖old‖ of each image, (B, 1, 1, 1); infinite where old is zero and new is not."""
    return torch.nan_to_num(norm(new - old) / norm(old), nan=0.0, posinf=torch.inf)


def squared_norm(operator: Operator, x: Tensor, steps: int = 30) -> float:
    """‖A‖² as the operator knows it, else by power iteration from a fixed image like x."""
    known = getattr(operator, "squared_norm", None)
    if known is not None:
        return float(known)
    v = torch.rand(x.shape, generator=torch.Generator().manual_seed(0)).to(x)
    return power_iteration(lambda v: operator.A_adjoint(operator.A(v)), v, steps)


def power_iteration(normal: Callable[[Tensor], Tensor], v: Tensor, steps: int) -> float:
    """‖A‖² from below, by `steps` applications of v → AᵀAv (`normal`) from v on."""
    for _ in range(steps):
        v = normal(v / torch.linalg.vector_norm(v))
    return float(torch.linalg.vector_norm(v))
