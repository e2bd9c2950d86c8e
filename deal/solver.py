"""Fixed-point solvers of DEAL.

Both look for x = T(x), where T(x) solves A(x) u = b with A(x) = HᵀH + λ Wᵀ M(x)² W and b = Hᵀy (paper, eq. 6-8).
`reference` is the authors' algorithm: conjugate gradients to an absolute tolerance for each mask. `fast` makes few
preconditioned CG steps per mask and extrapolates the outer iteration (Nesterov's momentum), with a guard.

Legend: b right side, r = b − A(x)x residual, d correction, m2 squared mask, P preconditioner.
"""

import contextlib
import math
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from numbers import Integral

import torch
from torch import Tensor

from deal.cg import conjugate_gradients, inner, norms
from deal.engine import engine
from deal.preconditioner import Preconditioner, box_mean
from deal.recycling import Recycling

_TINY = 1e-30
_ETA = 0.25  # how far an inner solve reduces its residual
_MAX_INNER = 12  # CG iterations of an inner solve
_NEIGHBOURHOOD = 11  # pixels a side in which momentum is kept or dropped together
_PATIENCE = 8  # iterations without progress after which momentum is weakened
_IN_VAIN = 100  # iterations without progress after which a sample is given up: rounding, mostly
_MOST_NEGATIVE = -4.0  # local secant of T that is believed
_DIVERGED = 30.0  # growth of the residual that undoes a step
_ROUGH_TOL = 2e-3  # residual at which bfloat16 has done its part


class ConvergenceWarning(UserWarning):
    """The solver stopped before the tolerance: at its cap, or since the residual no longer falls."""


@dataclass
class Solution:
    """What a solve returns.

    Attributes:
        x: reconstruction (B, C, H, W), clipped to [0, 1] if asked for.
        converged: (B,) bool, true where `residual` ≤ tol.
        residual: (B,) relative fixed-point residual ‖T(x) − x‖/‖x‖ of the unclipped result, computed, not inferred.
        outer_iterations: updates of the mask's argument.
        applications: applications of A(x), each one W and one Wᵀ, those of the final check included.
        masks: evaluations of M.
        cg_iterations: CG updates of each inner solve (reference only).
        seconds: wall time, synchronised on a GPU.
        iterates: x_0, x_1, … unclipped, if asked for.
    """

    x: Tensor
    converged: Tensor
    residual: Tensor
    outer_iterations: int
    applications: int
    masks: int
    seconds: float
    cg_iterations: list[int] = field(default_factory=list)
    iterates: list[Tensor] = field(default_factory=list)


class NormalEquations:
    """A(x) and M for one batch: kernels bound once, work counted."""

    def __init__(
        self, model, operator, sigma: Tensor, lmbda: Tensor, dtype: torch.dtype | None = None, norm=None, plain=False
    ):
        self.model, self.operator, self.sigma = model, operator, sigma
        self.lmbda = lmbda[:, None, None, None]
        self.norm = model.W.squared_norm() if norm is None else norm
        self.engine = engine(model, sigma, self.norm, dtype, plain)
        self.applications = self.masks = 0

    def lowered(self, dtype: torch.dtype) -> "NormalEquations":
        """The same equations with convolutions in a lower precision, and counters of their own."""
        return NormalEquations(self.model, self.operator, self.sigma, self.lmbda[:, 0, 0, 0], dtype, self.norm)

    def mask_squared(self, x: Tensor) -> Tensor:
        """M(x)², in the dtype of the convolutions."""
        self.masks += 1
        return self.engine.mask_squared(x)

    def at(self, m2: Tensor):
        """A(x) for M(x)² = m2, as a function of its argument."""
        weight = self.engine.weight(m2)

        def apply(p: Tensor) -> Tensor:
            self.applications += 1
            return self.operator.A_adjoint(self.operator.A(p)) + self.lmbda * self.engine.gram(p, weight)

        return apply


