"""Splines, filters and model: properties that hold for any weights."""

import numpy as np
import pytest
import torch

from deal.model import DEAL, MASK_MIN, PUBLISHED
from deal.splines import LinearSpline, constant, gaussian, identity


@pytest.fixture(scope="module", params=["gray", "color"])
def model(request):
    torch.manual_seed(0)
    return DEAL(request.param).requires_grad_(False)


def test_parameter_count(model):
    assert sum(p.numel() for p in model.parameters()) == {"gray": 468_570, "color": 847_002}[model.kind]


def test_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="'gray' or 'color'"):
        DEAL("grey")


@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        ({"filters": 0}, "filters must be a positive whole number, not 0"),
        ({"kernel_size": 8}, "kernel_size must be odd and at least 3, not 8"),
        ({"kernel_size": 1}, "kernel_size must be odd"),
        ({"non_decreasing": 1}, "non_decreasing must be true or false, not 1"),
    ],
)
def test_architectures_that_cannot_be_are_refused(architecture, message):
    with pytest.raises(ValueError, match=message):
        DEAL("gray", **architecture)


def test_the_splines_are_constrained_unless_asked_otherwise():
    model, free = DEAL("gray"), DEAL("gray", non_decreasing=False)
    assert model.architecture == PUBLISHED and free.architecture != PUBLISHED
    assert [s.non_decreasing for s in (model.phi1, model.phi2, model.phi3)] == [True, True, False]
    assert not (free.phi1.non_decreasing or free.phi2.non_decreasing)
    free.load_state_dict(model.state_dict())  # the same parameters


@pytest.mark.parametrize("size", [3, 5, 11])
def test_gray_normalisation_for_other_kernels(size):
    torch.manual_seed(1)
    W = DEAL("gray", filters=16, kernel_size=size).requires_grad_(False).W
    response = W.effective_kernels()
    assert response.shape == (16, 1, 3 * size - 2, 3 * size - 2)
    side = 255 + 2 * W.reach
    exact = torch.fft.fft2(response, s=(side, side)).abs().square().sum((0, 1)).max()
    torch.testing.assert_close(W.squared_norm(), exact, rtol=1e-4, atol=0)


@pytest.mark.parametrize("shape", [(20, 24), (13, 17), (9, 30)])
@pytest.mark.parametrize("block", ["W", "W_mask"])
def test_filters_adjoint(model, shape, block):
    filters = getattr(model, block).bind()
    x, z = torch.randn(2, model.channels, *shape), torch.randn(2, 128, *shape)
    left, right = (filters(x) * z).sum(), (x * filters.adjoint(z)).sum()
    assert abs(left - right) <= 1e-5 * filters(x).norm() * z.norm()


def test_filters_annihilate_constants_away_from_the_border(model):
    response = model.W.bind()(torch.full((1, model.channels, 40, 40), 0.7))
    inside = response[:, :, 12:-12, 12:-12]
    assert inside.abs().max() < 1e-6 * response.abs().max()


def test_effective_kernels_are_the_impulse_responses(model):
    x = torch.randn(1, model.channels, 64, 64)
    kernels = model.W.effective_kernels().flip(2, 3)  # impulse response → correlation kernel
    direct = torch.nn.functional.conv2d(x, kernels, padding=12)
    inside = (..., slice(12, -12), slice(12, -12))
    torch.testing.assert_close(direct[inside], model.W.bind()(x)[inside], rtol=0, atol=1e-5)


def test_gray_normalisation_is_the_operator_norm_on_the_grid():
    torch.manual_seed(1)
    model = DEAL("gray").requires_grad_(False)
    W = model.W.bind(model.W.squared_norm().rsqrt())
    x = torch.randn(1, 1, 96, 96)
    for _ in range(100):
        x = W.adjoint(W(x / x.norm()))
    assert 0.95 < x.norm() <= 1 + 1e-4  # a finite image with zero borders stays just below the grid's maximum


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_mask_range(model, dtype):
    x = torch.rand(2, model.channels, 15, 12) * 3 - 1
    mask = model.mask(x, torch.tensor([5 / 255, 25 / 255]), dtype=dtype)
    assert mask.shape == (2, 128, 15, 12)
    assert mask.min() >= MASK_MIN - 1e-4 and mask.max() <= 1


