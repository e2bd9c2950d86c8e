"""The variational methods on small problems: solutions, batches, improvement."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.io import savemat
from scipy.stats import multivariate_normal
from skimage.restoration import denoise_tv_chambolle
from test_regularisers import random_state, stored, swinir_state

from baselines import Method, epll, safi, sarr, tv, wcrr
from baselines.fdn import FDN
from baselines.linear import squared_norm
from baselines.networks import crr
from baselines.networks.readers import read_state_dict
from baselines.networks.safi import Filters
from baselines.wcrr import CRR, WCRR, denoise, sagd
from bench import epll_prior, registry
from bench.config import Config
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
    truth, sigma, operator = picture(32), 2.55 / 255, gaussian_blur()
    method, y = ready(WCRR(), "deblur_gray", sigma, mirror), noisy(operator.A(truth), sigma)
    x = method.reconstruct(y, operator, sigma)
    assert psnr(x, truth) > psnr(y, truth) + 1.5
    assert x.min() >= 0


@pytest.mark.parametrize("kind", [WCRR, CRR])
def test_ridge_regularisers_stop_sooner_on_validation_images(kind: type[WCRR], monkeypatch: pytest.MonkeyPatch) -> None:
    caps = []
    monkeypatch.setattr(wcrr, "sagd", lambda y, *given, most: caps.append(most) or (y, 1, True))
    method = kind()
    method.task, method.regulariser = "mri", crr.RidgeRegulariser(random_state(), weakly_convex=True, norm=1e4)
    for validating in (False, True):
        method.validating = validating
        method.reconstruct(picture(16), Identity(), 0.002)
    assert caps == [4000, 3000]


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
    assert "trained for noise levels" in (method.unavailable("deblur_gray", 0.1) or "")


def test_total_variation_operators_are_adjoint() -> None:
    x, p = torch.rand(2, 3, 7, 9, dtype=torch.double), torch.rand(2, 2, 3, 7, 9, dtype=torch.double)
    assert (tv.gradient(x) * p).sum().item() == pytest.approx((x * tv.gradient_adjoint(p)).sum().item())
    assert tv.total_variation(torch.ones(1, 1, 5, 5)) == 0


def test_tv_denoising_is_the_minimiser() -> None:
    """Against scikit-image's dual solver run long; its weight is on ½‖·‖² too, its result is not clipped."""
    y = noisy(0.3 + 0.4 * picture(20), 0.05)
    expected = denoise_tv_chambolle(y[0, 0].double().numpy(), weight=0.1, eps=1e-12, max_num_iter=20000)
    method = tv.TV()
    found = method.reconstruct(y, Identity(), 0.05, lmbda=0.1)
    np.testing.assert_allclose(found[0, 0].numpy(), expected, atol=2e-3)
    assert method.info["converged"]


def test_tv_deblurring_is_the_minimiser() -> None:
    """Against the primal-dual algorithm of Chambolle and Pock run long; it settles, since dual variables are kept."""
    truth, operator, lmbda = 0.2 + 0.5 * picture(16), gaussian_blur(5, 1.0), 1e-3
    y = noisy(operator.A(truth), 0.01)

    def value(x: torch.Tensor) -> float:
        return float((operator.A(x) - y).square().sum() / 2 + lmbda * tv.total_variation(x))

    x = bar = torch.zeros_like(y)
    dual, data, step = tv.gradient(y) * 0, y * 0, 0.33  # step² ‖(∇, A)‖² < 1
    for _ in range(2000):
        dual = dual + step * tv.gradient(bar)
        dual = dual / (dual.square().sum(0).sqrt() / lmbda).clamp(min=1)
        data = (data + step * (operator.A(bar) - y)) / (1 + step)
        new = (x - step * (tv.gradient_adjoint(dual) + operator.A_adjoint(data))).clamp(min=0)
        x, bar = new, 2 * new - x
    method = tv.TV()
    found = method.reconstruct(y, operator, 0.01, lmbda=lmbda)
    assert method.info["converged"] and method.info["iterations"] < 500
    assert value(found) == pytest.approx(value(x), rel=1e-4)
    torch.testing.assert_close(found, x, atol=1e-2, rtol=0)


