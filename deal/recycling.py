"""A preconditioner that learns from the directions of earlier conjugate gradients.

From update to update the mask, and with it A, changes ever less, so what one inner solve learned of A helps the next.
Its directions p, with A p, enter the preconditioner of the next as in L-BFGS (Morales and Nocedal, SIAM J. Optim.
2000): v with vᵀA v = 1 and w = A v in chronological order, R the upper triangle of (vᵢᵀ wⱼ), then

    α = R⁻¹ Vᵀ r,   z = P⁻¹ (r − W α),   z + V R⁻ᵀ (α − Wᵀ z).

Symmetric positive for any pairs, also for those of an A that is no longer true. A pair is two images, a mask 128.
"""

from collections import deque

import torch
from torch import Tensor

_KEPT = 20
_NOTED = 10  # of one solve, its last ones: a long one should not fill the memory


class Recycling:
    """P⁻¹ bettered by the last pairs (p, A p) of each sample; `update` for a new mask, then call."""

    def __init__(self, P):
        self._P = P
        self._noted: deque[tuple[Tensor, ...]] = deque(maxlen=_NOTED)
        self._v = self._w = self._inverse = self._next = None

    def update(self, m2: Tensor) -> "Recycling":
        """Adapt P to a new squared mask (B, N, H, W); what was learned stays."""
        self._P.update(m2)
        return self

    def starting_point(self, b: Tensor) -> Tensor:
        """That of P."""
        return self._P.starting_point(b)

    def __call__(self, r: Tensor) -> Tensor:
        """P⁻¹ r."""
        if self._v is None:
            return self._P(r)
        flat = r.flatten(1)[..., None]
        alpha = self._inverse @ (self._v @ flat)
        z = self._P(r - (self._w.mT @ alpha).view_as(r))
        gamma = self._inverse.mT @ (alpha - self._w @ z.flatten(1)[..., None])
        return z + (self._v.mT @ gamma).view_as(r)

    def note(self, p: Tensor, Ap: Tensor, pAp: Tensor, active: Tensor) -> None:
        """Keep a direction for `learn`; (B, 1, 1, 1) pᵀA p, and which samples it is one of."""
        self._noted.append((p, Ap, pAp, active))

    def learn(self) -> None:
        """Use what was noted from now on: within one run of conjugate gradients P must not change."""
        if not self._noted:
            return
        if self._v is None:
            batch, size = len(self._noted[0][0]), self._noted[0][0][0].numel()
            self._v = self._noted[0][0].new_zeros(batch, _KEPT, size)
            self._w = torch.zeros_like(self._v)
            self._next = torch.zeros(batch, dtype=torch.long, device=self._v.device)
        each = torch.arange(len(self._v), device=self._v.device)
        for p, Ap, pAp, active in self._noted:
            active = (active & (pAp > 0) & pAp.isfinite()).flatten()
            scale = torch.where(active, pAp.flatten(), 1).rsqrt()[:, None]
            for kept, new in ((self._v, p), (self._w, Ap)):
                kept[each, self._next] = torch.where(active[:, None], scale * new.flatten(1), kept[each, self._next])
            self._next = (self._next + active) % _KEPT
        self._noted.clear()
        # Rows are overwritten in a circle; R is triangular in the order in which they came.
        places = torch.arange(_KEPT, device=self._v.device)
        came, place = (self._next[:, None] + places) % _KEPT, (places - self._next[:, None]) % _KEPT
        products = _rearranged(self._v @ self._w.mT, came).double().triu(1)
        one = torch.eye(_KEPT, dtype=products.dtype, device=products.device)
        inverse = torch.linalg.solve_triangular(products + one, one.expand_as(products), upper=True)
        self._inverse = _rearranged(inverse, place).to(self._v.dtype)


def _rearranged(square: Tensor, order: Tensor) -> Tensor:
    """Rows and columns of each (m, m) in the `order` (B, m)."""
    rows = square.gather(1, order[:, :, None].expand_as(square))
    return rows.gather(2, order[:, None, :].expand_as(square))
