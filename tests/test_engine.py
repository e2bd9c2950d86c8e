"""The three engines compute the same operators; tiles and Winograd's filtering against plain convolutions."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

import deal
from deal.engine import MASK_MIN, Direct, Plain, Tiled, engine
from deal.tiles import LARGEST, TiledGram
from deal.winograd import Winograd

SIDES = st.integers(1, 41)


def rounding(dtype: torch.dtype, factor: float) -> float:
    return factor * torch.finfo(dtype).eps


def close(found: torch.Tensor, expected: torch.Tensor, factor: float) -> None:
    assert found.shape == expected.shape
    scale = expected.abs().max().clamp(min=1e-3)
    assert ((found - expected).abs().max() / scale).item() < rounding(expected.dtype, factor)


@given(SIDES, SIDES, st.integers(1, 3), st.sampled_from([3, 9]), st.sampled_from([torch.float32, torch.float64]))
@settings(max_examples=30, deadline=None)
def test_tiles_against_convolutions(height, width, batch, size, dtype):
    torch.manual_seed(height * 100 + width)
    kernel, u = torch.randn(6, 2, size, size, dtype=dtype), torch.randn(batch, 2, height, width, dtype=dtype)
    w = torch.rand(batch, 6, height, width, dtype=dtype)
    gram = TiledGram(kernel)
    Ku = F.conv2d(u, kernel, padding=size // 2)
    close(gram.forward(u), Ku, 100)
    close(gram(u, gram.weight(w)), F.conv_transpose2d(w * Ku, kernel, padding=size // 2), 300)


def test_many_tiles_are_cut_into_parts():
    kernel, u, w = torch.randn(4, 2, 9, 9), torch.randn(2, 2, 130, 75), torch.rand(2, 4, 130, 75)
    gram = TiledGram(kernel)
    weight = gram.weight(w)
    assert len(weight) > 2
    close(gram(u, weight), F.conv_transpose2d(w * F.conv2d(u, kernel, padding=4), kernel, padding=4), 300)


@given(SIDES, SIDES, st.integers(1, 3), st.sampled_from([torch.float32, torch.float64]))
@settings(max_examples=30, deadline=None)
def test_winograd_against_a_convolution(height, width, batch, dtype):
    torch.manual_seed(height * 100 + width)
    kernel, x = torch.randn(5, 7, 3, 3, dtype=dtype), torch.rand(batch, 7, height, width, dtype=dtype)
    close(Winograd(kernel)(x), F.conv2d(x, kernel, padding=1), 200)


@pytest.mark.parametrize(("dtype", "factor"), [(torch.float64, 1e4), (torch.float32, 1e4)])
@pytest.mark.parametrize("kind", ["gray", "color"])
@pytest.mark.parametrize("shape", [(33, 50), (7, 90)])
def test_engines_agree(kind, shape, dtype, factor):
    model = deal.load(kind).to(dtype)
    rows, columns = torch.meshgrid(*(torch.linspace(0, 1, n, dtype=dtype) for n in shape), indexing="ij")
    noise = torch.randn(2, model.channels, *shape, dtype=dtype, generator=torch.Generator().manual_seed(0))
    x = (rows > columns).to(dtype) * 0.5 + 0.3 * rows + 0.02 * noise
    sigma, norm = torch.tensor([5 / 255, 30 / 255], dtype=dtype), model.W.squared_norm()
    plain, direct, tiled = (each(model, sigma, norm) for each in (Plain, Direct, Tiled))
    m2 = plain.mask_squared(x)
    bound = rounding(dtype, factor)  # the noise scaling amplifies rounding before the last spline
    torch.testing.assert_close(m2, model.mask(x, sigma).square(), rtol=0, atol=bound)
    assert m2.min() >= MASK_MIN**2 * (1 - 1e-5)
    assert m2.max() <= 1
    expected = plain.gram(x, plain.weight(m2))
    for other in (direct, tiled):
        torch.testing.assert_close(other.mask_squared(x), m2, rtol=0, atol=bound)
        close(other.gram(x, other.weight(m2)), expected, 1000)


def test_gram_is_symmetric_and_positive():
    model = deal.load("gray").double()
    sigma = torch.tensor([20 / 255], dtype=torch.float64)
    tiled = Tiled(model, sigma, model.W.squared_norm())
    u, v = torch.randn(2, 1, 1, 40, 53, dtype=torch.float64)
    weight = tiled.weight(tiled.mask_squared(torch.rand_like(u)))
    left, right = (tiled.gram(u, weight) * v).sum(), (u * tiled.gram(v, weight)).sum()
    torch.testing.assert_close(left, right, rtol=1e-10, atol=0)
    assert (tiled.gram(u, weight) * u).sum() > 0


def test_which_engine():
    model = deal.load("gray")
    sigma, norm = torch.tensor([0.1]), model.W.squared_norm()
    assert type(engine(model, sigma, norm)) is Tiled
    assert type(engine(model, sigma, norm, torch.bfloat16)) is Direct
    assert type(engine(model, sigma, norm, plain=True)) is Plain


def test_a_bound_spline_overwrites_its_argument_with_the_same_values():
    spline = deal.load("gray").phi3
    t = torch.linspace(-5, 5, 1001)
    expected = spline(t.clone())
    out = spline.bind()(t)
    assert out is t
    torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-6)


def test_a_bound_spline_overwrites_a_part_of_an_image():
    """What Winograd's tiles leave of an image whose width is no multiple of 4."""
    spline = deal.load("gray").phi2
    whole = torch.linspace(-5, 5, 2 * 8 * 12 * 6).view(2, 8, 12, 6)
    before = whole.clone()
    part = whole[:, 1:6, :11].permute(0, 3, 1, 2)
    expected = spline(part.clone())
    assert spline.bind()(part) is part
    torch.testing.assert_close(part, expected, rtol=1e-5, atol=1e-6)
    whole[:, 1:6, :11] = before[:, 1:6, :11]
    assert torch.equal(whole, before)


