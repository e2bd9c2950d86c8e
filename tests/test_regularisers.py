"""The learned parts of the variational methods against plain formulas: filters, profiles, masks, stages."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from baselines import epll
from baselines.networks import crr, fdn, safi, swinir
from baselines.networks.readers import read_state_dict
from bench import datasets
from bench.figure_data import scatter
from deal.operators import Blur

CONVS = "conv_layer.conv_layers"


def stored(name: str, mirror: Path) -> Path:
    """The file of the weights called `name` in the mirror."""
    path = datasets.registry()[name].files[0].path(mirror)
    if not path.is_file():
        pytest.skip(f"the mirror lacks {path.name} of {name}")
    return path


@pytest.fixture(scope="session")
def wcrr_state(mirror: Path) -> dict[str, torch.Tensor]:
    return read_state_dict(stored("wcrr", mirror))


def random_state() -> dict[str, torch.Tensor]:
    """A checkpoint of CRR's layout with profiles of many slopes."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator)

    return {
        "mu_": torch.tensor(1.5),
        f"{CONVS}.0.parametrizations.weight.original": draw(4, 1, 5, 5) + 1,
        f"{CONVS}.1.weight": draw(8, 4, 5, 5),
        f"{CONVS}.2.weight": draw(60, 8, 5, 5),
        "activation_cvx.coefficients": 0.002 * draw(1, 101).cumsum(1),
        "activation_ccv.coefficients": 0.002 * draw(1, 101).abs().cumsum(1),
        "spline_scaling.coefficients": 3 + 0.1 * draw(60, 11),
    }


def plain_gradient(state: dict[str, torch.Tensor], x: torch.Tensor, sigma_255: float, norm: float) -> torch.Tensor:
    """∇R as written in the paper, with zero-padded convolutions and numpy's interpolation."""
    first = state[f"{CONVS}.0.parametrizations.weight.original"]
    kernels = [first - first.mean((1, 2, 3), keepdim=True), state[f"{CONVS}.1.weight"], state[f"{CONVS}.2.weight"]]
    knots, out = np.linspace(-0.1, 0.1, 101), x / norm**0.5
    for kernel in kernels:
        out = F.conv2d(out, kernel, padding=2)
    grid = np.linspace(0, 30, 11)
    scaling = [np.exp(np.interp(sigma_255, grid, c.numpy())) for c in state["spline_scaling.coefficients"]]
    scale = (torch.tensor(np.array(scaling), dtype=torch.float32) / (sigma_255 + 1e-5)).view(1, -1, 1, 1)

    def activation(key: str, t: torch.Tensor) -> torch.Tensor:
        slopes = (state[key][0].numpy().astype(float)[1:] - state[key][0].numpy()[:-1]) / 0.002
        slopes = np.clip(slopes, 0, 1)
        slopes[[0, -1]] = 0
        values = np.concatenate([[0], np.cumsum(slopes) * 0.002])
        values = (values - values[::-1]) / 2
        return torch.from_numpy(np.interp(t.numpy(), knots, values)).float()  # constant beyond the ends

    t = out * scale
    out = state["mu_"].exp() * activation("activation_cvx.coefficients", t)
    out = (out - activation("activation_ccv.coefficients", t)) / scale / norm**0.5
    for kernel in reversed(kernels):
        out = F.conv_transpose2d(out, kernel, padding=2)
    return out


@pytest.mark.parametrize("sigma_255", [2.0, 25.0])
def test_ridge_gradient_is_the_papers_formula(sigma_255: float) -> None:
    state, x = random_state(), torch.rand(2, 1, 23, 31)
    regulariser = crr.RidgeRegulariser(state, weakly_convex=True, norm=1e4).at(sigma_255)
    expected = plain_gradient(state, x, sigma_255, regulariser.norm)
    torch.testing.assert_close(regulariser.gradient(x), expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


def test_ridge_gradient_of_the_stored_model(wcrr_state: dict[str, torch.Tensor]) -> None:
    regulariser = crr.RidgeRegulariser(wcrr_state, weakly_convex=True).at(15)
    assert regulariser.mu == pytest.approx(48.0317, abs=1e-4)
    assert 395 < regulariser.norm < 397
    assert sum(tensor.numel() for tensor in wcrr_state.values()) == 13763
    x = torch.rand(1, 1, 40, 33)
    expected = plain_gradient(wcrr_state, x, 15.0, regulariser.norm)
    torch.testing.assert_close(regulariser.gradient(x), expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))
    mask = torch.zeros(1, 60, 40, 33)
    assert not regulariser.gradient(x, mask).any()


