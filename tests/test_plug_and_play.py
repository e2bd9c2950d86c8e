"""Plug-and-play loops: with exact denoisers they must reach the solution known in closed form."""

import itertools
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import baselines.pnp_dncnn
import baselines.prox_drunet
from baselines.dpir import DPIR, DPIRIRCNN, DPIRDnCNN, DPIRFFDNet
from baselines.ircnn import IRCNN
from baselines.networks.drunet import DRUNet, GradientStep
from baselines.networks.ircnn import IRCNNSet
from baselines.plug_and_play import INVERSE, dpir, half_quadratic_splitting, posed, schedule, start
from baselines.pnp_dncnn import PnPDnCNN, PnPDnCNN5, PnPDnCNNPlain, fista
from baselines.prox_drunet import ProxDRUNet, douglas_rachford, superres
from bench import datasets, metrics
from deal.operators import MRI, Blur, Downsampling, Identity

DEAL = "raw.githubusercontent.com/mehrsapo/DEAL/4eec8298750ffebb3848e87e412c62aff6a9f411/utils_dpir"
CPU = torch.device("cpu")
SHRINK = 0.8  # the exact denoiser of a Gaussian prior multiplies by a constant


def gaussian(width: float, side: int = 7) -> Tensor:
    """A normalised Gaussian kernel, (side, side)."""
    row = torch.exp(-((torch.arange(side) - side // 2) ** 2) / (2 * width**2))
    return torch.outer(row, row) / row.sum() ** 2


def picture(channels: int, side: int = 48) -> Tensor:
    """A smooth image with edges and some texture, (1, C, side, side), in [0.1, 0.95]."""
    rows, columns = np.mgrid[0:side, 0:side]
    base = 0.45 + 0.2 * np.sin(rows / 5) * np.cos(columns / 6) + 0.2 * ((rows // 12 + columns // 16) % 2)
    shades = [np.clip(base * (1 - 0.15 * c), 0.1, 0.95) for c in range(channels)]
    return torch.from_numpy(np.stack(shades)[None]).float()


def measure(operator: object, x: Tensor, sigma: float) -> Tensor:
    y = operator.A(x)
    return y + sigma * torch.randn(y.shape, generator=torch.Generator().manual_seed(0))


def quadratic(operator: Blur, y: Tensor, weight: float) -> Tensor:
    """argmin ½‖Ax − y‖² + ½·weight·‖x‖², in the Fourier domain."""
    spectrum = operator.normal_spectrum(y.shape) + weight
    return torch.fft.irfft2(torch.fft.rfft2(operator.A_adjoint(y)) / spectrum, s=y.shape[-2:])


def psnr(z: Tensor, x: Tensor) -> float:
    return -10 * math.log10((z.clamp(0, 1) - x).square().mean().item())


def test_poses_are_the_symmetries_of_the_square() -> None:
    x = torch.arange(12.0).reshape(1, 1, 3, 4)
    seen = {tuple(posed(x, pose).flatten().tolist()) for pose in range(8)}
    assert len(seen) == 8
    for pose in range(8):
        assert torch.equal(posed(posed(x, pose), INVERSE[pose]), x)
    # the definitions of DPIR's script
    assert torch.equal(posed(x, 1), torch.rot90(x, 1, (2, 3)).flip(2))
    assert torch.equal(posed(x, 2), x.flip(2))
    assert torch.equal(posed(x, 3), torch.rot90(x, 3, (2, 3)))
    assert torch.equal(posed(x, 4), torch.rot90(x, 2, (2, 3)).flip(2))
    assert torch.equal(posed(x, 7), torch.rot90(x, 3, (2, 3)).flip(2))


def test_schedule() -> None:
    levels = schedule(7.65 / 255, 8)
    assert (len(levels), levels[0] * 255, levels[-1] * 255) == (8, pytest.approx(49), pytest.approx(7.65))
    ratios = [b / a for a, b in itertools.pairwise(levels)]
    assert ratios == pytest.approx([ratios[0]] * 7)


@pytest.mark.parametrize("factor", [2, 3])
def test_superresolution_starts_where_the_pixels_lie(factor: int) -> None:
    """Of a plane, sampled without blur, the start is the plane itself away from the border."""
    rows, columns = torch.meshgrid(torch.arange(24.0), torch.arange(36.0), indexing="ij")
    x = (0.01 * rows + 0.005 * columns)[None, None]
    operator = Downsampling(torch.ones(1, 1), factor, x.shape)
    found, s = start(operator.A(x), operator)
    assert (s, found.shape) == (factor, x.shape)
    inside = (..., slice(6, -9), slice(6, -9))
    # cubic interpolation with a = −0.75 bends planes a little; a start off by half a pixel would miss by 0.005
    torch.testing.assert_close(found[inside], x[inside], atol=2e-3, rtol=0)


def test_deblurring_starts_at_the_measurement() -> None:
    y = torch.rand(2, 1, 8, 8)
    assert start(y, Identity()) == (y, 1)


@pytest.mark.parametrize("ensemble", [False, True])
def test_half_quadratic_splitting_solves_a_quadratic_problem(ensemble: bool) -> None:
    x = picture(1).double()
    operator, rho = Blur(gaussian(1.2)), 0.3
    y = measure(operator, x.float(), 0.01).double()
    found = half_quadratic_splitting(
        y, y, operator, lambda v, sigma: SHRINK * v, [0.1] * 60, [rho] * 60, ensemble=ensemble
    )
    # z = cx and (AᵀA + ρ)x = Aᵀy + ρz, so that x minimises with the weight ρ(1 − c)
    torch.testing.assert_close(found, SHRINK * quadratic(operator, y, rho * (1 - SHRINK)), atol=1e-5, rtol=0)


def test_dpirs_schedule_is_handed_to_the_denoiser() -> None:
    seen: list[float] = []

    def denoise(x: Tensor, sigma: float) -> Tensor:
        seen.append(255 * sigma)
        return x

    x = picture(3, 24)
    for operator, count in ((Blur(gaussian(1.0)), 8), (Downsampling(gaussian(1.0), 2, x.shape), 24)):
        seen.clear()
        _, iterations = dpir(operator.A(x), operator, 2.55 / 255, denoise)
        assert iterations == len(seen) == count
        assert (seen[0], seen[-1]) == (pytest.approx(49), pytest.approx(2.55))


def test_douglas_rachford_solves_a_quadratic_problem() -> None:
    """D = cI = I − ∇g with g = ½(1 − c)‖x‖²; images of a batch do not mix."""
    x = picture(1, 24)
    operator, lmbda, alpha = Blur(gaussian(1.0)), 2.0, 0.5
    y = torch.cat([measure(operator, x, 0.01), 0.3 * measure(operator, x, 0.02)])

    def denoise(v: Tensor) -> tuple[Tensor, Tensor]:
        return SHRINK * v, 0.5 * (1 - SHRINK) * v.double().square().sum((1, 2, 3))

    found, iterations, converged = douglas_rachford(y, y, operator, denoise, lmbda, alpha)
    kappa = 1 - alpha + alpha * SHRINK  # fixed point: λAᵀ(Az − y) + (1/κ − 1)z = 0
    torch.testing.assert_close(found, quadratic(operator, y, (1 / kappa - 1) / lmbda), atol=1e-4, rtol=0)
    assert converged and iterations < 1000
    alone, _, _ = douglas_rachford(y[1:], y[1:], operator, denoise, lmbda, alpha)
    assert torch.equal(alone, found[1:])


def test_fista_solves_a_quadratic_problem() -> None:
    x = picture(1, 24)
    operator, relaxation, step = Blur(gaussian(0.8)), 0.3, 0.9
    y = torch.cat([measure(operator, x, 0.005), measure(operator, x.flip(2), 0.005)])
    found, _, converged = fista(y, operator, lambda v: SHRINK * v, relaxation, step, 1e-7, 2000)
    kappa, rate = 1 - relaxation * (1 - SHRINK), step / operator.squared_norm
    expected = quadratic(operator, y, (1 - kappa) / kappa / rate)
    torch.testing.assert_close(found, kappa * quadratic_step(expected, operator, y, rate), atol=1e-4, rtol=0)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
    assert converged and expected.min() > 0
    alone, _, _ = fista(y[1:], operator, lambda v: SHRINK * v, relaxation, step, 1e-7, 2000)
    torch.testing.assert_close(alone, found[1:], atol=1e-6, rtol=0)


def quadratic_step(x: Tensor, operator: Blur, y: Tensor, rate: float) -> Tensor:
    return (x - rate * operator.A_adjoint(operator.A(x) - y)).clamp(min=0)


def test_fista_reports_that_it_did_not_converge() -> None:
    y = picture(1, 16)
    x, iterations, converged = fista(y, Identity(), lambda v: v, 0.5, 0.1, 1e-9, 3)
    assert (iterations, converged) == (1, True)  # already the solution
    x, iterations, converged = fista(y, Identity(), lambda v: 0.5 * v, 0.5, 0.1, 1e-9, 3)
    assert (iterations, converged) == (3, False)
    assert torch.isfinite(x).all()


def test_fista_finds_the_norm_that_the_operator_does_not_know() -> None:
    class Twice:
        def A(self, x: Tensor) -> Tensor:
            return 2 * x

        A_adjoint = A

    x, _, converged = fista(2 * picture(1, 16), Twice(), lambda v: v, 0.5, 1.0, 1e-6, 100)
    assert converged
    torch.testing.assert_close(x, picture(1, 16), atol=1e-5, rtol=0)


def real(mirror: Path, name: str) -> dict[str, Path]:
    (file,) = datasets.get(name).files
    return {name: file.path(mirror)}


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_dpir_on_ffdnet_restores(factor: int, mirror: Path) -> None:
    task, channels, name = ("deblur_gray", 1, "ffdnet_gray") if factor == 1 else ("superres_color", 3, "ffdnet_color")
    x, sigma = picture(channels), 7.65 / 255
    operator = Blur(gaussian(1.6, 13)) if factor == 1 else Downsampling(gaussian(1.2), factor, x.shape)
    y = measure(operator, x, sigma)
    method = DPIRFFDNet()
    method.setup(task, sigma, real(mirror, name), CPU)
    with torch.no_grad():
        z = method.reconstruct(y, operator, sigma)
        both = method.reconstruct(torch.cat([y, y.flip(1)]), operator, sigma)
        assert torch.equal(z, method.reconstruct(y, operator, sigma))
    assert (z.shape, z.dtype) == (x.shape, torch.float32)
    torch.testing.assert_close(both[:1], z, atol=1e-4, rtol=0)
    assert method.info == {"iterations": 8 if factor == 1 else 24}
    assert psnr(z, x) > psnr(start(y, operator)[0], x) + (3 if factor == 1 else 1.5)


def test_ircnn_follows_the_demo_for_deblurring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    torch.save({str(i): net.state_dict() for i, net in enumerate(IRCNNSet(1).levels)}, tmp_path / "ircnn_gray.pth")
    method = IRCNN()
    method.setup("deblur_gray", 0.03, {"ircnn_gray": tmp_path / "ircnn_gray.pth"}, CPU)
    assert list(method.hyperparameters_for("deblur_gray", 0.03)) == ["last_255"]
    assert method.hyperparameters_for("superres_color", 0.03) == {}
    operator = Blur(gaussian(1.6))
    y = measure(operator, picture(1, 24), 0.03)
    with torch.no_grad():
        z = method.reconstruct(y, operator, 0.03, last_255=13.0)
    assert (z.shape, z.dtype, method.info) == (y.shape, torch.float32, {"iterations": 30})
    seen = []
    monkeypatch.setattr(IRCNNSet, "forward", lambda self, x, sigma: seen.append(255 * sigma) or SHRINK * x)
    with torch.no_grad():
        method.reconstruct(y, operator, 0.03, last_255=5.0)
    assert (seen[0], seen[-1], len(seen)) == (pytest.approx(49), pytest.approx(5), 30)


@pytest.mark.parametrize(
    ("task", "level", "used"),
    [("deblur_gray", 49, 40), ("deblur_gray", 13, 15), ("deblur_gray", 2.55, 5), ("superres_color", 49, 25)],
)
def test_dpir_takes_the_dncnn_of_the_nearest_level(task: str, level: float, used: int, mirror: Path) -> None:
    method = DPIRDnCNN()
    names = method.weights_for(task, level / 255)
    method.setup(task, level / 255, {k: v for name in names for k, v in real(mirror, name).items()}, CPU)
    x = picture(3 if task.endswith("color") else 1, 24)
    with torch.no_grad():
        used_now = [torch.equal(method.denoise(x, level / 255), network(x)) for network in method.network.levels]
    assert [255 * s for s, same in zip(method.network.sigmas, used_now, strict=True) if same] == [pytest.approx(used)]


def drunet_file(path: Path) -> None:
    network = DRUNet(1)
    with torch.no_grad():
        network.m_tail.weight.mul_(0.01)
    torch.save(network.state_dict(), path)


def ircnn_file(path: Path) -> None:
    torch.save({str(i): net.state_dict() for i, net in enumerate(IRCNNSet(1).levels)}, path)


@pytest.mark.parametrize(
    ("kind", "name", "write"), [(DPIR, "drunet_gray", drunet_file), (DPIRIRCNN, "ircnn_gray", ircnn_file)]
)
def test_dpir_takes_the_file_of_a_denoiser(
    kind: type, name: str, write: Callable[[Path], None], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    write(tmp_path / f"{name}.pth")
    method = kind()
    assert method.weights_for("deblur_gray", 0.03) == (name,)
    method.setup("deblur_gray", 0.03, {name: tmp_path / f"{name}.pth"}, CPU)
    operator = Blur(gaussian(1.0))
    y = measure(operator, picture(1, 20), 0.03)
    with torch.no_grad():
        z = method.reconstruct(y, operator, 0.03)
        assert torch.equal(z, dpir(y, operator, 0.03, method.denoise)[0])
    assert (z.shape, z.dtype, method.info) == (y.shape, torch.float32, {"iterations": 8})
    assert torch.isfinite(z).all()


def test_dpir_takes_drunets_colour_file_for_colour() -> None:
    assert DPIR().weights_for("superres_color", 0.03) == ("drunet_color",)


@pytest.fixture
def prox_drunet(monkeypatch: pytest.MonkeyPatch) -> ProxDRUNet:
    """Set up with a small random network; few iterations."""
    torch.manual_seed(0)
    network = GradientStep(DRUNet(3, blocks=1, activation=nn.Softplus, widths=(4, 4, 4, 4))).requires_grad_(False)
    monkeypatch.setattr(baselines.prox_drunet, "load_prox_drunet", lambda path: network)
    monkeypatch.setattr(baselines.prox_drunet, "MAX_ITERATIONS", 4)
    return ProxDRUNet()


@pytest.mark.parametrize("task", ["denoise_gray", "denoise_color", "superres_color", "mri"])
def test_prox_drunet_serves_its_tasks(task: str, prox_drunet: ProxDRUNet) -> None:
    x, sigma = picture(3 if task.endswith("color") else 1, 24), 7.65 / 255
    mask = (torch.rand(24, 24, generator=torch.Generator().manual_seed(0)) < 0.5).float()
    operators = {"superres_color": Downsampling(gaussian(1.0), 2, x.shape), "mri": MRI(mask)}
    operator = operators.get(task, Identity())
    y = operator.A(x) + (0 if task == "mri" else sigma * torch.randn_like(operator.A(x)))
    prox_drunet.setup(task, sigma, {"prox_drunet": Path("unused")}, CPU)
    values = {name: p.default for name, p in prox_drunet.hyperparameters_for(task, sigma).items()}
    assert set(values) == ({"denoiser_255", "lmbda"} if task == "mri" else set())
    with torch.no_grad():
        z = prox_drunet.reconstruct(y, operator, sigma, **values)
        both = prox_drunet.reconstruct(torch.cat([y, y.flip(1)]), operator, sigma, **values)
    assert (z.shape, z.dtype, z.requires_grad) == (x.shape, torch.float32, False)
    torch.testing.assert_close(both[:1], z, atol=1e-5, rtol=0)
    if not task.startswith("denoise"):
        assert prox_drunet.info == {"iterations": 4, "converged": False}


def test_prox_drunet_between_its_noise_levels() -> None:
    """λ and the relative level are straight lines between the authors' noise levels, all on logarithmic scales."""
    known = {2.55: (5.0, 2.0), 7.65: (1.5, 1.0), 12.75: (1.0, 0.75)}
    assert {255 * (level / 255): superres(255 * (level / 255)) for level in known} == known
    assert superres(math.sqrt(2.55 * 7.65)) == pytest.approx((math.sqrt(5.0 * 1.5), math.sqrt(2.0 * 1.0)))
    assert superres(0.0) == known[2.55] and superres(50.0) == known[12.75]
    before, after = superres(7.649), superres(7.651)
    assert before == pytest.approx(after, rel=1e-3), "no jump halfway or at a known level"


def test_prox_drunet_tells_the_denoiser_the_interpolated_level(
    prox_drunet: ProxDRUNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    x, sigma = picture(3, 24), 5 / 255
    operator = Downsampling(gaussian(1.0), 2, x.shape)
    prox_drunet.setup("superres_color", sigma, {"prox_drunet": Path("unused")}, CPU)
    monkeypatch.setattr(prox_drunet, "denoise", lambda v, level: asked.append(level) or (v, torch.zeros(1)))
    prox_drunet.reconstruct(operator.A(x), operator, sigma)
    assert set(asked) == {superres(5.0)[1] * sigma}


def test_gray_images_are_given_in_three_equal_channels(prox_drunet: ProxDRUNet) -> None:
    prox_drunet.setup("denoise_gray", 0.1, {"prox_drunet": Path("unused")}, CPU)
    y = picture(1, 16)
    expected, potential = prox_drunet.network(y.expand(-1, 3, -1, -1), 0.1)
    found, gray = prox_drunet.denoise(y, 0.1)
    assert torch.equal(found, expected.mean(1, keepdim=True))
    assert gray.item() == pytest.approx(potential.item() / 3)


def test_pnp_on_the_plain_dncnn_reconstructs_mri(mirror: Path) -> None:
    x = picture(1, 32)
    mask = torch.zeros(32, 32)
    mask[:, [0, 1, 2, 6, 11, 17, 23, 30, 31]] = 1
    operator = MRI(mask)
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0), dtype=torch.complex64) * 0.002 * 2**0.5
    y = operator.A(x) + mask * noise
    method = PnPDnCNNPlain()
    method.max_iterations = 60
    method.setup("mri", 0.002, real(mirror, "dncnn_plain_15"), CPU)
    with torch.no_grad():
        z = method.reconstruct(y, operator, 0.002, relaxation=0.03, step=1.0)
        assert torch.equal(z, method.reconstruct(y, operator, 0.002, relaxation=0.03, step=1.0))
    assert (z.shape, z.dtype) == (x.shape, torch.float32)
    assert psnr(z, x) > psnr(operator.A_adjoint(y), x) + 1


def test_pnp_stops_sooner_on_validation_images(monkeypatch: pytest.MonkeyPatch) -> None:
    rules = []
    monkeypatch.setattr(baselines.pnp_dncnn, "fista", lambda *given: rules.append(given[-2:]) or (given[0], 1, True))
    for kind in (PnPDnCNN, PnPDnCNN5, PnPDnCNNPlain):
        method = kind()
        method.network = None
        for validating in (False, True):
            method.validating = validating
            method.reconstruct(picture(1, 16), Identity(), 0.002, relaxation=0.03, step=1.0)
    assert rules == [(5e-7, 10000), (1e-5, 2000)] * 2 + [(1e-5, 2000)] * 2


def test_pnp_has_a_network_for_each_of_two_noise_levels() -> None:
    assert PnPDnCNN().weights_for("mri", 0.002) == ("dncnn_realsn_15",)
    assert PnPDnCNN5().weights_for("mri", 0.002) == ("dncnn_realsn_5",)
    assert PnPDnCNNPlain().weights_for("mri", 0.002) == ("dncnn_plain_15",)


@pytest.mark.parametrize(
    ("level", "expected"),
    [(255, [32.05, 35.82, 33.38, 31.97, 35.52, 32.99]), (765, [28.17, 32.78, 28.48, 27.99, 32.86, 28.27])],
)
def test_the_published_outputs_of_dpir_score_as_logged(level: int, expected: list[float], mirror: Path) -> None:
    """Table 5's row of DPIR, by this project's metric on the 8-bit images that the authors of DEAL published."""
    names = {file.id: file.path(mirror) for file in datasets.get("set12").files}
    found = []
    for kernel in (1, 3):
        for image in ("01", "02", "05"):
            output = mirror / DEAL / f"drunet_deblur_{level}" / f"{image}_k{kernel}_drunet_gray.png"
            z, x = (np.asarray(Image.open(path), dtype=np.float64)[None] / 255 for path in (output, names[image]))
            found.append(metrics.psnr(z, x, clip=False))
    assert found == pytest.approx(expected, abs=0.005)