def solve(
    model,
    y: Tensor,
    operator,
    sigma: float | Tensor,
    lmbda: float | Tensor | None = None,
    *,
    tol: float = 1e-4,
    algorithm: str = "fast",
    x0: Tensor | None = None,
    cg_tol: float = 1e-8,
    max_outer: int = 1000,
    max_cg: int = 1000,
    clip: bool = True,
    keep_iterates: bool = False,
    callback=None,
) -> Solution:
    """Reconstruct x from y = H x + n. The result carries no gradient.

    Args:
        model: a `deal.DEAL`.
        y: data, whatever `operator.A` returns; one sample an entry of the first dimension.
        operator: object with `A` and `A_adjoint`.
        sigma: noise level seen by the mask, images in [0, 1]; a number or (B,).
        lmbda: λ ≥ 0; None means κ(σ), the denoising value.
        tol: relative fixed-point residual asked for; `reference` uses it as ε_out.
        algorithm: "fast" or "reference"; the latter stops all samples together, by one norm over the whole batch.
        x0: start (B, C, H, W); default 0 for `reference` (as in the paper), for `fast` a Wiener estimate, or Hᵀy.
        cg_tol: ε_in of `reference`, on the squared norm of the residual divided by (1 + λ).
        max_outer: cap on mask updates, at least 1.
        max_cg: of `reference`, cap on CG iterations per mask, at least 2: as the authors' it makes max_cg − 1 updates.
        clip: clip the result to [0, 1], as for every figure of the paper but MRI.
        keep_iterates: return x_0, x_1, … in `Solution.iterates`.
        callback: called with (outer iteration, x) after every update.

    Raises:
        ValueError: empty or non-finite data, complex images, wrong channel count, a start of another shape, a σ or λ
            that is negative, non-finite or neither a number nor (B,), an unknown algorithm, a tolerance that is not
            positive, a cap that is too low or not a whole number.
    """
    if algorithm not in ("fast", "reference"):
        raise ValueError(f"algorithm must be 'fast' or 'reference', not {algorithm!r}")
    for name, value in (("tol", tol), ("cg_tol", cg_tol)):
        if not value > 0:
            raise ValueError(f"{name} must be positive, got {value}")
    for name, value, least in (("max_outer", max_outer, 1), ("max_cg", max_cg, 2)):
        if not isinstance(value, Integral) or value < least:
            raise ValueError(f"{name} must be a whole number of at least {least}, got {value}")
    y = torch.as_tensor(y)
    if not y.numel():
        raise ValueError(f"the data y are empty: {tuple(y.shape)}")
    if not torch.isfinite(y).all():
        raise ValueError("the data y contain NaN or infinite values")
    started = _clock(y)
    with torch.no_grad(), full_float32():
        b = operator.A_adjoint(y)
        if b.ndim != 4 or b.shape[1] != model.channels:
            raise ValueError(f"this model takes (B, {model.channels}, H, W) images, A_adjoint(y) is {tuple(b.shape)}")
        if b.is_complex():
            raise ValueError(f"A_adjoint(y) must be real, as the images are, not {b.dtype}")
        b = b.to(next(model.parameters()).dtype)
        sigma = _of_each("sigma", sigma, b)
        # a learned κ may fall below 0 where σ is almost 0; there the data are the image
        lmbda = _of_each("lambda", model.lmbda(sigma).clamp(min=0) if lmbda is None else lmbda, b)
        if x0 is not None and (x0.shape != b.shape or not torch.isfinite(x0).all()):
            raise ValueError(f"the start x0 {tuple(x0.shape)} must be finite and of the shape {tuple(b.shape)}")
        system = NormalEquations(model, operator, sigma, lmbda, plain=algorithm == "reference")
        record = [] if keep_iterates else None
        if algorithm == "reference":
            x = torch.zeros_like(b) if x0 is None else x0.to(b)
            x, outer, cg = _reference(system, b, x, tol, cg_tol, max_outer, max_cg, record, callback)
            residual = fixed_point_residual(system, b, x, tol)
        else:
            x, outer, residual = _fast(system, b, None if x0 is None else x0.to(b), tol, max_outer, record, callback)
            cg = []
        converged = residual <= tol
        if (outer >= max_outer or algorithm == "fast") and not converged.all():
            why = f"after {outer} outer iterations, the last {_IN_VAIN} in vain,"
            if outer >= max_outer:
                why = f"at its cap of {max_outer} outer iterations"
            warnings.warn(
                f"DEAL stopped {why} with a relative fixed-point residual of {residual.max():.1e} (asked: {tol:.1e})",
                ConvergenceWarning,
                stacklevel=3,
            )
        return Solution(
            x=x.clamp(0, 1) if clip else x,
            converged=converged,
            residual=residual,
            outer_iterations=outer,
            applications=system.applications,
            masks=system.masks,
            seconds=_clock(x) - started,
            cg_iterations=cg,
            iterates=record or [],
        )


