"""Solvers: against dense algebra, for any operator; honest records."""

import math
import subprocess
import sys
import warnings
from types import SimpleNamespace

import pytest
import torch

import deal
from deal.model import DEAL
from deal.preconditioner import _Aliased
from deal.recycling import Recycling
from deal.solver import (
    ConvergenceWarning,
    Momentum,
    NormalEquations,
    Preconditioner,
    _Guard,
    conjugate_gradients,
    correction,
    inner,
)


class Blur:
    """Circular convolution with a small asymmetric kernel."""

    def __init__(self, shape, spectrum=True, dtype=torch.float32):
        kernel = torch.zeros(shape, dtype=dtype)
        kernel[:3, :4] = torch.tensor([[1, 2, 1, 0], [3, 5, 2, 1], [0, 2, 1, 1]], dtype=dtype)
        self.otf = torch.fft.rfft2(kernel / kernel.sum())
        if spectrum:
            self.normal_spectrum = lambda shape, device=None: self.otf.abs().square()

    def A(self, x):
        return torch.fft.irfft2(torch.fft.rfft2(x) * self.otf, s=x.shape[-2:])

    def A_adjoint(self, y):
        return torch.fft.irfft2(torch.fft.rfft2(y) * self.otf.conj(), s=y.shape[-2:])


class Masked:
    """Complex measurements: random rows of the Fourier transform; nothing known of the spectrum."""

    def __init__(self, shape):
        self.rows = (torch.rand(shape[0], generator=torch.Generator().manual_seed(0)) < 0.5).float()[:, None]
        self.rows[:2] = 1

    def A(self, x):
        return self.rows * torch.fft.fft2(x, norm="ortho")

    def A_adjoint(self, y):
        return torch.fft.ifft2(self.rows * y, norm="ortho").real


OPERATORS = {
    "identity": lambda shape: deal.Identity(),
    "blur": lambda shape: Blur(shape),
    "blur, spectrum unknown": lambda shape: Blur(shape, spectrum=False),
    "fourier": lambda shape: Masked(shape),
}


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    made = DEAL("gray").requires_grad_(False)
    made.M3.weight.mul_(8)
    return made