@pytest.mark.parametrize("bound", [True, False])
def test_splines_pass_nan_on(bound):
    spline = deal.load("gray").phi3
    t = torch.tensor([0.5, math.nan, math.inf, 2.0])
    out = spline.bind()(t.clone()) if bound else spline(t[None, None])[0, 0]
    assert out[1].isnan() and out[[0, 3]].isfinite().all()


VARIANTS = [
    ("gray", {"filters": 32, "kernel_size": 5}),
    ("color", {"filters": 64}),
    ("gray", {"filters": 8, "kernel_size": 15}),
]


@pytest.mark.parametrize(("kind", "architecture"), VARIANTS)
def test_engines_agree_for_other_architectures(kind, architecture):
    torch.manual_seed(1)
    model = deal.DEAL(kind, **architecture).requires_grad_(False).double()
    x, sigma = torch.rand(2, model.channels, 27, 30, dtype=torch.float64), torch.tensor([5 / 255, 30 / 255]).double()
    norm = model.W.squared_norm()
    plain, direct, chosen = (each(model, sigma, norm) for each in (Plain, Direct, engine))
    assert type(chosen) is (Direct if model.architecture.kernel_size > LARGEST else Tiled)
    m2 = plain.mask_squared(x)
    assert m2.shape == (2, model.architecture.filters, 27, 30)
    assert ((m2 > 1.1 * MASK_MIN**2) & (m2 < 0.99)).double().mean() > 0.01
    torch.testing.assert_close(m2, model.mask(x, sigma).square(), rtol=0, atol=1e-10)
    expected = plain.gram(x, plain.weight(m2))
    for other in (direct, chosen):
        torch.testing.assert_close(other.mask_squared(x), m2, rtol=0, atol=1e-10)
        close(other.gram(x, other.weight(m2)), expected, 1000)


@pytest.mark.parametrize(("kind", "architecture"), VARIANTS[:2])
def test_both_algorithms_agree_for_other_architectures(kind, architecture):
    torch.manual_seed(2)
    model = deal.DEAL(kind, **architecture).requires_grad_(False)
    y = torch.rand(1, model.channels, 20, 24)
    fast = model.solve(y, deal.Identity(), 0.1, lmbda=5.0, tol=1e-5)
    reference = model.solve(y, deal.Identity(), 0.1, lmbda=5.0, tol=1e-5, algorithm="reference", cg_tol=1e-11)
    assert fast.converged.all() and reference.converged.all()
    assert (fast.x - reference.x).norm() < 1e-4 * reference.x.norm()