def _of_each(name: str, value: float | Tensor, b: Tensor) -> Tensor:
    """`value`, a number or (B,), as (B,); a ValueError unless it is that, finite and >= 0."""
    try:
        each = torch.as_tensor(value, dtype=b.dtype, device=b.device).expand(len(b))
    except (RuntimeError, TypeError, ValueError) as error:
        found = tuple(value.shape) if hasattr(value, "shape") else repr(value)
        raise ValueError(f"{name} must be a number or ({len(b)},), one for each sample, got {found}") from error
    if not (torch.isfinite(each).all() and (each >= 0).all()):
        raise ValueError(f"{name} must be finite and >= 0, got {each.tolist()}")
    return each


def correction(
    apply,
    r: Tensor,
    P: Recycling,
    eta: float | Tensor,
    max_iter: int,
    floor: float | Tensor = 0.0,
    d: Tensor | None = None,
):
    """d ≈ A⁻¹ r by preconditioned CG from 0 (or from d), each sample stopping by itself; returns (d, P⁻¹(r − A d)).

    A sample stops when its residual, in the norm of P⁻¹, has fallen by the factor `eta`, or when ‖P⁻¹(r − A d)‖ is
    below `floor`.
    """
    d = torch.zeros_like(r) if d is None else d
    z = P(r)
    p, rz = z, inner(r, z)
    limit = eta**2 * rz
    for _ in range(max_iter):
        active = (rz > limit) & (norms(z) > floor)[:, None, None, None]
        if not active.any():
            break
        Ap = apply(p)
        pAp = inner(p, Ap)
        P.note(p, Ap, pAp, active)
        step = torch.where(active, rz / pAp.clamp(min=_TINY), 0)
        d, r = d + step * p, r - step * Ap
        z = P(r)
        rz_new = inner(r, z)
        p, rz = torch.where(active, z + rz_new / rz.clamp(min=_TINY) * p, p), torch.where(active, rz_new, rz)
    P.learn()
    return d, z


def fixed_point_residual(
    system: NormalEquations, b: Tensor, x: Tensor, tol: float, A=None, r=None, P=None, d=None, asked=None
):
    """‖T(x) − x‖/‖x‖ of each sample, (B,), with T(x) − x = A(x)⁻¹ (b − A(x)x) to 5 % of itself or of `tol`.

    What the linear solve leaves is added, so that the value errs to the safe side. With A = A(x), r = b − A(x)x and
    a preconditioner at hand nothing is computed twice; d may hold an approximation of T(x) − x. Samples that are not
    `asked` for, (B,), get some larger value.
    """
    if A is None:
        m2 = system.mask_squared(x)
        A = system.at(m2)
        P = Recycling(Preconditioner(system, b.shape)).update(m2)
        r = b - A(x)
    size = norms(x).clamp(min=_TINY)
    if d is not None:
        r = r - A(d)
    floor = 0.05 * tol * size
    d, left = correction(A, r, P, 0.02, 200, floor if asked is None else torch.where(asked, floor, math.inf), d)
    return (norms(d) + norms(left)) / size


def _reference(system, b, x, tol, cg_tol, max_outer, max_cg, record, callback):
    """The authors' algorithm: CG on the system divided by 1 + λ, warm-started, until x stops moving."""
    shrink = 1 / (1 + system.lmbda)
    cg_counts = []
    if record is not None:
        record.append(x)
    for outer in range(1, max_outer + 1):
        A = system.at(system.mask_squared(x))

        def scaled(p, A=A):
            return shrink * A(p)

        x_new, count = conjugate_gradients(scaled, shrink * b, x, cg_tol, max_cg)
        cg_counts.append(count)
        # One norm over the whole batch. The authors divide by ‖x_0‖ = 0: infinite, or 0/0 where x stays 0 (y = 0, say).
        change, size = (x_new - x).norm(), x.norm()
        x = x_new
        if record is not None:
            record.append(x)
        if callback:
            callback(outer, x)
        if change == 0 or (size > 0 and change / size < tol):
            break
    return x, outer, cg_counts