@pytest.mark.parametrize("task", ["denoise_gray", "denoise_color"])
def test_tv_denoises_every_channel(task: str) -> None:
    truth, sigma = picture(24), 25 / 255
    truth = truth if task == "denoise_gray" else torch.cat([truth, 1 - truth, truth.flip(-1)], dim=1)
    x = check(tv.TV(), task, noisy(truth, sigma), Identity(), sigma)
    assert psnr(x, truth) > psnr(noisy(truth, sigma), truth) + 5


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few steps of SAFI and MMR, and a rough ‖W‖²."""
    monkeypatch.setattr(safi, "TOLERANCES", safi.TOLERANCES[:3])
    monkeypatch.setattr(safi, "DUAL_STEPS", {"denoise": 8, "other": 8})
    monkeypatch.setattr(safi, "OUTER_STEPS", 12)
    monkeypatch.setattr(Filters.squared_norm, "__defaults__", (16, 15))


def stand_in_safi(folder: Path) -> Path:
    """A checkpoint of SAFI's layout with random weights."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int, scale: float = 1.0) -> torch.Tensor:
        return scale * torch.randn(shape, generator=generator)

    first, second = draw(64, 1, 7, 7, scale=0.1), draw(64, 64, 7, 7, scale=0.01)
    state = {"lmbda": torch.full((1, 1), 1e-3), "cs": torch.ones(1, 64, 1, 1)}
    state |= {"W1.W1.weight": first, "W1.W1T.weight": first}
    state |= {"W1.W1s.0.weight": second, "W1.W1sT.0.weight": second}
    for name, channels in (("W4", 1), ("W2", 64), ("W3", 64)):
        state[f"{name}.W1.weight"] = state[f"{name}.W1T.weight"] = draw(64, channels, 7, 7, scale=0.02)
    for number in (1, 2, 3):
        state[f"phigrad_spline{number}.coefficients"] = draw(64, 21, scale=0.5)
    path = folder / "checkpoint_best_epoch.pth"
    torch.save({"epoch": 3, "state_dict": state, "optimizer": {}, "config": {"n_filter": 64}}, path)
    return path


def test_safi_runs_on_a_file_of_its_layout(tmp_path: Path, short: None) -> None:
    method, sigma = safi.SAFI(), 15 / 255
    method.setup("denoise_gray", sigma, {"safi_15": stand_in_safi(tmp_path)}, torch.device("cpu"))
    y = noisy(picture(16), sigma)
    x = check(method, "denoise_gray", y, Identity(), sigma)
    assert x.min() >= 0 and x.max() <= 1 and not torch.equal(x, y.clamp(0, 1))
    mask = method.model.mask(x)
    assert mask.shape == (1, 64, 16, 16) and mask.min() > 0 and mask.max() < 1
    assert method.unavailable("denoise_gray", 20 / 255) and method.weights_for("mri", 0.002) == ("safi_15",)


