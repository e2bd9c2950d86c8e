"""Constants of the paper and of its authors' code, as numbers: a wrong one changes results and raises no error."""

import inspect
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from baselines import dpir, epll, fdn, ircnn, plug_and_play, pnp_dncnn, prox_drunet, safi, sarr, tv, wcrr
from bench import registry
from bench.configfile import load
from bench.per_image import authors, differences
from bench.results import Result
from deal import DEAL

ROOT = Path(__file__).resolve().parents[1]
PAPER = load([ROOT / "config.yaml"])


def default(function: Any, name: str) -> Any:
    return inspect.signature(function).parameters[name].default


def test_baselines() -> None:
    found = {
        "FISTA of TV": (tv.DUAL_STEPS, tv.TOL, tv.MOST, tv.MRI_START),
        "WCRR, denoising": (
            default(wcrr.denoise, "lmbda"),
            default(wcrr.denoise, "tol"),
            default(wcrr.denoise, "most"),
        ),
        "WCRR, SAGD": (default(wcrr.sagd, "tol"), default(wcrr.sagd, "most"), wcrr.MOST_VALIDATING),
        "SAFI, tolerances": tuple(round(1e5 * tol, 2) for tol in safi.TOLERANCES),
        "SAFI, steps": (safi.DUAL_STEPS, safi.OUTER_STEPS, safi.VALIDATION_STEPS, safi.RAMP, safi.MRI_MODEL),
        "SAFI, λ": (safi.SAFI_TUNED, safi.MRI_TUNED, safi.MRI_START),
        "Prox-DRUNet": (prox_drunet.ALPHA, prox_drunet.TOL, prox_drunet.MAX_ITERATIONS),
        "Prox-DRUNet, α in force": default(prox_drunet.douglas_rachford, "alpha"),
        "Prox-DRUNet, λ and level": prox_drunet.SUPERRES,
        "PnP-DnCNN": (pnp_dncnn.PnPDnCNN.tol, pnp_dncnn.PnPDnCNN.max_iterations),
        "PnP-DnCNN, validation": (pnp_dncnn.VALIDATION_TOL, pnp_dncnn.VALIDATION_ITERATIONS),
        "PnP-DnCNN, start": [(p.default, p.high) for p in pnp_dncnn.PARAMETERS.values()],
        "IRCNN": (ircnn.ITERATIONS, ircnn.LAST_255.default, ircnn.LAST_255.high),
        "HQS": (plug_and_play.FIRST_255, plug_and_play.FLOOR_255),
    }
    assert found == {
        "FISTA of TV": (100, 1e-5, 3000, 6.194895e-4),
        "WCRR, denoising": (1.0, 1e-4, 500),
        "WCRR, SAGD": (5e-6, 4000, 3000),
        "SAFI, tolerances": (100, 39.81, 15.85, 6.31, 2.51, 1, 1, 1, 1, 1),
        "SAFI, steps": ({"denoise": 100, "other": 500}, 1000, 500, 50, 15),
        "SAFI, λ": ({5: 8.5154e-4, 15: 1.6158e-3, 25: 2.2938e-3}, {"single4_pdfs": 1.7208e-5}, 5e-6),
        "Prox-DRUNet": (0.5, 1e-8, 1000),
        "Prox-DRUNet, α in force": 0.5,
        "Prox-DRUNet, λ and level": {2.55: (5, 2), 7.65: (1.5, 1), 12.75: (1, 0.75)},
        "PnP-DnCNN": (5e-7, 10000),
        "PnP-DnCNN, validation": (1e-5, 2000),
        "PnP-DnCNN, start": [(0.03, 1), (1, 2)],
        "IRCNN": (30, 13, 15),
        "HQS": (49, 0.255),
    }


@pytest.mark.parametrize(
    ("method", "task", "steps", "factor"),
    [(dpir.DPIR, "deblur_gray", 8, 0.23), (ircnn.IRCNN, "deblur_gray", 30, 1 / 3)],
)
def test_weights_of_the_data(method: type, task: str, steps: int, factor: float, monkeypatch) -> None:
    """ρ_k = factor·σ²/σ_k², σ_k from 49 down to the noise level (DPIR) or to 13 (IRCNN)."""
    module = inspect.getmodule(method)
    seen: dict[str, Any] = {}

    def splitting(x, y, operator, denoise, sigmas, rhos, ensemble):
        seen.update(sigmas=sigmas, rhos=rhos)
        return x

    for place in (plug_and_play, module):
        monkeypatch.setattr(place, "half_quadratic_splitting", splitting, raising=False)
    y, sigma = torch.rand(1, 1, 8, 8), 7.65 / 255
    if method is dpir.DPIR:
        plug_and_play.dpir(y, Same(), sigma, None)
    else:
        made = method()
        made.color, made.network = False, None
        made.reconstruct(y, Same(), sigma)
    assert len(seen["sigmas"]) == steps and 255 * seen["sigmas"][0] == pytest.approx(49)
    assert 255 * seen["sigmas"][-1] == pytest.approx(7.65 if method is dpir.DPIR else 13)
    np.testing.assert_allclose(seen["rhos"], [factor * sigma**2 / level**2 for level in seen["sigmas"]])