def scene(shape, channels=1, batch=1):
    rows, cols = torch.meshgrid(torch.arange(shape[0]), torch.arange(shape[1]), indexing="ij")
    image = 0.5 + 0.3 * torch.sin(rows / 3) * (cols > shape[1] // 2) - 0.2 * (rows > cols)
    return image.expand(batch, channels, *shape) * torch.linspace(0.6, 1, batch)[:, None, None, None]


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("shape", [(20, 24), (15, 13)])
def test_operators_are_adjoint(operator, shape):
    H, x = OPERATORS[operator](shape), torch.randn(1, 1, *shape)
    y = torch.randn_like(H.A(x))
    left, right = (H.A(x) * y.conj()).sum().real, (x * H.A_adjoint(y)).sum()
    assert abs(left - right) <= 1e-5 * H.A(x).norm() * y.norm()


def test_cg_against_a_dense_solve(model):
    shape = (12, 12)
    system = NormalEquations(model, Blur(shape), torch.tensor([25 / 255]), torch.tensor([4.0]))
    x = scene(shape)
    A = system.at(system.mask_squared(x))
    basis = torch.eye(144).reshape(144, 1, *shape)
    dense = torch.cat([A(e[None]).flatten(1) for e in basis]).double()
    assert (dense - dense.T).abs().max() < 1e-5
    expected = torch.linalg.solve(dense, x.flatten().double()).reshape(x.shape)
    found, updates = conjugate_gradients(A, x, torch.zeros_like(x), 1e-14, 500)
    assert updates < 499
    assert (found - expected).norm() / expected.norm() < 1e-4


def test_cg_freezes_each_sample_by_itself():
    torch.manual_seed(0)
    scale = torch.tensor([1.0, 1.0])[:, None, None, None]
    weights = torch.linspace(1, 50, 64).reshape(1, 1, 8, 8)
    b = torch.randn(2, 1, 8, 8)
    alone = [conjugate_gradients(lambda p: weights * p, b[i : i + 1], 0 * b[i : i + 1], 1e-6, 100)[0] for i in (0, 1)]
    start = torch.cat([alone[0], torch.zeros(1, 1, 8, 8)])  # the first sample is solved before it begins
    both, _ = conjugate_gradients(lambda p: scale * weights * p, b, start, 1e-6, 100)
    assert torch.equal(both[:1], alone[0])
    torch.testing.assert_close(both[1:], alone[1])


def test_cg_cap_is_that_of_the_authors():
    b = torch.randn(1, 1, 8, 8)
    weights = torch.linspace(1, 1000, 64).reshape(1, 1, 8, 8)
    _, updates = conjugate_gradients(lambda p: weights * p, b, 0 * b, 1e-20, 5)
    assert updates == 4  # the last pass of the loop only looks


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("batch", [1, 3])
def test_fast_and_reference_agree(model, operator, batch):
    shape = (21, 18)
    H, x = OPERATORS[operator](shape), scene(shape, batch=batch)
    torch.manual_seed(1)
    y = H.A(x + 0.05 * torch.randn_like(x))
    options = {"sigma": 15 / 255, "lmbda": 0.5, "clip": False}
    fast = model.solve(y, H, tol=1e-5, **options)
    slow = model.solve(y, H, tol=1e-7, algorithm="reference", cg_tol=1e-12, max_outer=200, **options)
    assert fast.converged.all() and fast.residual.shape == (batch,)
    assert ((fast.x - slow.x).flatten(1).norm(dim=1) / slow.x.flatten(1).norm(dim=1)).max() < 1e-4
    if operator in ("identity", "blur"):  # where the preconditioner applies
        assert fast.applications < slow.applications


def test_color_and_double_precision():
    torch.manual_seed(2)
    model = DEAL("color").requires_grad_(False).double()
    y = scene((16, 19), channels=3).double() + 0.1 * torch.randn(1, 3, 16, 19, dtype=torch.float64)
    fast = model.solve(y, deal.Identity(), 25 / 255, tol=1e-9)
    assert fast.x.dtype == torch.float64
    assert fast.converged and fast.residual < 1e-9


def test_converged_is_computed(model):
    y = scene((20, 20)) + 0.1 * torch.randn(1, 1, 20, 20)
    solution = model.solve(y, deal.Identity(), 25 / 255, tol=1e-3, clip=False)
    system = NormalEquations(model, deal.Identity(), torch.tensor([25 / 255]), model.lmbda(torch.tensor([25 / 255])))
    m2 = system.mask_squared(solution.x)
    T, _ = conjugate_gradients(system.at(m2), y, solution.x, 1e-13, 500)
    true = float((T - solution.x).norm() / solution.x.norm())
    assert float(solution.residual) == pytest.approx(true, rel=0.1)
    assert bool(solution.converged) == (true <= 1e-3)


@pytest.mark.parametrize("algorithm", ["fast", "reference"])
def test_cap_warns_and_says_not_converged(model, algorithm):
    y = scene((20, 20)) + 0.1 * torch.randn(1, 1, 20, 20)
    with pytest.warns(deal.ConvergenceWarning, match="cap of 2 outer"):
        solution = model.solve(y, deal.Identity(), 25 / 255, tol=1e-9, algorithm=algorithm, max_outer=2)
    assert solution.outer_iterations == 2 and not solution.converged


@pytest.mark.parametrize("algorithm", ["fast", "reference"])
def test_without_noise_the_input_comes_back(model, algorithm):
    y = scene((20, 22))
    for sigma in (1e-3, 1e-5):
        x = model.solve(y, deal.Identity(), sigma / 255, lmbda=sigma, algorithm=algorithm, tol=1e-6).x
        assert (x - y).norm() / y.norm() < 2 * sigma + 1e-5


def test_starting_from_the_solution_stays_there(model):
    y = scene((20, 22)) + 0.1 * torch.randn(1, 1, 20, 22)
    first = model.solve(y, deal.Identity(), 25 / 255, tol=1e-5, clip=False)
    again = model.solve(y, deal.Identity(), 25 / 255, tol=1e-5, clip=False, x0=first.x)
    assert again.outer_iterations <= 1
    assert (again.x - first.x).norm() / first.x.norm() < 1e-5


@pytest.mark.parametrize("algorithm", ["fast", "reference"])
def test_black_data_give_a_black_image_at_once(model, algorithm):
    solution = model.solve(torch.zeros(2, 1, 16, 16), deal.Identity(), 25 / 255, algorithm=algorithm, max_outer=5)
    assert solution.converged.all() and solution.outer_iterations <= 1
    assert not solution.x.any() and not solution.residual.any()


def test_iterates_callback_and_counts(model):
    y, seen = scene((16, 16)) + 0.1 * torch.randn(1, 1, 16, 16), []
    for algorithm in ("fast", "reference"):
        seen.clear()
        solution = model.solve(
            y, deal.Identity(), 0.1, algorithm=algorithm, keep_iterates=True, callback=lambda k, x: seen.append(k)
        )
        assert seen == list(range(1, solution.outer_iterations + 1))
        assert len(solution.iterates) == solution.outer_iterations + 1
        assert solution.masks >= solution.outer_iterations and solution.applications > 0 and solution.seconds > 0


def test_clip(model):
    y = 3 * scene((16, 16))
    assert model.solve(y, deal.Identity(), 0.1, lmbda=1e-3).x.max() == 1
    assert model.solve(y, deal.Identity(), 0.1, lmbda=1e-3, clip=False).x.max() > 1


def test_a_deepinv_like_physics_works_unchanged(model):
    class Physics:  # the two methods of deepinv.physics.LinearPhysics that are used, with its extra keywords
        def A(self, x, **kwargs):
            return 0.5 * x

        def A_adjoint(self, y, **kwargs):
            return 0.5 * y

    x = model.solve(0.5 * scene((16, 16)), Physics(), 5 / 255, lmbda=1e-4, tol=1e-5).x
    assert (x - scene((16, 16))).norm() / x.norm() < 1e-2


class ComplexImages(deal.Identity):
    """An adjoint that forgets to take the real part."""

    def A_adjoint(self, y):
        return torch.complex(y, y)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y": torch.full((1, 1, 16, 16), math.nan)}, "NaN"),
        ({"y": torch.zeros(1, 3, 16, 16)}, r"\(B, 1, H, W\)"),
        ({"y": torch.zeros(16, 16)}, r"\(B, 1, H, W\)"),
        ({"algorithm": "newton"}, "'fast' or 'reference'"),
        ({"y": torch.zeros(0, 1, 16, 16)}, r"the data y are empty: \(0, 1, 16, 16\)"),
        ({"y": torch.zeros(1, 1, 0, 16)}, "the data y are empty"),
        ({"operator": ComplexImages()}, r"A_adjoint\(y\) must be real, as the images are, not torch.complex64"),
        ({"tol": 0}, "^tol must be positive"),
        ({"cg_tol": 0.0}, "cg_tol must be positive, got 0.0"),
        ({"cg_tol": -1e-8}, "cg_tol must be positive"),
        ({"cg_tol": math.nan}, "cg_tol must be positive"),
        ({"max_cg": 1}, "max_cg must be a whole number of at least 2, got 1"),
        ({"max_cg": 9.5}, "max_cg must be a whole number"),
        ({"max_outer": 0}, "max_outer must be a whole number of at least 1, got 0"),
        ({"max_outer": 10.0}, "max_outer must be a whole number of at least 1, got 10.0"),
        ({"max_outer": math.inf}, "max_outer must be a whole number"),
        ({"sigma": -0.1}, "sigma must be finite and >= 0"),
        ({"sigma": math.nan}, "sigma must be finite"),
        ({"sigma": torch.ones(3)}, r"sigma must be a number or \(1,\), one for each sample, got \(3,\)"),
        ({"sigma": torch.ones(1, 1, 1, 1)}, r"sigma must be a number or .* got \(1, 1, 1, 1\)"),
        ({"sigma": None}, r"sigma must be a number or .* got None"),
        ({"lmbda": torch.ones(2)}, r"lambda must be a number or \(1,\), one for each sample, got \(2,\)"),
        ({"lmbda": [1.0, 2.0]}, r"lambda must be a number or .* got \[1.0, 2.0\]"),
        ({"lmbda": math.nan}, "lambda must be finite"),
        ({"lmbda": -0.5}, "lambda must be finite and >= 0"),
        ({"x0": torch.zeros(1, 1, 8, 16)}, r"x0 \(1, 1, 8, 16\) must be finite and of the shape \(1, 1, 16, 16\)"),
        ({"x0": torch.full((1, 1, 16, 16), math.inf)}, "must be finite"),
    ],
)
def test_bad_input(model, change, message):
    arguments = {"y": torch.zeros(1, 1, 16, 16), "operator": deal.Identity(), "sigma": 0.1} | change
    with pytest.raises(ValueError, match=message) as caught:
        model.solve(**arguments)
    assert "\n" not in str(caught.value)


