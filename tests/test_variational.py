"""The variational methods on small problems: solutions, batches, improvement."""

from pathlib import Path

import numpy as np
import pytest
import torch
from test_regularisers import random_state, stored

from baselines import Method
from baselines.fdn import FDN
from baselines.linear import squared_norm
from baselines.networks import crr
from baselines.wcrr import CRR, WCRR, denoise, sagd
from deal.operators import Blur, Identity


def picture(side: int = 48) -> torch.Tensor:
    """Smooth parts, edges and a texture, (1, 1, side, side), in [0, 1]."""
    rows, columns = np.mgrid[0:side, 0:side] / side
    image = 0.4 + 0.2 * np.sin(5 * rows) + 0.3 * (np.hypot(rows - 0.5, columns - 0.4) < 0.25)
    image += 0.1 * (columns > 0.7) * np.sin(60 * rows)
    return torch.from_numpy(image.clip(0, 1)).float()[None, None]


def gaussian_blur(side: int = 9, width: float = 1.6) -> Blur:
    grid = torch.arange(side, dtype=torch.float64) - side // 2
    kernel = torch.exp(-(grid[:, None] ** 2 + grid**2) / (2 * width**2))
    return Blur(kernel / kernel.sum())


def noisy(x: torch.Tensor, sigma: float, seed: int = 0) -> torch.Tensor:
    return x + sigma * torch.randn(x.shape, generator=torch.Generator().manual_seed(seed))


def psnr(x: torch.Tensor, truth: torch.Tensor) -> float:
    return float(-10 * (x.clamp(0, 1) - truth).square().mean().log10())


def ready(method: Method, task: str, sigma: float, mirror: Path) -> Method:
    weights = {name: stored(name, mirror) for name in method.weights_for(task, sigma)}
    method.setup(task, sigma, weights, torch.device("cpu"))
    return method


def check(method: Method, task: str, y: torch.Tensor, operator, sigma: float) -> torch.Tensor:
    """Run with defaults; the same twice, float32, and a batch as its images one by one. Returns the estimate."""
    given = {name: p.default for name, p in method.hyperparameters_for(task, sigma).items()}
    with torch.no_grad():
        x = method.reconstruct(y, operator, sigma, **given)
        assert x.dtype == torch.float32 and torch.isfinite(x).all()
        assert torch.equal(x, method.reconstruct(y, operator, sigma, **given))
        both = method.reconstruct(torch.cat([y.flip(-2), y]), operator, sigma, **given)
    torch.testing.assert_close(both[1:], x, atol=2e-3, rtol=0)
    return x


@pytest.mark.parametrize(("kind", "gain"), [(WCRR, 6.5), (CRR, 5.5)])
def test_ridge_regularisers_denoise(kind: type[WCRR], gain: float, mirror: Path) -> None:
    truth, sigma = picture(32), 25 / 255
    method, y = ready(kind(), "denoise_gray", sigma, mirror), noisy(truth, sigma)
    x = check(method, "denoise_gray", y, Identity(), sigma)
    assert psnr(x, truth) > psnr(y, truth) + gain
    assert method.info["converged"] and method.info["iterations"] < 500


def test_wcrr_deblurs(mirror: Path) -> None:
    truth, sigma, operator = picture(24), 2.55 / 255, gaussian_blur(5, 1.0)
    method, y = ready(WCRR(), "deblur_gray", sigma, mirror), noisy(operator.A(truth), sigma)
    x = method.reconstruct(y, operator, sigma)
    assert psnr(x, truth) > psnr(y, truth) + 2
    assert x.min() >= 0


def test_both_solvers_reach_the_stationary_point() -> None:
    """With A = I both minimise ½‖x − y‖² + λR(x); at its minimum the gradient vanishes. (x > 0 holds by itself.)"""
    regulariser = crr.RidgeRegulariser(random_state(), weakly_convex=False, norm=1.0)
    regulariser.norm = 1.02 * regulariser.squared_norm(side=32, steps=50)
    regulariser.at(20)
    y, lmbda = 0.5 + noisy(picture(16), 0.1), 0.3
    one, _, converged = denoise(y, regulariser.gradient, regulariser.mu, lmbda, tol=1e-6, most=1000)
    assert converged
    gradient = one - y + lmbda * regulariser.gradient(one)
    assert gradient.norm() < 1e-3 * (lmbda * regulariser.gradient(y)).norm()
    two, _, converged = sagd(y, Identity(), regulariser.gradient, regulariser.mu, lmbda, tol=1e-6, most=1000)
    assert converged
    torch.testing.assert_close(two, one, atol=2e-3, rtol=0)


def test_squared_norm_is_found_where_the_operator_does_not_know_it() -> None:
    class Scaled:
        def A(self, x: torch.Tensor) -> torch.Tensor:
            return 3 * x

        A_adjoint = A

    assert squared_norm(Scaled(), torch.rand(1, 1, 5, 5)) == pytest.approx(9)
    assert squared_norm(gaussian_blur(), torch.rand(1, 1, 5, 5)) == pytest.approx(1)


@pytest.mark.parametrize("sigma_255", [2.55, 7.65])
def test_fdn_deblurs(sigma_255: float, mirror: Path) -> None:
    truth, sigma, operator = picture(64), sigma_255 / 255, gaussian_blur()
    method, y = ready(FDN(), "deblur_gray", sigma, mirror), noisy(operator.A(truth), sigma)
    x = check(method, "deblur_gray", y, operator, sigma)
    assert psnr(x, truth) > psnr(y, truth) + 1.5


def test_fdn_says_what_it_needs(mirror: Path) -> None:
    method = ready(FDN(), "deblur_gray", 0.03, mirror)
    with pytest.raises(ValueError, match="blur kernel"):
        method.reconstruct(torch.rand(1, 1, 24, 24), Identity(), 0.03)
    with pytest.raises(ValueError, match="trained for noise levels"):
        ready(FDN(), "deblur_gray", 0.1, mirror)