def spline(**options):
    torch.manual_seed(0)
    made = LinearSpline(1, 31, 0, 3, identity, **options).requires_grad_(False)
    made.coefficients += 0.2 * torch.randn(1, 31)
    return made


def test_spline_interpolates_and_extrapolates():
    phi = spline()
    knots, values = np.linspace(0, 3, 31), phi.coefficients[0].numpy()
    t = torch.linspace(0, 3, 500)
    np.testing.assert_allclose(phi(t), np.interp(t, knots, values), atol=1e-5)
    slope = (values[-1] - values[-2]) / 0.1
    np.testing.assert_allclose(phi(torch.tensor([4.5])), [values[-1] + 1.5 * slope], rtol=1e-4)


def test_spline_is_even():
    t = torch.linspace(-5, 5, 101)
    torch.testing.assert_close(spline()(t), spline()(t.flip(0)))


def test_spline_at_agrees_with_forward():
    phi, t = spline(non_decreasing=True), torch.linspace(0, 4, 50)
    torch.testing.assert_close(phi.at(t)[:, 0], phi(t), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("layout", ["plain", "channels_last", "strided"])
def test_bfloat16_table_is_the_rounded_spline(layout):
    t = torch.randn(2, 8, 6, 4)
    t = {"plain": t, "channels_last": t.contiguous(memory_format=torch.channels_last), "strided": t[:, ::2]}[layout]
    t = t.bfloat16()
    phi = spline(non_decreasing=True)
    torch.testing.assert_close(phi(t), phi(t.float()).bfloat16(), rtol=0, atol=0)


def test_projection_keeps_the_mean_and_makes_slopes_non_negative():
    phi = spline(non_decreasing=True)
    values = phi.values()
    assert (values.diff() >= -1e-6).all()
    assert (phi.coefficients.diff() < 0).any()
    torch.testing.assert_close(values.mean(), phi.coefficients.mean())


@pytest.mark.parametrize("non_decreasing", [False, True])
def test_spline_gradients(non_decreasing):
    phi = LinearSpline(1, 7, 0, 3, gaussian, non_decreasing).double()
    with torch.no_grad():
        phi.coefficients += 0.3 * torch.randn(1, 7, dtype=torch.float64)
    t = torch.linspace(-3.9, 3.9, 24, dtype=torch.float64, requires_grad=True)

    def evaluate(t, coefficients):
        return torch.func.functional_call(phi, {"coefficients": coefficients}, (t,))

    assert torch.autograd.gradcheck(evaluate, (t, phi.coefficients.detach().clone().requires_grad_()))


def test_bfloat16_spline_gradients_follow_float32():
    t = torch.randn(4, 8, 16, 16)
    grads = []
    for dtype in (torch.float32, torch.bfloat16):
        phi = LinearSpline(1, 31, 0, 3, gaussian)
        u = t.to(torch.bfloat16).to(dtype).requires_grad_()
        phi(u).float().square().sum().backward()
        grads.append((u.grad.float(), phi.coefficients.grad))
    torch.testing.assert_close(grads[1][0], grads[0][0], rtol=0.05, atol=0.05)
    torch.testing.assert_close(grads[1][1], grads[0][1], rtol=0.02, atol=0.02 * float(grads[0][1].abs().max()))


def test_second_order_variation():
    phi = LinearSpline(1, 31, 0, 3, lambda t: (t - 1.5).abs())
    assert phi.second_order_variation().item() == pytest.approx(2.0, rel=1e-4)  # one kink, slopes −1 → 1
    assert LinearSpline(1, 31, 0, 3, identity).second_order_variation().item() == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("arguments", [(1, 1, 0, 3, identity), (1, 5, 3, 3, identity)])
def test_bad_spline(arguments):
    with pytest.raises(ValueError, match="linear spline"):
        LinearSpline(*arguments)


def test_constant_must_be_finite():
    with pytest.raises(ValueError, match="cannot start"):
        constant(float("nan"))