def test_numbers_one_for_all_and_one_for_each(model):
    y = scene((16, 16), batch=2)
    plain = model.solve(y, deal.Identity(), 0.1, 0.5, tol=1e-3).x
    for sigma in (torch.tensor(0.1), torch.tensor([0.1]), [0.1, 0.1], torch.full((2,), 0.1, dtype=torch.float64)):
        assert torch.equal(model.solve(y, deal.Identity(), sigma, torch.full((2,), 0.5), tol=1e-3).x, plain)


def test_an_operator_that_breaks_down_does_not_converge(model):
    class Broken(deal.Identity):
        calls = 0

        def A(self, x):
            self.calls += 1
            return x if self.calls < 4 else x * math.nan

    with pytest.warns(deal.ConvergenceWarning):
        found = model.solve(scene((16, 16)), Broken(), 0.1, tol=1e-6, max_outer=5)
    assert not found.converged.any()


def test_convolutions_on_gpus_are_in_full_precision_while_solving(model):
    seen = []
    before = torch.backends.cudnn.allow_tf32

    def watch(*_):
        seen.append(torch.backends.cudnn.allow_tf32)

    model.solve(scene((16, 16)), deal.Identity(), 0.1, tol=1e-3, callback=watch)
    assert seen and not any(seen) and torch.backends.cudnn.allow_tf32 == before


