"""PSNR and SSIM: their conventions, on values known in closed form or from scikit-image."""

import math

import numpy as np
import pytest

from bench import metrics


def test_psnr_of_a_constant_error() -> None:
    x = np.full((3, 8, 9), 0.5, dtype=np.float32)
    assert metrics.psnr(x + np.float32(0.25), x, clip=False) == pytest.approx(20 * math.log10(4), abs=1e-9)
    assert metrics.psnr(x, x, clip=True) == math.inf


def test_psnr_averages_over_channels_before_the_logarithm() -> None:
    x = np.zeros((2, 4, 4))
    y = np.stack([np.full((4, 4), 0.1), np.full((4, 4), 0.3)])
    assert metrics.psnr(y, x, clip=False) == pytest.approx(-10 * math.log10((0.01 + 0.09) / 2), abs=1e-12)


def test_clipping_is_explicit() -> None:
    x, y = np.ones((1, 4, 4)), np.full((1, 4, 4), 1.5)
    assert metrics.psnr(y, x, clip=True) == math.inf
    assert metrics.psnr(y, x, clip=False) == pytest.approx(-20 * math.log10(0.5))


def test_psnr_is_computed_in_float64() -> None:
    rng = np.random.default_rng(0)
    x = rng.random((1, 300, 300)).astype(np.float32)
    y = (x + 1e-4 * rng.standard_normal(x.shape)).astype(np.float32)
    exact = -10 * math.log10(np.mean((y.astype(np.float64) - x.astype(np.float64)) ** 2))
    assert metrics.psnr(y, x, clip=False) == exact


@pytest.mark.parametrize("shape", [(1, 24, 30), (3, 24, 30)])
def test_ssim_is_scikit_images_default(shape: tuple[int, ...]) -> None:
    from skimage.metrics import structural_similarity

    rng = np.random.default_rng(1)
    x = rng.random(shape)
    y = x + 0.1 * rng.standard_normal(shape)
    expected = np.mean([structural_similarity(a, b, data_range=1.0) for a, b in zip(x, y, strict=True)])
    assert metrics.ssim(y, x, clip=False) == pytest.approx(expected, abs=1e-12)
    assert metrics.ssim(x, x, clip=False) == 1


@pytest.mark.parametrize("shape", [(24, 30), (1, 24, 30)])
def test_ssim_of_mri_is_torchmetrics_default(shape: tuple[int, ...]) -> None:
    """A Gaussian window of 11×11 pixels with σ = 1.5 inside the image, K1 = 0.01, K2 = 0.03, by scipy's correlation."""
    from scipy.ndimage import correlate

    rng = np.random.default_rng(1)
    x = rng.random(shape)
    y = x + 0.1 * rng.standard_normal(shape)
    bell = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    window = np.outer(bell, bell) / bell.sum() ** 2
    a, b = x.reshape(24, 30), y.reshape(24, 30)
    mean = {
        name: correlate(image, window)
        for name, image in {"a": a, "b": b, "aa": a * a, "bb": b * b, "ab": a * b}.items()
    }
    covariance, variances = (
        mean["ab"] - mean["a"] * mean["b"],
        mean["aa"] - mean["a"] ** 2 + mean["bb"] - mean["b"] ** 2,
    )
    found = (2 * mean["a"] * mean["b"] + 1e-4) * (2 * covariance + 9e-4)
    found /= (mean["a"] ** 2 + mean["b"] ** 2 + 1e-4) * (variances + 9e-4)
    assert metrics.ssim(y, x, clip=False, gaussian=True) == pytest.approx(found[5:-5, 5:-5].mean(), abs=1e-12)
    assert metrics.ssim(y, x, clip=False) != pytest.approx(found[5:-5, 5:-5].mean(), abs=1e-4)


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="shapes differ"):
        metrics.psnr(np.zeros((1, 4, 4)), np.zeros((4, 4)), clip=False)