def test_safi_sums_the_steps_of_its_problems(tmp_path: Path, short: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dual steps for denoising, FISTA's otherwise; converged only if no problem hit its cap."""
    method, sigma = safi.SAFI(), 15 / 255
    weights, y = {"safi_15": stand_in_safi(tmp_path)}, noisy(picture(16), sigma)
    for task, steps in (("denoise_gray", 8), ("mri", 12)):
        method.setup(task, sigma, weights, torch.device("cpu"))
        monkeypatch.setattr(safi, "TOLERANCES", (1e-9,) * 3)
        method.reconstruct(y, Identity(), sigma, lmbda=1e-3)
        assert method.info == {"iterations": 3 * steps, "converged": False}
        monkeypatch.setattr(safi, "TOLERANCES", (1.0, 1e-9, 1.0))
        method.reconstruct(y, Identity(), sigma, lmbda=1e-3)
        early = method.info["iterations"] - steps
        assert method.info["converged"] is False and 0 < early <= 2 * steps
        monkeypatch.setattr(safi, "TOLERANCES", (1.0,) * 3)
        method.reconstruct(y, Identity(), sigma, lmbda=1e-3)
        assert method.info == {"iterations": 3 * early // 2, "converged": True}


def test_safi_stops_sooner_on_validation_images(tmp_path: Path, short: None, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (safi.OUTER_STEPS, safi.VALIDATION_STEPS) == (12, 500)
    monkeypatch.setattr(safi, "VALIDATION_STEPS", 6)
    monkeypatch.setattr(safi, "TOLERANCES", (1e-9,))
    method = safi.SAFI()
    method.setup("mri", 0.002, {"safi_15": stand_in_safi(tmp_path)}, torch.device("cpu"))
    for validating, steps in ((False, 12), (True, 6)):
        method.validating = validating
        method.reconstruct(noisy(picture(16), 15 / 255), Identity(), 0.002, lmbda=1e-3)
        assert method.info == {"iterations": steps, "converged": False}


@pytest.mark.parametrize(("kind", "tuned"), [(safi.SAFI, safi.SAFI_TUNED), (safi.MMR, safi.MMR_TUNED)])
def test_safi_starts_between_the_known_noise_levels(kind: type[safi.SAFI], tuned: dict[int, float]) -> None:
    def start(sigma_255: float) -> float:
        return kind().hyperparameters_for("denoise_gray", sigma_255 / 255)["lmbda"].default

    assert {level: start(level) for level in (5, 15, 25)} == tuned
    assert start(math.sqrt(5 * 15)) == pytest.approx(math.sqrt(tuned[5] * tuned[15]))
    assert tuned[15] < start(20) < tuned[25]
    assert (start(1), start(0), start(60)) == (tuned[5], tuned[5], tuned[25])


def test_safi_starts_on_mri_where_its_authors_did() -> None:
    found = {}
    for setting in ("single4_pd", "single4_pdfs", "multi8_pd", "multi8_pdfs"):
        method = safi.SAFI()
        method.setting = setting
        found[setting] = method.hyperparameters_for("mri", 0.002)["lmbda"].default
    assert found == {"single4_pd": 5e-6, "single4_pdfs": 1.7208e-5, "multi8_pd": 5e-6, "multi8_pdfs": 5e-6}


def test_safi_dual_solver_reaches_the_minimum(tmp_path: Path) -> None:
    """At the solution of min ½‖x − y‖² + λ‖Λ W x‖₁ no small step in any direction lowers the value."""
    model = safi.SafiModel(read_state_dict(stand_in_safi(tmp_path)))
    y, bound = 0.3 + 0.4 * picture(12), 2e-2
    mask = model.mask(y)
    x, _, _ = safi.prox(model, y, y, mask, bound, 0.9 / model.filters.squared_norm(16, 30), 300, 1e-8)

    def value(image: torch.Tensor) -> float:
        penalty = (mask * model.filters(image)).double().abs().sum()
        return float((image - y).double().square().sum() / 2 + bound * penalty)

    lowest, generator = value(x), torch.Generator().manual_seed(1)
    assert lowest < 0.98 * value(y)
    for direction in (y - x, *torch.randn(20, *x.shape, generator=generator)):
        assert value(x + 0.02 * direction / direction.norm()) > lowest


def test_mmr_denoises(mirror: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(safi.DUAL_STEPS, "denoise", 20)
    truth, sigma = picture(24), 25 / 255
    method, y = ready(safi.MMR(), "denoise_gray", sigma, mirror), noisy(truth, sigma)
    x = check(method, "denoise_gray", y, Identity(), sigma)
    assert psnr(x, truth) > psnr(y, truth) + 5


def test_published_filters_solve_other_problems(mirror: Path, short: None) -> None:
    """SAFI's outer loop, on the filters of MMR, which are to be had; a blur stands in for MRI."""
    truth, operator = picture(16), gaussian_blur(5, 1.0)
    method, y = ready(safi.MMR(), "mri", 0.002, mirror), noisy(operator.A(truth), 0.002)
    x = method.reconstruct(y, operator, 0.002, lmbda=1e-5)
    assert psnr(x, truth) > psnr(y, truth) + 2


def test_sarr_runs_on_a_file_of_its_layout(tmp_path: Path, mirror: Path) -> None:
    """The published regulariser under the mask of a random network; with Λ = ½ it is WCRR of half the strength."""
    weights = {"wcrr": stored("wcrr", mirror), "sarr": tmp_path / "checkpoint_best_state.pth"}
    torch.save({"state_dict": read_state_dict(weights["wcrr"]), "state_dict_mask": swinir_state()}, weights["sarr"])
    method, truth, sigma = sarr.SARR(), picture(16), 25 / 255
    method.setup("denoise_gray", sigma, weights, torch.device("cpu"))
    y = noisy(truth, sigma)
    x = check(method, "denoise_gray", y, Identity(), sigma)
    assert psnr(x, truth) > psnr(y, truth) + 3
    method.network = lambda image: torch.full((1, 60, 16, 16), 0.5)
    half, _, _ = denoise(y, lambda v: 0.5 * method.second.gradient(v), method.second.mu)
    torch.testing.assert_close(method.reconstruct(y, Identity(), sigma), half, atol=1e-4, rtol=0)
    method.task = "mri"
    blur = gaussian_blur(5, 1.0)
    given = {name: p.default for name, p in method.hyperparameters_for("mri", 0.002).items()}
    deblurred = method.reconstruct(noisy(blur.A(truth), 0.002), blur, 0.002, **given)
    assert psnr(deblurred, truth) > psnr(blur.A(truth), truth) + 1


def test_sarr_without_its_parts_is_refused(tmp_path: Path, mirror: Path) -> None:
    torch.save({"state_dict": random_state()}, tmp_path / "x.pth")
    with pytest.raises(ValueError, match=r"x\.pth: has no entry 'state_dict_mask'"):
        weights = {"wcrr": stored("wcrr", mirror), "sarr": tmp_path / "x.pth"}
        sarr.SARR().setup("denoise_gray", 0.1, weights, torch.device("cpu"))


@pytest.mark.parametrize("broken", ["wcrr", "sarr"])
def test_sarr_names_the_file_that_does_not_fit(broken: str, tmp_path: Path) -> None:
    whole, lacking = random_state(), random_state()
    del lacking["mu_"]
    torch.save({"state_dict": lacking if broken == "wcrr" else whole}, tmp_path / "wcrr.pth")
    parts = {"state_dict": lacking if broken == "sarr" else whole, "state_dict_mask": swinir_state()}
    torch.save(parts, tmp_path / "sarr.pth")
    weights = {name: tmp_path / f"{name}.pth" for name in ("wcrr", "sarr")}
    with pytest.raises(ValueError, match=rf"{broken}\.pth: the checkpoint has no tensor 'mu_'"):
        sarr.SARR().setup("denoise_gray", 0.1, weights, torch.device("cpu"))


def test_sarr_without_the_fine_tuning() -> None:
    plain = registry.create("sarr_plain", Config(), "multi8_pd")
    assert registry.entry("sarr_plain").tasks == ("mri",) and registry.entry("sarr_plain").tunes("mri")
    assert plain.weights_for("mri", 0.002) == ("wcrr", "sarr")
    tuned = registry.create("sarr", Config(), "multi8_pd")
    assert tuned.weights_for("mri", 0.002) == ("wcrr", "sarr_mri")
    assert plain.hyperparameters_for("mri", 0.002) == tuned.hyperparameters_for("mri", 0.002)


@pytest.fixture(scope="module")
def tiny_prior(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mixture of few Gaussians on patches of made images, trained as the workflow does."""
    images = [picture(64)[0].numpy(), picture(48)[0].numpy().transpose(0, 2, 1)]
    patches = epll_prior.sample_patches(images, 1500, seed=0)
    assert abs(patches.mean(1)).max() < 1e-12
    found = epll_prior.fit(patches, components=4, steps=5, seed=0)
    np.testing.assert_array_equal(found["weights"], epll_prior.fit(patches, 4, 5, 0)["weights"])
    path = tmp_path_factory.mktemp("prior") / "epll_prior.npz"
    np.savez(path, **found)
    return path


def test_epll_wiener_estimates_are_conditional_means(tiny_prior: Path) -> None:
    """For one Gaussian the estimate is Σ(Σ + vI)⁻¹p; the component is the one of the largest posterior."""
    prior, variance = epll.Prior.load(tiny_prior), 0.01
    with np.load(tiny_prior) as found:
        weights, moments = found["weights"], found["covariances"].astype(float)
    patches = 0.1 * torch.randn(40, 64, generator=torch.Generator().manual_seed(0))
    noisy_moments = moments + variance * np.eye(64)
    scores = [
        np.log(w) + multivariate_normal.logpdf(patches, cov=c) for w, c in zip(weights, noisy_moments, strict=True)
    ]
    gains = moments @ np.linalg.inv(noisy_moments)
    expected = np.stack([gains[k] @ p for k, p in zip(np.argmax(scores, 0), patches.double().numpy(), strict=True)])
    np.testing.assert_allclose(prior.denoise(patches, variance).numpy(), expected, atol=1e-5)


def test_epll_reads_the_authors_file(tiny_prior: Path, tmp_path: Path) -> None:
    """MATLAB's patches are column-major: on transposed images their prior must do as ours on these."""
    with np.load(tiny_prior) as found:
        weights, covariances = found["weights"], found["covariances"].astype(float)
    model = {"mixweights": weights[:, None], "covs": covariances.transpose(1, 2, 0), "nmodels": len(weights)}
    savemat(tmp_path / "prior.mat", {"GS": model})
    x = noisy(picture(20), 0.05)
    ours = epll.average(x, epll.Prior.load(tiny_prior), 0.01)
    theirs = epll.average(x.mT.contiguous(), epll.Prior.load(tmp_path / "prior.mat"), 0.01)
    torch.testing.assert_close(theirs.mT, ours, atol=1e-5, rtol=0)
    (tmp_path / "no.npz").write_bytes(b"no")
    with pytest.raises(ValueError, match=r"no\.npz: not a prior"):
        epll.Prior.load(tmp_path / "no.npz")


def test_epll_deblurs(tiny_prior: Path) -> None:
    truth, sigma, operator = picture(), 2.55 / 255, gaussian_blur()
    method, y = epll.EPLL(), noisy(operator.A(truth), sigma)
    method.setup("deblur_gray", sigma, {"epll_prior": tiny_prior}, torch.device("cpu"))
    x = check(method, "deblur_gray", y, operator, sigma)
    assert psnr(x, truth) > psnr(y, truth) + 1.5