def test_ridge_checkpoints_that_do_not_fit_are_refused() -> None:
    state = random_state()
    del state["mu_"]
    with pytest.raises(ValueError, match="no tensor 'mu_'"):
        crr.RidgeRegulariser(state, weakly_convex=True)
    with pytest.raises(ValueError, match="must be positive"):
        crr.RidgeRegulariser(random_state(), weakly_convex=True, norm=1e4).at(0)


def test_fdn_filters_have_no_mean_and_are_orthonormal() -> None:
    basis = fdn.dct_basis()
    torch.testing.assert_close(basis.T @ basis, torch.eye(24), atol=1e-6, rtol=0)
    assert basis.sum(0).abs().max() < 1e-6


def test_fdn_stage_solves_its_least_squares_problem() -> None:
    """The stage's x is where λKᵀ(Kx − y) + Σ GᵀGx = f: checked by circular convolutions in the image domain."""
    torch.manual_seed(0)
    stage, height, width = fdn.Stage(), 24, 20
    x, y = torch.rand(1, 1, height, width), torch.rand(1, 1, height, width)
    kernel = torch.rand(3, 5)
    with torch.no_grad():
        stage.filter_weights += 0.1 * torch.randn(24, 24)
        new = stage(x, y, fdn.transfer(kernel, height, width), 3.0)
        filters = (stage.basis @ stage.filter_weights).T.reshape(24, 1, 5, 5)
        lmbda, wanted = stage.strength(3.0), stage.regularised(x)

    def circular(image: torch.Tensor, kernels: torch.Tensor) -> torch.Tensor:
        h, w = kernels.shape[-2:]
        return F.conv2d(F.pad(image, (w // 2, w // 2, h // 2, h // 2), mode="circular"), kernels.flip(-2, -1))

    def turned(image: torch.Tensor, kernels: torch.Tensor) -> torch.Tensor:
        parts = [circular(image[:, [c]], k[None].flip(-2, -1)) for c, k in enumerate(kernels)]
        return torch.stack(parts).sum(0)

    blur = kernel[None, None]
    left = lmbda * turned(circular(new, blur) - y, blur) + turned(circular(new, filters), filters)
    torch.testing.assert_close(left, wanted, atol=1e-4, rtol=1e-4)


def test_fdn_reads_the_stored_stages(mirror: Path) -> None:
    stages = fdn.load(stored("fdn", mirror))
    assert len(stages) == 10
    assert sum(p.numel() for p in stages[0].parameters()) == 38770
    strengths = [float(stages[0].strength(sigma)) for sigma in (1.0, 5.0, 12.0)]
    assert strengths == sorted(strengths, reverse=True) and strengths[-1] > 0


def test_fdn_files_of_another_layout_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x.hdf5").write_bytes(b"no")
    with pytest.raises(ValueError, match=r"x\.hdf5: not a Keras file"):
        fdn.load(tmp_path / "x.hdf5")


def test_fdn_kernels_wrap_around_small_images() -> None:
    kernel = torch.rand(5, 9)
    expected = Blur(kernel).transfer(torch.Size((4, 6)), None, torch.float32)
    torch.testing.assert_close(fdn.transfer(kernel, 4, 6), expected, atol=1e-5, rtol=0)


def two_layers(height: int, width: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """W x and Wᵀ z of random kernels, each beside what plain convolutions give."""
    torch.manual_seed(0)
    first, second = torch.randn(64, 1, 7, 7), torch.randn(64, 64, 7, 7)
    x, z = torch.rand(2, 1, height, width), torch.rand(2, 64, height, width)
    forward = F.conv2d(F.conv2d(x, first, padding=3), second, padding=3)
    back = F.conv_transpose2d(F.conv_transpose2d(z, second, padding=3), first, padding=3)
    filters = safi.Filters(first, second)
    return [(filters(x), forward), (filters.adjoint(z), back)]


@pytest.mark.parametrize(("height", "width"), [(20, 17), (5, 8), (3, 4)])
@pytest.mark.parametrize("small", [0, safi.SMALL])
def test_safi_filters_are_two_zero_padded_layers(
    height: int, width: int, small: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(safi, "SMALL", small)
    for found, expected in two_layers(height, width):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-4 * float(expected.abs().max()))


def test_safi_filters_need_a_few_pixels() -> None:
    with pytest.raises(ValueError, match="at least 3 pixels"):
        safi.Filters(torch.ones(64, 1, 7, 7), torch.ones(64, 64, 7, 7))(torch.ones(1, 1, 2, 9))


def test_splines_of_channels_continue_linearly() -> None:
    values = torch.tensor([[0.0, 1.0, 0.0], [2.0, 2.0, 4.0]])
    t = torch.tensor([-2.0, -0.5, 0.5, 3.0]).view(1, 1, 1, 4).expand(1, 2, 1, 4)
    expected = torch.tensor([[-1.0, 0.5, 0.5, -2.0], [2.0, 2.0, 3.0, 8.0]]).view(1, 2, 1, 4)
    torch.testing.assert_close(safi.splines(t, values, -1.0, 1.0), expected)


def test_mmr_mask_is_large_where_the_image_is_flat(mirror: Path) -> None:
    model = safi.MmrModel(read_state_dict(stored("mmr_25", mirror)))
    x = torch.full((1, 1, 40, 40), 0.3)
    x[..., 20:] = 0.9
    mask = model.mask(x)
    assert mask.shape == (1, 64, 40, 40) and mask.min() >= 0 and mask.max() <= 1 + 1e-5
    interior = mask[..., 13:27, :]
    assert interior[..., 9:11].mean() > interior[..., 19:21].mean() + 0.1


def test_only_what_was_learned_is_counted() -> None:
    """Not what is derived from it: merged kernels, flipped copies, tables of splines."""
    state = random_state()
    used = [key for key in state if "conv_layer" in key or key.startswith(("spline_scaling", "activation", "mu_"))]
    regulariser = crr.RidgeRegulariser(state, weakly_convex=True, norm=1e4)
    expected = 4 * 25 + 8 * 4 * 25 + 60 * 8 * 25 + 60 * 11 + 1 + 2 * 101
    assert scatter.learned({"first": regulariser, "again": regulariser}, set()) == expected
    assert sum(state[key].numel() for key in used) == expected
    prior = epll.Prior(torch.full((2,), 0.5), torch.eye(64).expand(2, 64, 64))
    assert scatter.learned(prior, set()) == 2 + 2 * 64 * 64


def swinir_state() -> dict[str, torch.Tensor]:
    """Parameters of a random network, with the buffers that published files hold beside them."""
    torch.manual_seed(0)
    state = swinir.SwinIR().state_dict()
    for group in range(4):
        for block in range(6):
            name = f"layers.{group}.residual_group.blocks.{block}"
            state[f"{name}.attn.relative_position_index"] = torch.zeros(64, 64, dtype=torch.long)
            if block % 2:
                state[f"{name}.attn_mask"] = torch.zeros(64, 64, 64)
    return state


def test_swinir_has_the_papers_size() -> None:
    attention = 15 * 15 * 6 + 60 * 180 + 180 + 60 * 60 + 60
    block = attention + 2 * 2 * 60 + 60 * 120 + 120 + 120 * 60 + 60
    convolution = 60 * 60 * 9 + 60
    expected = 4 * (6 * block + convolution) + 2 * convolution + (9 * 60 + 60) + 2 * 2 * 60
    state = {k: v for k, v in swinir_state().items() if not k.endswith(swinir.BUFFERS)}
    assert sum(v.numel() for v in state.values()) == expected
    assert "layers.3.residual_group.blocks.5.attn.qkv.weight" in state and "upsample.0.weight" in state


def test_swinir_windows() -> None:
    x = torch.arange(2 * 16 * 24.0).view(2, 16, 24, 1)
    parts = swinir.windows(x)
    assert parts.shape == (12, 64, 1)
    torch.testing.assert_close(parts[1, :8, 0], x[0, 0, 8:16, 0])
    torch.testing.assert_close(swinir.image(parts, 16, 24), x)


def test_swinir_attention_stays_inside_the_image() -> None:
    """Rolled windows hold pixels from opposite borders; these must not see each other."""
    mask = swinir.shift_mask(16, 16, torch.device("cpu"))
    assert mask.shape == (4, 64, 64)
    assert not mask[0].any()
    corner = (mask[3] == 0).float()
    assert corner.sum(1).unique().tolist() == [16]  # four quarters of 4×4 pixels
    block = swinir.Block(shifted=True)
    x = torch.rand(1, 16, 16, 60)
    y = x.clone()
    y[0, -1, -1] += 1
    changed = (block(x) - block(y)).abs().sum(-1)[0] > 1e-6
    assert changed[-4:, -4:].all() and not changed[:4].any() and not changed[:, :4].any()


def test_swinir_file(tmp_path: Path) -> None:
    network = swinir.load_swinir(swinir_state(), tmp_path / "x.pth")
    mask = network(torch.rand(2, 1, 19, 24))
    assert mask.shape == (2, 60, 19, 24) and mask.min() >= 0 and mask.max() <= 1
    broken = swinir_state()
    del broken["conv_first.weight"]
    with pytest.raises(ValueError, match=r"x\.pth: conv_first\.weight is missing"):
        swinir.load_swinir(broken, tmp_path / "x.pth")