def slow_places(x):
    """f of a linear map that contracts by 0.97 on the left half of an image and by 0.5 on the right."""
    rate = torch.full((1, 1, 1, 80), 0.03, dtype=torch.float64)
    rate[..., 40:] = 0.5
    return rate * (1 - x)


def test_momentum_is_many_times_faster_in_slow_places():
    z = plain = torch.zeros(2, 1, 20, 80, dtype=torch.float64)
    momentum = Momentum()
    for _ in range(40):
        z, plain = momentum.step(z, slow_places(z)), plain + slow_places(plain)
    assert (1 - plain).abs().max() > 0.2
    assert (1 - z).abs().max() < 0.01


def test_steps_are_shortened_only_where_the_iteration_swings_back_and_forth():
    rate = torch.full((1, 1, 1, 80), 2.05, dtype=torch.float64)  # T is -1.05: plain iteration diverges
    rate[..., 40:] = 0.5
    z = plain = torch.zeros(1, 1, 20, 80, dtype=torch.float64)
    momentum = Momentum()
    for _ in range(12):
        z, plain = momentum.step(z, rate * (1 - z)), plain + rate * (1 - plain)
    assert (1 - plain).abs().max() > 1
    assert (1 - z).abs().max() < 1e-3


@pytest.mark.parametrize(("path", "careful"), [("straight", False), ("circle", True)])
def test_the_guard_tells_a_slow_passage_from_going_round_in_circles(path, careful):
    def at(k):
        values = (0.1 * k, 0.0) if path == "straight" else (math.cos(k), math.sin(k))
        return torch.tensor(values, dtype=torch.float64).view(1, 1, 1, 2)

    guard, momentum = _Guard(at(0)), Momentum()
    eta = guard.eta.item()
    for k in range(1, 20):
        guard.next(at(k), at(k + 1) - at(k), torch.tensor([1e-3], dtype=torch.float64), momentum)
    assert (guard.limit.item() < 1) == careful
    assert (guard.eta.item() < eta) == careful
    for k in range(20, 40):  # progress gives everything back
        guard.next(at(k), at(k + 1) - at(k), torch.tensor([1e-3 * 0.8 ** (k - 20)], dtype=torch.float64), momentum)
    assert guard.limit.item() == guard.damping.item() == 1
    assert guard.eta.item() == eta


