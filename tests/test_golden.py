"""Agreement with the authors' code, on its own values for random weights (tests/golden)."""

from pathlib import Path

import numpy as np
import pytest
import torch

import deal
from deal.solver import NormalEquations, conjugate_gradients

GOLDEN = Path(__file__).parent / "golden"
SIGMA = torch.tensor([25 / 255])


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN / "gray.npz") as file:
        return {name: torch.from_numpy(file[name]) for name in file.files}


@pytest.fixture(scope="module")
def model():
    return deal.load(GOLDEN / "random_gray.pth")


def relative(value, expected):
    return float((value - expected).norm() / expected.norm())


def test_squared_norm(model, golden):
    assert relative(model.W.squared_norm(), golden["L"]) < 1e-6


def test_filters_and_their_adjoint(model, golden):
    W = model.W.bind(golden["L"].rsqrt())
    assert relative(W(golden["x_small"]), golden["W1_x"]) < 1e-5
    assert relative(W.adjoint(golden["z"]), golden["W1t_z"]) < 1e-5
    assert relative(model.W_mask.bind()(golden["x_small"]), golden["M1_x"]) < 1e-5


def test_mask(model, golden):
    assert relative(model.mask(golden["x_small"], SIGMA), golden["mask_x"]) < 1e-5
    assert relative(model.mask(torch.zeros_like(golden["x_small"]), SIGMA), golden["mask_0"]) < 1e-5


def test_splines(model, golden):
    sigma = golden["lambda_sigmas"] / 255
    assert relative(model.lmbda(sigma), golden["lambda_values"]) < 1e-6
    torch.testing.assert_close(model.alpha(sigma), golden["scaling_values"], rtol=1e-5, atol=0)
    for number, spline in enumerate((model.phi1, model.phi2, model.phi3), start=1):
        assert relative(spline(golden["spline_t"]), golden[f"spline{number}_t"]) < 1e-6


def test_inner_solve_takes_the_same_iterations(model, golden):
    lmbda = golden["lambda25"].reshape(1)
    system = NormalEquations(model, deal.Identity(), SIGMA, lmbda)
    A, shrink = system.at(system.mask_squared(golden["x_small"])), 1 / (1 + lmbda)
    x, updates = conjugate_gradients(
        lambda p: shrink * A(p),
        shrink * golden["cg_b"],
        torch.zeros_like(golden["cg_b"]),
        1e-10,
        1000,
    )
    assert relative(x, golden["cg_x"]) < 1e-5
    assert updates == int(golden["cg_iters"])


def test_denoising_with_the_authors_stop_rule(model, golden):
    options = {"lmbda": float(golden["lambda25"]), "clip": False}
    solution = model.solve(
        golden["y_den"], deal.Identity(), 25 / 255, tol=1e-5, algorithm="reference", cg_tol=1e-6, **options
    )
    assert relative(solution.x, golden["den_unclipped"]) < 1e-5
    # The record also counts the last solve, which needs no update and ends the run.
    assert solution.cg_iterations == [*golden["den_cg_iters"].tolist()]
    # That rule stops 3e-4 short of the fixed point, and says so.
    assert 1e-4 < float(solution.residual) < 1e-3
    assert not solution.converged


def test_fast_reaches_the_fixed_point(model, golden):
    options = {"lmbda": float(golden["lambda25"]), "clip": False}
    fast = model.solve(golden["y_den"], deal.Identity(), 25 / 255, tol=1e-6, **options)
    tight = model.solve(
        golden["y_den"],
        deal.Identity(),
        25 / 255,
        tol=1e-7,
        algorithm="reference",
        cg_tol=1e-12,
        max_outer=60,
        **options,
    )
    assert fast.converged
    assert relative(fast.x, tight.x) < 1e-5