class Same:
    """The identity as a forward operator."""

    def A(self, x: torch.Tensor) -> torch.Tensor:
        return x

    A_adjoint = A


MRI = {
    "wcrr": {
        "single4_pd": (6.6234e-3, 9.9351),
        "single4_pdfs": (7.5984e-3, 15.0),
        "multi8_pd": (2.2078e-3, 13.0753),
        "multi8_pdfs": (2.2078e-3, 13.0753),
    },
    "sarr": {
        "single4_pd": (4.3869e-3, 11.3975),
        "single4_pdfs": (2.9056e-3, 21.1442),
        "multi8_pd": (1.2747e-3, 10.6412),
        "multi8_pdfs": (1.4623e-3, 11.3975),
    },
}


@pytest.mark.parametrize("name", MRI)
def test_known_values_of_every_mri_setting(name: str) -> None:
    assert list(MRI[name]) == PAPER.tasks.mri.settings()
    for setting, expected in {**MRI[name], "single2_pd": MRI[name]["single4_pd"]}.items():
        found = registry.create(name, PAPER, setting).hyperparameters_for("mri", 0.002)
        assert tuple(p.default for p in found.values()) == expected


@pytest.mark.parametrize("setting", MRI["sarr"])
def test_sarr_looks_through_the_noise_level_that_wcrr_was_tuned_to(setting: str, monkeypatch) -> None:
    asked, strengths = [], []

    class Regulariser:
        mu = 1.0

        def __init__(self, stage: str) -> None:
            self.stage = stage

        def at(self, level: float) -> "Regulariser":
            asked.append((self.stage, level))
            return self

        def gradient(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
            return x

    def solver(y, operator, gradient, mu, lmbda, start=None, tol=None, most=None):
        strengths.append((lmbda, tol, most))
        return y, 1, True

    monkeypatch.setattr(sarr, "sagd", solver)
    method = registry.create("sarr", PAPER, setting)
    method.task, method.network = "mri", lambda x: x
    method.first, method.second = Regulariser("first"), Regulariser("second")
    method.reconstruct(torch.rand(1, 1, 4, 4), Same(), 0.002)
    lmbda, level = MRI["sarr"][setting]
    assert asked == [("first", MRI["wcrr"][setting][1]), ("second", level)]
    assert strengths == [(lmbda, 1e-5, 1000)] * 2, "both stages share λ"
    method.reconstruct(torch.rand(1, 1, 4, 4), Same(), 0.002, lmbda=0.5, sigma_255=7.0)
    assert asked[2:] == [("first", MRI["wcrr"][setting][1]), ("second", 7.0)] and strengths[2][0] == 0.5


def test_the_solver_of_every_task() -> None:
    shared = {"algorithm": "reference", "tol": 1e-5, "max_outer": 1000, "max_cg": 1000}
    inner = {"denoise_gray": 1e-6, "denoise_color": 1e-6, "superres_color": 5e-7, "deblur_gray": 1e-8, "mri": 1e-8}
    for task, tol in inner.items():
        assert PAPER.solver.for_task(task) == {**shared, "cg_tol": tol}


def test_the_settings_of_every_task() -> None:
    tasks = PAPER.tasks
    assert (tasks.denoise_gray.sigmas_255, tasks.denoise_color.sigmas_255) == ([5, 15, 25], [5, 15, 25])
    found = tasks.superres_color
    assert (found.crop, found.factors, found.kernels) == (256, [2, 3], [0, 1, 2, 3])
    assert found.sigmas_255 == [2.55, 7.65, 12.75]
    assert (tasks.deblur_gray.kernels, tasks.deblur_gray.sigmas_255) == ([1, 3], [2.55, 7.65])
    mri = tasks.mri
    samplings = {name: (s.acceleration, s.center_fraction) for name, s in mri.samplings.items()}
    assert samplings == {"single4": (4, 0.08), "multi8": (8, 0.04)}
    assert (mri.noise_std, mri.validation, mri.test) == (0.002, 10, 50)
    assert mri.exclude == ["file1000007", "file1000903"]
    assert PAPER.tuned("mri") and not any(PAPER.tuned(task) for task in ("superres_color", "deblur_gray"))
    assert {task: getattr(tasks, task).seed for task in type(tasks).model_fields} == dict.fromkeys(
        type(tasks).model_fields, 0
    )


def test_deal_in_mri() -> None:
    """Neither clipped nor told a noise level beyond 50."""
    method = registry.create("deal", PAPER)
    assert method.hyperparameters_for("mri", 0.002)["sigma_255"].high == 50
    weights = {"deal_gray": registry.released("gray")}
    for task, clipped in (("mri", False), ("deblur_gray", True), ("denoise_gray", True)):
        method.setup(task, 0.002, weights, torch.device("cpu"))
        assert method.clip_estimate is clipped


def test_a_new_model_is_the_authors() -> None:
    model = DEAL("gray")
    knots = torch.linspace(0, 3, 31)
    for spline, values in ((model.phi1, knots), (model.phi2, knots), (model.phi3, torch.exp(-(knots**2)))):
        torch.testing.assert_close(spline(knots[None, None]).flatten(), values)
    sigmas = torch.tensor([0.0, 5, 25, 50]) / 255
    torch.testing.assert_close(model.lmbda(sigmas), 255 * sigmas)
    expected = math.exp(3) / (255 * sigmas + 1e-5)
    torch.testing.assert_close(model.alpha(sigmas), expected[:, None].expand(4, 128))


def test_colour_filters_are_normalised_by_the_green_column() -> None:
    """L = Σ_c max |FFT(WᵀW δ_green)_c| on a grid of 279×279, by plain convolutions."""
    torch.manual_seed(3)
    model = DEAL("color").double().requires_grad_(False)
    x = torch.zeros(1, 3, 49, 49, dtype=torch.float64)
    x[0, 1, 24, 24] = 1
    kernels = [w.detach() for w in model.W.weights]
    kernels[0] = kernels[0] - kernels[0].mean(dim=(1, 2, 3), keepdim=True)
    for kernel in kernels:
        x = torch.nn.functional.conv2d(x, kernel, padding=4)
    for kernel in reversed(kernels):
        x = torch.nn.functional.conv_transpose2d(x, kernel, padding=4)
    expected = torch.fft.fft2(x, s=(279, 279)).abs().amax(dim=(2, 3)).sum()
    torch.testing.assert_close(model.W.squared_norm(), expected)


def test_colour_filters_see_constants_that_differ_between_channels() -> None:
    torch.manual_seed(3)
    W = DEAL("color").requires_grad_(False).W.bind()
    gray = torch.full((1, 3, 40, 40), 0.5)
    tinted = gray * torch.tensor([1.0, 0.5, 0.2]).view(1, 3, 1, 1)
    inside = (..., slice(12, -12), slice(12, -12))
    assert W(gray)[inside].abs().max() < 1e-4 * W(tinted)[inside].abs().max()


def test_epll_schedule() -> None:
    assert tuple(50 * 2**k for k in range(7)) == epll.BETAS


def test_wcrr_image_by_image() -> None:
    """Published results of ours against the authors' (other noise, unclipped): the same images, in the same order."""
    paths = sorted((ROOT / "results/published/evaluate/denoise_gray").glob("*/wcrr.csv"))
    assert len(paths) == 3
    for result in Result.read(paths).values():
        gaps = differences(result)
        _, theirs = authors()[result.key]
        ours = [float(row["psnr"]) for row in result.rows]
        assert len(gaps) == 68 and abs(np.mean(gaps)) < 0.05 and np.max(np.abs(gaps)) < 0.25
        assert np.corrcoef(ours, [theirs[row["image"]] for row in result.rows])[0, 1] > 0.999


def test_the_authors_results_have_the_papers_means() -> None:
    for (task, setting, method), expected in {
        ("denoise_gray", "sigma5", "deal"): 37.85,
        ("denoise_gray", "sigma15", "deal"): 31.61,
        ("denoise_gray", "sigma25", "deal"): 29.16,
        ("denoise_color", "sigma25", "deal"): 31.31,
        ("denoise_gray", "sigma25", "wcrr"): 28.68,
        ("denoise_gray", "sigma25", "safi"): 29.05,
    }.items():
        _, values = authors()[task, setting, method]
        assert np.mean(list(values.values())) == pytest.approx(expected, abs=0.035 if task == "denoise_color" else 0.01)


def test_fdn_knows_what_it_was_trained_for() -> None:
    assert fdn.FDN().unavailable("deblur_gray", 2.55 / 255) is None
    assert "trained for noise levels" in (fdn.FDN().unavailable("deblur_gray", 200 / 255) or "")
