"""Batched conjugate gradients, each sample stopping by itself (paper, Section 3.2; the authors' stop rule)."""

import torch
from torch import Tensor


def norms(x: Tensor) -> Tensor:
    """Euclidean norm of each sample, (B, …) → (B,)."""
    return x.flatten(1).norm(dim=1)


def inner(u: Tensor, v: Tensor) -> Tensor:
    """Inner product of each pair of samples, (B, …) → (B, 1, 1, 1)."""
    return (u * v).flatten(1).sum(1)[:, None, None, None]


def conjugate_gradients(apply, b: Tensor, x: Tensor, tol: float, max_iter: int, relative: bool = False, P=None):
    """Solve apply(x) = b, each sample stopping by itself; returns (x, updates made).

    A sample stops when ‖r‖² ≤ tol (absolute, the authors' rule) or ‖r‖ ≤ tol·‖b‖ (`relative`). As in the authors'
    code at most max_iter − 1 updates are made. P applies a symmetric positive preconditioner.
    """
    r = b - apply(x)
    z = P(r) if P else r
    p, rz = z, inner(r, z)
    limit = tol**2 * inner(b, b) if relative else tol
    for updates in range(max_iter - 1):
        active = inner(r, r) > limit
        if not active.any():
            return x, updates
        Ap = apply(p)
        step = torch.where(active, rz / inner(p, Ap), 0)
        x, r = x + step * p, r - step * Ap
        z = P(r) if P else r
        rz_new = inner(r, z)
        p, rz = torch.where(active, z + rz_new / rz * p, p), torch.where(active, rz_new, rz)
    return x, max_iter - 1