class Momentum:
    """Nesterov's extrapolation of x ← x + f(x), with a history and a step size of its own around every pixel.

    What slows the iteration are modes of a few pixels where the mask is slow to decide, each with its own pace. So a
    pixel's factor is a/(a + 3), a the number of steps since the movement in its neighbourhood last turned against f,
    and no pixel nor sample waits for another. Where f changes sign from step to step, momentum is no help: there the
    local secant q of T, ⟨T(z) − T(z'), z − z'⟩ / ‖z − z'‖², is negative and the step is shortened to f/(1 − q).
    """

    def __init__(self):
        self._x = self._age = self._z = self._f = None

    def step(self, z: Tensor, f: Tensor, limit: Tensor | float = 1.0, anew: Tensor | None = None) -> Tensor:
        """Next point from z and f(z); factors times `limit`, no history for samples `anew`, both (B, 1, 1, 1)."""
        if self._z is None:
            self._age = torch.zeros_like(z[:, :1])
            self._z, self._f, self._x = z, f, z + f
            return self._x
        moved = z - self._z
        q = 1 + _local_inner(f - self._f, moved) / _local_inner(moved, moved).clamp(min=_TINY)
        x = z + f / (1 - q.clamp(_MOST_NEGATIVE, 0))
        d = x - self._x
        self._z, self._f, self._x = z, f, x
        onward = _local_inner(f, d) >= 0
        onward = onward if anew is None else onward & ~anew
        self._age = torch.where(onward, self._age + 1, 0)
        return x + limit * box_mean(self._age / (self._age + 3), _NEIGHBOURHOOD) * d


class _Guard:
    """What each sample of a batch has come to, and how careful its next step is; all (B, 1, 1, 1)."""

    def __init__(self, x: Tensor):
        one = torch.ones_like(x[:, :1, :1, :1])
        self.best_x, self.best, self.since = x, one * math.inf, one * 0
        self.eta, self.damping, self.limit = one * _ETA, one, one
        self.done = one > 1
        self.lowest, self.idle = one * math.inf, one * 0
        self._x, self._way = x, one * 0  # the last point, and the length of the way to it from best_x

    def forget(self) -> None:
        """The residuals to come are not comparable with those so far."""
        self.best, self.since = torch.full_like(self.best, math.inf), self.since * 0
        self.lowest, self.idle = self.best, self.idle * 0

    @property
    def hopeless(self) -> Tensor:
        """(B,) samples whose residual has not fallen for long."""
        return self.idle[:, 0, 0, 0] >= _IN_VAIN

    def next(self, x: Tensor, f: Tensor, residual: Tensor, momentum: Momentum) -> Tensor:
        """The next point; samples that are done stay."""
        residual = residual[:, None, None, None]
        better = residual < 0.9 * self.best
        lower = residual < 0.9 * self.lowest
        self.lowest, self.idle = torch.where(lower, residual, self.lowest), torch.where(lower, 0, self.idle + 1)
        self._way, self._x = self._way + _sizes(x - self._x), x
        self.since = self.since + 1
        exploded = ~(residual <= _DIVERGED * self.best) & ~self.done
        waited = (self.since >= _PATIENCE) & ~exploded & ~better
        # Far away by a straight way: it passes a point that is almost fixed, and has not lost its way.
        passing = waited & (_sizes(x - self.best_x) > 0.5 * self._way)
        here = better | passing
        self.best_x, self.best = torch.where(here, x, self.best_x), torch.where(here, residual, self.best)
        self._way, self.since = torch.where(here, 0, self._way), torch.where(better | waited, 0, self.since)
        # Several times in vain: perhaps rounding, or a map that is not contractive here; then shorter steps.
        stuck = waited & ~passing
        shorter = exploded | (stuck & (self.eta <= 0.02))
        regained = torch.where(better, 1.25, 1.0)
        self.damping = torch.where(shorter, self.damping / 2, (self.damping * regained).clamp(max=1))
        self.eta = torch.where(stuck, (self.eta / 4).clamp(min=0.01), (self.eta * regained).clamp(max=_ETA))
        self.limit = torch.where(stuck, self.limit / 2, (self.limit * regained).clamp(max=1))
        f = torch.where(self.done | exploded, 0, self.damping * f)
        z = momentum.step(torch.where(exploded, self.best_x, x), f, self.limit, stuck | exploded)
        return torch.where(self.done, x, z)


def _local_inner(a: Tensor, b: Tensor) -> Tensor:
    """⟨a, b⟩ over the neighbourhood of every pixel, up to a constant, (B, 1, H, W)."""
    return box_mean((a * b).sum(1, keepdim=True), _NEIGHBOURHOOD)


def _sizes(x: Tensor) -> Tensor:
    return norms(x)[:, None, None, None]


