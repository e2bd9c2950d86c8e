"""PSNR and SSIM with their conventions named; a convention outweighs most differences between methods.

Images are arrays (C, H, W) or (H, W) with values nominally in [0, 1]. Nothing here rounds or shaves borders.
"""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray


def _pair(x: ArrayLike, truth: ArrayLike, clip: bool) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    estimate, reference = np.asarray(x, dtype=np.float64), np.asarray(truth, dtype=np.float64)
    if estimate.shape != reference.shape:
        raise ValueError(f"shapes differ: {estimate.shape} and {reference.shape}")
    return (np.clip(estimate, 0.0, 1.0) if clip else estimate), reference


def psnr(x: ArrayLike, truth: ArrayLike, *, clip: bool) -> float:
    """PSNR = 10 log10(1 / MSE) in dB: peak 1, float64 mean over pixels and channels; inf for equal images.

    `clip` says whether `x` is clipped to [0, 1] first. A table's value is the mean of this over images, never
    the PSNR of the pooled error.
    """
    estimate, reference = _pair(x, truth, clip)
    mse = float(np.mean((estimate - reference) ** 2))
    return math.inf if mse == 0 else -10.0 * math.log10(mse)


def ssim(x: ArrayLike, truth: ArrayLike, *, clip: bool, gaussian: bool = False) -> float:
    """SSIM as scikit-image's defaults define it: 7×7 uniform window, sample covariance, data range 1.

    `gaussian`: as torchmetrics' defaults do, by which the paper's MRI is scored: a Gaussian window of 11×11 pixels with
    σ = 1.5, population covariance. Channels are averaged. The two differ by about 0.01.
    """
    from skimage.metrics import structural_similarity

    estimate, reference = _pair(x, truth, clip)
    axis = 0 if estimate.ndim == 3 else None
    window = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False} if gaussian else {}
    return float(structural_similarity(reference, estimate, data_range=1.0, channel_axis=axis, **window))