def test_momentum_of_a_sample_does_not_depend_on_the_others():
    torch.manual_seed(0)
    start = torch.randn(3, 2, 24, 80, dtype=torch.float64)
    alone, together = start[1:2], start
    one, all_of_them = Momentum(), Momentum()
    for _ in range(12):
        alone = one.step(alone, slow_places(alone))
        together = all_of_them.step(together, slow_places(together))
    torch.testing.assert_close(together[1:2], alone, rtol=0, atol=1e-14)


def soft_kernel() -> torch.Tensor:
    bell = torch.tensor([0.25, 1.0, 0.25])
    return bell[:, None] * bell / 2.25


@pytest.mark.parametrize(
    ("kind", "shape", "factor"),
    [
        ("gray", (64, 70), 1),
        ("gray", (30, 33), 1),
        ("color", (40, 40), 1),
        ("gray", (64, 70), 2),
        ("color", (39, 33), 3),
    ],
)
def test_preconditioner_is_symmetric_positive_and_helps(kind, shape, factor):
    torch.manual_seed(0)
    model = DEAL(kind).requires_grad_(False)
    H = Blur(shape) if factor == 1 else deal.Downsampling(soft_kernel(), factor, shape)
    system = NormalEquations(model, H, torch.tensor([0.1]), torch.tensor([5.0]))
    x = scene(shape, model.channels)
    m2 = system.mask_squared(x)
    P = Recycling(Preconditioner(system, x.shape)).update(m2)
    apply = system.at(m2)
    plain = conjugate_gradients(apply, x, torch.zeros_like(x), 1e-4, 500, True)
    counts = [plain[1]]
    for _ in range(2):  # as it is, and with what some other steps have taught it
        u, v = torch.randn_like(x), torch.randn_like(x)
        torch.testing.assert_close(inner(P(u), v), inner(u, P(v)), rtol=1e-3, atol=1e-3)
        assert inner(P(u), u) > 0
        counts.append(conjugate_gradients(apply, x, torch.zeros_like(x), 1e-4, 500, True, P)[1])
        correction(apply, x.flip(-1), P, 1e-3, 12)
    assert counts[0] > counts[1] > counts[2]


