"""Blur of a scene that goes on beyond the picture."""

import pytest
import scipy.signal
import torch

import deal
from deal.boundary import CroppedBlur

GENERATOR = torch.Generator().manual_seed(0)


@pytest.mark.parametrize("factor", [1, 2, 3])
@pytest.mark.parametrize("sides", [(3, 5), (4, 1), (6, 7)])
def test_it_is_the_valid_part_of_the_convolution(sides, factor):
    kernel = torch.rand(sides, generator=GENERATOR, dtype=torch.float64)
    operator = CroppedBlur(kernel, (1, 2, 10, 13), factor)
    x = torch.rand(1, 2, *operator.grid, generator=GENERATOR, dtype=torch.float64)
    y = operator.A(x)
    assert y.shape == (1, 2, 10, 13)
    for channel in range(2):
        expected = scipy.signal.convolve2d(x[0, channel], kernel, mode="valid")[::factor, ::factor]
        assert torch.allclose(y[0, channel], torch.from_numpy(expected), atol=1e-12)


@pytest.mark.parametrize(("factor", "size"), [(1, "12×10"), (2, "21×18")])
def test_adjoint_and_bound(factor, size):
    kernel = torch.rand(4, 3, generator=GENERATOR, dtype=torch.float64)
    operator = CroppedBlur(kernel, (9, 8), factor)
    x = torch.randn(2, 1, *operator.grid, generator=GENERATOR, dtype=torch.float64)
    y = torch.randn(2, 1, 9, 8, generator=GENERATOR, dtype=torch.float64)
    assert torch.allclose((operator.A(x) * y).sum(), (x * operator.A_adjoint(y)).sum())
    assert operator.A(x).square().sum() <= operator.squared_norm * x.square().sum()
    with pytest.raises(ValueError, match=f"takes images of {size}"):
        operator.A(y)


def test_crop_is_the_part_that_the_picture_shows():
    """A kernel that only shifts: y is the cropped x, moved by that shift."""
    kernel = torch.zeros(3, 3, dtype=torch.float64)
    kernel[1, 1] = 1
    operator = CroppedBlur(kernel, (6, 7))
    x = torch.rand(1, 1, *operator.grid, generator=GENERATOR, dtype=torch.float64)
    assert torch.allclose(operator.A(x), operator.crop(x)) and operator.crop(x).shape == (1, 1, 6, 7)


@pytest.mark.parametrize("factor", [1, 2, 3])
@pytest.mark.parametrize("sides", [(3, 5), (4, 1), (6, 7)])
def test_extending_is_undone_by_cropping(sides, factor):
    operator = CroppedBlur(torch.ones(sides), (6, 7), factor)
    y = torch.rand(1, 3, 6, 7, generator=GENERATOR)
    x = operator.extend(y)
    assert x.shape[-2:] == operator.grid
    assert torch.allclose(operator.crop(x)[..., ::factor, ::factor], y, atol=1e-6)
    assert x[0, 0, 0, 0] == y[0, 0, 0, 0] and x[0, 0, -1, -1] == y[0, 0, -1, -1]


@pytest.mark.parametrize("factor", [1, 2])
def test_approximate_spectrum_is_the_nearest_circulants(factor):
    kernel = torch.rand(3, 3, generator=GENERATOR, dtype=torch.float64)
    operator = CroppedBlur(kernel, (5, 4), factor)
    height, width = operator.grid
    basis = torch.eye(height * width, dtype=torch.float64).reshape(-1, 1, height, width)
    normal = torch.fft.rfft2(operator.A_adjoint(operator.A(basis))).reshape(-1, height, width // 2 + 1)
    waves = torch.fft.rfft2(basis).reshape(-1, height, width // 2 + 1)
    diagonal = (waves.conj() * normal).real.sum(0) / (height * width)
    found = operator.approximate_normal_spectrum((height, width))
    assert torch.allclose(found.double(), diagonal, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("factor", [1, 2])
def test_a_scene_that_is_not_periodic_is_deblurred_without_ringing(factor):
    """A ramp, dark on the left and bright on the right: with a circular model the edges ring, with this they do not."""
    model = deal.load("gray")
    scene = torch.linspace(0.1, 0.9, 28).expand(1, 1, 24, 28)
    kernel = torch.full((1, 5), 0.2)
    operator = CroppedBlur(kernel, (24 // factor, 24 // factor), factor)
    y = operator.A(scene)
    truth = operator.crop(scene)
    errors = []
    for H in (operator, deal.Blur(kernel) if factor == 1 else deal.Downsampling(kernel, factor, (24, 24))):
        x0 = operator.extend(y) if H is operator else None
        x = model.solve(y, H, 15 / 255, 0.5, tol=1e-2, x0=x0).x
        errors.append(float((operator.crop(x) if H is operator else x).sub(truth).abs().max()))
    assert errors[0] < 0.1 < errors[1]


def test_a_factor_below_one_is_refused():
    with pytest.raises(ValueError, match="must be at least 1, got 0"):
        CroppedBlur(torch.ones(3, 3), (5, 4), 0)