def _fast(system, b, x, tol, max_outer, record, callback, check: bool = True, max_inner: int = _MAX_INNER):
    """Fixed-point iteration with momentum and inexact, preconditioned inner solves.

    Each outer step solves for T(x) − x to the fraction `eta`, no better than is worth a mask. Where the mask is about
    to decide on a texture, the residual rises for a while on the way to the fixed point, so a rise alone proves
    nothing. After many iterations that made no progress and did not lead away either, momentum starts anew and weaker,
    with sharper inner solves: the method falls back on the plain iteration, until progress allows more again. Only a
    residual that explodes undoes a step, and halves the next ones. Where the residual has not fallen for a hundred
    iterations, below what rounding allows for instance, no more are made. All of this is a sample's own affair, and one
    that has arrived stays where it is. Without a start x the first part runs in bfloat16 where that is fast, until no
    sample gains by it; what is accepted is always computed in full precision. But for that part results do not depend
    on the batch. Without `check` the residual is that of the last inner solve, and not computed after the last update.
    """
    P = Recycling(Preconditioner(system, b.shape))
    rough = system.lowered(torch.bfloat16) if x is None and b.dtype == torch.float32 and _bfloat16_is_fast(b) else None
    x = P.starting_point(b) if x is None else x
    current, momentum, guard = rough or system, Momentum(), _Guard(x)
    final = torch.full_like(b[:, 0, 0, 0], math.inf)
    if record is not None:
        record.append(x)

    def evaluate(equations):
        """A(x), b − A(x)x, f ≈ T(x) − x and ‖f‖/‖x‖; f underestimates by what the inner solve leaves out."""
        m2 = equations.mask_squared(x)
        A = equations.at(m2)
        r = b - A(x)
        # Nothing is solved for those that are done.
        f, _ = correction(A, r, P.update(m2), torch.where(guard.done, math.inf, guard.eta), max_inner)
        return A, r, f, norms(f) / norms(x).clamp(min=_TINY)

    for outer in range(max_outer + 1):
        last = outer == max_outer
        if last and not check:
            break
        A, r, f, residual = evaluate(current)
        if current is rough and (last or (residual <= max(tol, _ROUGH_TOL)).all() or (guard.since >= 3).any()):
            current = system
            guard.forget()
            A, r, f, residual = evaluate(current)
        if current is system:
            arrived = ((residual <= tol) | last | guard.hopeless) & ~guard.done[:, 0, 0, 0]
            if arrived.any():
                found = fixed_point_residual(system, b, x, tol, A, r, P, f, arrived) if check else residual
                final = torch.where(arrived, found, final)
                guard.done = guard.done | (arrived & ((found <= tol) | guard.hopeless))[:, None, None, None]
                if last or guard.done.all():
                    break
        x = guard.next(x, f, residual, momentum)
        if record is not None:
            record.append(x)
        if callback:
            callback(outer + 1, x)
    if rough is not None:
        system.applications, system.masks = system.applications + rough.applications, system.masks + rough.masks
    return x, outer, final


def iterate(system, b: Tensor, steps: int, algorithm: str, cg_tol: float, max_cg: int, inner: int) -> Tensor:
    """`steps` updates without the final check, as training needs them (early stop at 1e−4 as the authors').

    `reference` starts from b = y, the authors from 0; `fast` from the Wiener estimate, which saves it some updates.
    """
    if algorithm == "reference":
        return _reference(system, b, b, 1e-4, cg_tol, steps, max_cg, None, None)[0] if steps else b
    start = Preconditioner(system, b.shape).starting_point(b)
    return _fast(system, b, start, 1e-4, steps, None, None, check=False, max_inner=inner)[0] if steps else start


@contextlib.contextmanager
def full_float32() -> Iterator[None]:
    """No TF32 in convolutions, PyTorch's default on GPUs: with its ten bits no residual gets far below 1e-3."""
    switch, key, off = torch.backends.cudnn, "allow_tf32", False
    try:
        before = switch.allow_tf32
    except RuntimeError:  # the caller uses the newer setting, which does not go together with this one
        switch, key, off = torch.backends.cudnn.conv, "fp32_precision", "ieee"
        before = switch.fp32_precision
    setattr(switch, key, off)
    try:
        yield
    finally:
        setattr(switch, key, before)


def _bfloat16_is_fast(x: Tensor) -> bool:
    """Whether plain convolutions in bfloat16 beat the engine for float32 (measured: not on AVX-512 processors)."""
    return x.is_cuda and torch.cuda.is_bf16_supported()


def _clock(x: Tensor) -> float:
    """Wall clock in seconds, after pending GPU work."""
    if x.is_cuda:
        torch.cuda.synchronize(x.device)
    return time.perf_counter()