def test_a_preconditioner_knows_the_directions_it_learned_of_each_sample():
    """As in L-BFGS it inverts A exactly on the last of them, whatever P is, and keeps its samples apart."""
    torch.manual_seed(0)
    root = torch.randn(3, 12, 12, dtype=torch.float64)
    A = root @ root.mT + torch.eye(12, dtype=torch.float64)

    def apply(x):
        return (A @ x.flatten(1)[..., None]).view_as(x)

    P = Recycling(lambda r: r / 5)
    given = torch.randn(30, 3, 1, 3, 4, dtype=torch.float64)
    of = torch.rand(30, 3, 1, 1, 1) < 0.8  # more of some samples than are kept
    of[-1, :2], of[-1, 2] = True, False
    for p, active in zip(given, of, strict=True):
        P.note(p, apply(p), inner(p, apply(p)), active)
        P.learn()
    torch.testing.assert_close(P(apply(given[-1]))[:2], given[-1, :2], rtol=1e-8, atol=1e-8)
    alone = Recycling(lambda r: r / 5)
    for p, active in zip(given[:, 2:], of[:, 2:], strict=True):
        if active:
            Ap = (A[2] @ p.flatten()).view_as(p)
            alone.note(p, Ap, inner(p, Ap), active)
            alone.learn()
    r = torch.randn(3, 1, 3, 4, dtype=torch.float64)
    torch.testing.assert_close(P(r)[2:], alone(r[2:]), rtol=1e-8, atol=1e-8)
    assert (inner(r, P(r)) > 0).all()


def test_a_preconditioner_forgets_a_step_that_exploded(model):
    system = NormalEquations(model, deal.Identity(), torch.tensor([0.1]), torch.tensor([5.0]))
    x = scene((24, 20))
    m2 = system.mask_squared(x)
    P = Recycling(Preconditioner(system, x.shape)).update(m2)
    correction(system.at(m2), x, P, 0.1, 4)
    nan = m2 * math.nan
    correction(system.at(nan), x, P.update(nan), 0.1, 4)
    assert P.update(m2)(x).isfinite().all()


def test_a_preconditioner_does_not_change_within_a_run(model):
    system = NormalEquations(model, deal.Identity(), torch.tensor([0.1]), torch.tensor([5.0]))
    x = scene((24, 20))
    P = Recycling(Preconditioner(system, x.shape)).update(system.mask_squared(x))
    before = P(x)
    P.note(x, x, inner(x, x), torch.ones(1, 1, 1, 1, dtype=torch.bool))
    torch.testing.assert_close(P(x), before, rtol=0, atol=0)
    P.learn()
    learned = P(x)
    assert (learned - before).abs().max() > 1e-3
    for pAp in (0.0, math.inf, math.nan):  # an overflow, or an operator whose adjoint is not one, teaches nothing
        P.note(x, math.inf * x, torch.full((1, 1, 1, 1), pAp), torch.ones(1, 1, 1, 1, dtype=torch.bool))
    P.learn()
    torch.testing.assert_close(P(x), learned, rtol=0, atol=0)


@pytest.mark.parametrize(("shape", "factor"), [((48, 50), 2), ((39, 33), 3), ((24, 28), 4), ((10, 6), 2)])
def test_model_of_super_resolution_is_inverted_exactly(shape, factor):
    """C = HᵀH + D of a decimated blur, D a Fourier multiplier."""
    torch.manual_seed(0)
    H = deal.Downsampling(soft_kernel(), factor, shape)
    x, multiplier = torch.rand(2, 3, *shape), 0.01 + torch.rand(2, 3, *shape)
    multiplier = multiplier + multiplier.flip(-1, -2).roll((1, 1), (-2, -1))  # that of a real filter
    multiplier = multiplier[..., : shape[-1] // 2 + 1]
    C = _Aliased(multiplier, *H.aliased_transfer(x.shape), x.shape)
    Cx = H.A_adjoint(H.A(x)) + torch.fft.irfft2(multiplier * torch.fft.rfft2(x), s=shape)
    torch.testing.assert_close(C.solve(Cx), x, rtol=1e-4, atol=1e-5)
    spectrum = C.spectrum(Cx)
    torch.testing.assert_close(C.image(C.root(C.root_adjoint(spectrum))), x, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(C.image(C.relative(C)(spectrum)), Cx, rtol=1e-4, atol=1e-4)


def test_preconditioner_knows_which_frequencies_decimation_mixes(model):
    """It needs fewer iterations than one that takes HᵀH for a convolution."""
    H = deal.Downsampling(torch.ones(1, 1), 3, (39, 33))
    circulant = SimpleNamespace(A=H.A, A_adjoint=H.A_adjoint, approximate_normal_spectrum=H.approximate_normal_spectrum)
    x, counts = scene((39, 33)), []
    for operator in (H, circulant):
        system = NormalEquations(model, operator, torch.tensor([0.1]), torch.tensor([0.3]))
        m2 = system.mask_squared(x)
        P = Preconditioner(system, x.shape).update(m2)
        counts.append(conjugate_gradients(system.at(m2), H.A_adjoint(H.A(x)), 0 * x, 1e-3, 200, True, P)[1])
    assert counts[0] < 0.7 * counts[1]


def test_no_warning_on_an_ordinary_solve(model):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.denoise(scene((16, 16)), 0.1)


def test_what_rounding_forbids_is_given_up(model):
    """One sample of a batch, black, is there at once; what is asked of the other is beyond single precision."""
    y = torch.cat([0 * scene((16, 16)), scene((16, 16))])
    with pytest.warns(ConvergenceWarning, match="100 in vain"):
        out = model.solve(y, deal.Identity(), 0.1, tol=1e-12, clip=False)
    assert out.converged.tolist() == [True, False]
    assert 1e-12 < out.residual[1] < 1e-5
    assert 100 < out.outer_iterations < 400


def test_a_sample_of_a_batch_is_solved_as_if_alone(model):
    torch.manual_seed(0)
    y = scene((24, 40), batch=3) + torch.tensor([0.02, 0.1, 0.2])[:, None, None, None] * torch.randn(3, 1, 24, 40)
    sigma = torch.tensor([5.0, 25, 50]) / 255
    together = model.solve(y, deal.Identity(), sigma, tol=1e-5, clip=False)
    assert together.converged.all()
    for i in range(3):
        alone = model.solve(y[i : i + 1], deal.Identity(), sigma[i : i + 1], tol=1e-5, clip=False)
        torch.testing.assert_close(together.x[i : i + 1], alone.x, rtol=0, atol=1e-6)


def test_a_start_in_bfloat16_leads_to_the_same_point(model, monkeypatch):
    torch.manual_seed(0)
    y = scene((24, 26), batch=2) + 0.1 * torch.randn(2, 1, 24, 26)
    full = model.solve(y, deal.Identity(), 25 / 255, tol=1e-5, clip=False)
    monkeypatch.setattr("deal.solver._bfloat16_is_fast", lambda x: True)
    mixed = model.solve(y, deal.Identity(), 25 / 255, tol=1e-5, clip=False)
    assert mixed.converged.all()
    torch.testing.assert_close(mixed.x, full.x, rtol=0, atol=1e-4)


def test_almost_no_noise_gives_the_data_back():
    """The learned κ of the colour model is below 0 there."""
    model = deal.load("color")
    y = torch.rand(2, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    x = model.denoise(y, torch.tensor([0.0, 0.05 / 255]))
    assert float(model.lmbda(torch.zeros(1))) < 0
    torch.testing.assert_close(x, y, atol=1e-5, rtol=0)


@pytest.mark.parametrize("owner", ["torch.backends", "torch.backends.cudnn", "torch.backends.cudnn.conv"])
def test_it_solves_under_pytorchs_newer_precision_settings(owner):
    """In a process of its own: once made, the choice between old and new settings cannot be taken back."""
    if not hasattr(torch.backends, "fp32_precision"):
        pytest.skip("this PyTorch has the old settings only")
    script = (
        f"import torch, deal\n{owner}.fp32_precision = 'ieee'\ndeal.DEAL('gray').denoise(torch.rand(1, 1, 9, 9), 0.1)\n"
    )
    script += f"assert {owner}.fp32_precision == 'ieee'"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-500:]
