"""Figures of a model and its masks: their numbers against independent computations, their drawings."""

import csv
from pathlib import Path

import made_figures
import numpy as np
import pytest
import torch
from made_results import Maker
from matplotlib.text import Text

import deal
from bench import configfile, figures
from bench.config import Config
from bench.errors import UserError
from bench.figure_data import castle, certificates, filters, frozen, paired, scatter, training
from bench.figures import style
from bench.stats import mean_interval
from deal import Identity

ROOT = Path(__file__).resolve().parents[1]
SIDE = 10
SIGMA = 25 / 255


@pytest.fixture(scope="module")
def model() -> deal.DEAL:
    return deal.load("gray").double()


@pytest.fixture(scope="module")
def x(model: deal.DEAL) -> torch.Tensor:
    """The reconstruction of a small noisy edge: a fixed point to rounding."""
    rows, columns = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    clean = (0.3 + 0.4 * (columns + 0.3 * rows > 6)).double()[None, None]
    y = clean + SIGMA * torch.from_numpy(np.random.default_rng(3).standard_normal(clean.shape))
    solution = model.solve(y, Identity(), SIGMA, tol=1e-9, clip=False, max_outer=200)
    assert solution.converged.all()
    return solution.x


@pytest.fixture(scope="module")
def at(model: deal.DEAL, x: torch.Tensor) -> frozen.Linearised:
    return frozen.Linearised(model, Identity(), x, SIGMA)


@pytest.fixture(scope="module")
def dense(model: deal.DEAL, x: torch.Tensor) -> np.ndarray:
    """A(x) as a matrix, column by column from the model's own layers."""
    L, sigma = model.W.squared_norm(), torch.tensor([SIGMA], dtype=torch.float64)
    mask, lmbda = model.mask(x, sigma), float(model.lmbda(sigma))
    columns = []
    for n in range(SIDE**2):
        e = torch.zeros(1, 1, SIDE, SIDE).double()
        e.view(-1)[n] = 1
        response = e
        for kernel in model.W.kernels():
            response = torch.nn.functional.conv2d(response, kernel, padding=4)
        back = mask**2 * response
        for kernel in reversed(model.W.kernels()):
            back = torch.nn.functional.conv_transpose2d(back, kernel, padding=4)
        columns.append((e + lmbda * back / L).flatten().numpy())
    return np.array(columns).T


def test_A_is_the_dense_matrix(at: frozen.Linearised, dense: np.ndarray) -> None:
    u = torch.from_numpy(np.random.default_rng(0).standard_normal(at.x.shape))
    np.testing.assert_allclose(at.apply(u).flatten().numpy(), dense @ u.flatten().numpy(), rtol=1e-9, atol=1e-9)


def test_averaging_weights_are_rows_of_the_dense_inverse(at: frozen.Linearised, dense: np.ndarray) -> None:
    pixels = [(0, 0), (5, 7), (9, 3)]
    found = castle.averaging_weights(at, pixels, tol=1e-10).reshape(3, -1).numpy()
    expected = np.linalg.inv(dense)[[row * SIDE + column for row, column in pixels]]
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_weights_on_a_part_of_the_image_miss_little() -> None:
    """On a textured image, where weights die away fast, of which the square covers a part; the whole is the truth."""
    model = deal.load("gray")
    rows, columns = np.mgrid[0:32, 0:32]
    x = torch.from_numpy(0.5 + 0.4 * ((rows // 4 + columns // 4) % 2 - 0.5)).float()[None, None]
    at = frozen.Frozen(model, Identity(), x, 5 / 255)
    part = castle.averaging_weights(at, [(16, 16)], tol=1e-4, side=23)
    whole = castle.averaging_weights(at, [(16, 16)], tol=1e-4)
    assert float((part - whole).abs().max()) < 0.01 * float(whole.max())
    assert not part[..., :5, :].any()
    assert whole[..., :5, :].any()


def test_eigenvalues_of_A_are_those_of_the_dense_matrix(at: frozen.Linearised, dense: np.ndarray) -> None:
    values = np.linalg.eigvalsh(dense)
    assert at.extreme_eigenvalues() == pytest.approx((values[0], values[-1]), rel=1e-5)
    assert values[0] >= 1


def test_the_derivative_of_the_mask_is_that_of_autograd(model: deal.DEAL, at: frozen.Linearised) -> None:
    sigma = torch.tensor([SIGMA], dtype=torch.float64)
    z = torch.from_numpy(np.random.default_rng(1).standard_normal(at.m.shape))
    x = at.x.clone().requires_grad_()
    (expected,) = torch.autograd.grad(model.mask(x, sigma), x, z)
    found = at.mask_derivative_adjoint(z)
    assert float(expected.norm()) > 1
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    v = torch.from_numpy(np.random.default_rng(2).standard_normal(at.x.shape))
    assert float((at.mask_derivative(v) * z).sum()) == pytest.approx(float((v * found).sum()), rel=1e-9)


def test_the_jacobian_is_that_of_the_fixed_point_map(model: deal.DEAL, at: frozen.Linearised) -> None:
    """Against differences of T(x) = A(x)⁻¹ y, with y = A(x) x since x is a fixed point."""
    y = at.apply(at.x)
    v = torch.from_numpy(np.random.default_rng(4).standard_normal(at.x.shape))
    h = 1e-7  # small enough that hardly any argument of a spline passes a knot

    def T(z: torch.Tensor) -> torch.Tensor:
        return frozen.Frozen(model, Identity(), z, SIGMA).solve(y, 1e-13)

    expected = (T(at.x + h * v) - T(at.x - h * v)) / (2 * h)
    assert float((at.jacobian(v) - expected).norm() / expected.norm()) < 1e-2
    u = torch.from_numpy(np.random.default_rng(5).standard_normal(at.x.shape))
    assert float((u * at.jacobian(v)).sum()) == pytest.approx(float((at.jacobian_adjoint(u) * v).sum()), rel=1e-4)


def test_contraction_is_that_of_the_dense_jacobian(at: frozen.Linearised, dense: np.ndarray) -> None:
    """J = −2λ A⁻¹ Wᵀ diag(m ⊙ Wx) M′ with A inverted as a matrix."""
    basis = torch.eye(SIDE**2).double().view(-1, 1, SIDE, SIDE)
    right = at.W.adjoint(at.m * at.response * at.mask_derivative(basis)).reshape(SIDE**2, -1).numpy().T
    J = -2 * at.lmbda * np.linalg.solve(dense, right)
    q, radius, direction = at.contraction()
    assert q == pytest.approx(np.linalg.svd(J, compute_uv=False)[0], rel=1e-2)
    assert radius == pytest.approx(np.abs(np.linalg.eigvals(J)).max(), rel=1e-2)
    assert np.linalg.norm(J @ direction.flatten().numpy()) == pytest.approx(q, rel=1e-2)


def test_the_response_is_that_of_the_block(model: deal.DEAL) -> None:
    dirac = torch.zeros(1, 1, 49, 49).double()
    dirac[0, 0, 24, 24] = 1
    W = model.W.bind(model.W.squared_norm().rsqrt())
    np.testing.assert_allclose(filters.normal_response(model)[0, 0], W.adjoint(W(dirac))[0, 0].numpy(), atol=1e-14)


@pytest.mark.parametrize("grid", [20, 21])
def test_eigenvalues_are_those_of_the_circulant_matrix(grid: int) -> None:
    """Of periodic convolutions with colour kernels, written out as matrices."""
    kernels = np.random.default_rng(0).standard_normal((3, 2, 5, 5))
    found = np.sort(filters.eigenvalues(kernels, grid).ravel())
    hat = np.fft.fft2(kernels, s=(grid, grid))
    v = np.random.default_rng(1).standard_normal((2, grid, grid))
    for _ in range(400):  # the largest one, by applying WᵀW
        response = (np.fft.ifft2(hat * np.fft.fft2(v)).real).sum(1)
        v = np.fft.ifft2((hat.conj() * np.fft.fft2(response)[:, None]).sum(0)).real
        largest = np.sqrt((v**2).sum())
        v /= largest
    assert found[-1] == pytest.approx(largest, rel=1e-3)
    assert found.sum() == pytest.approx(grid**2 * (kernels**2).sum(), rel=1e-9)  # the trace


def test_only_constants_are_annihilated(model: deal.DEAL) -> None:
    values = filters.eigenvalues(filters.effective_kernels(model))[..., 0]
    assert values[0, 0] < 1e-20
    assert (values > filters.NEAR_ZERO).sum() == values.size - 1
    assert values.max() == pytest.approx(1, abs=1e-9)  # what L is for
    block = torch.ones(1, 1, 60, 60).double()
    response = model.W.bind()(block)
    assert float(response[..., 12:-12, 12:-12].abs().max()) < 1e-12 < float(response.abs().max())


def test_channels_are_chosen_by_their_orientation() -> None:
    edge = np.zeros((4, 1, 9, 9))
    edge[0, 0, 3:6, 3], edge[0, 0, 3:6, 5] = -1, 1  # changes along a row: sees vertical edges
    edge[1] = edge[0].transpose(0, 2, 1)
    edge[2, 0] = np.diag([0, 0, 0, 1, -2, 1, 0, 0, 0])
    edge[3] = 1e-3 * edge[0]
    assert filters.orientation(edge)[0] > 0.5
    assert filters.orientation(edge)[1] == pytest.approx(-filters.orientation(edge)[0])
    found = filters.choose_channels(edge)
    assert (found["vertical"], found["horizontal"], found["oblique"]) == (0, 1, 2)


def test_splines_are_those_of_the_model(model: deal.DEAL) -> None:
    found = filters.splines(model)
    assert found["phi1"][0] == found["phi1"][-1]  # even
    middle = filters.CURVE // 2
    assert found["t_wide"][middle] == pytest.approx(0, abs=1e-12)
    for level, sigma in enumerate(filters.SIGMAS_255):
        alpha = float(model.alpha(torch.tensor([sigma / 255], dtype=torch.float64))[0, 7])
        t = 0.05 * 37
        expected = float(model.phi3(torch.tensor([alpha * t], dtype=torch.float64)).clamp(0.01, 1)[0])
        assert found["phi_sigma"][level, 7, middle + 37] == pytest.approx(expected, rel=1e-6)


def test_pixels_lie_on_what_they_are_called_after() -> None:
    image = np.full((80, 100), 0.5)
    image[:40, 60:] = 1.0  # vertical edge at column 60, horizontal one at row 40
    found = castle.pick_pixels(image, margin=10)
    assert abs(found["vertical structure"][1] - 60) <= 2
    assert abs(found["horizontal structure"][0] - 40) <= 2
    row, column = found["flat region"]
    assert not (abs(row - 40) < 6 and column > 54) and not (abs(column - 60) < 6 and row < 46)
    assert 10 <= row < 70 and 10 <= column < 90


@pytest.mark.parametrize(("pixel", "expected"), [((0, 0), (0, 0)), ((30, 20), (26, 16)), ((49, 39), (41, 31))])
def test_windows_stay_inside(pixel: tuple[int, int], expected: tuple[int, int]) -> None:
    rows, columns = castle.window((1, 50, 40), pixel, 9)
    assert (rows.start, columns.start) == expected
    assert (rows.stop - rows.start, columns.stop - columns.start) == (9, 9)
    assert castle.window((5, 6), (2, 2), 9) == (slice(0, 5), slice(0, 6))


def test_stability_stays_below_the_bound(model: deal.DEAL, x: torch.Tensor, at: frozen.Linearised) -> None:
    y = at.apply(x)
    arrays, rows, capped = certificates.around_fixed_point(model, Identity(), y, SIGMA, [0.2])
    assert capped == 0
    named = {row["name"]: row["value"] for row in rows}
    assert named["q"] < 1
    assert named["bound"] == pytest.approx(1 / ((1 - named["q"]) * named["lambda_min"]))
    assert arrays["measured"].min() > 0 and arrays["measured"].max() == named["largest measured"] < named["bound"]
    assert arrays["ratios"][-1] == pytest.approx(named["spectral radius"], rel=0.2)
    constant = arrays["measured"][list(arrays["directions"]).index("constant"), 0]
    assert constant == pytest.approx(1, abs=0.05)


def test_parameters_are_counted_once() -> None:
    layer = torch.nn.Linear(3, 2)
    other = torch.ones(7)
    held = {"a": layer, "b": [layer, other], "c": torch.arange(5), "d": "text"}
    assert scatter.learned(held, set()) == 3 * 2 + 2 + 7


def test_a_log_of_a_training_is_read_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "gray.log.csv"
    with path.open("w", newline="") as handle:
        writer = csv.DictWriter(handle, ["step", "phase", "loss", "mask_change", "validation", "lambda", "seconds"])
        writer.writeheader()
        for step in range(1, 7):
            last = step % 3 == 0
            writer.writerow({
                "step": step, "phase": int(step > 4), "loss": 9 - step, "mask_change": 0.5 if last else 0,
                "validation": f"{20 + step} {15 + step}" if last else "", "lambda": "5 14 20" if last else "",
                "seconds": 1,
            })  # fmt: skip
    found = training.read(path)
    assert list(found["loss_step"]) == [1, 2, 3, 4, 5, 6]
    assert list(found["phases"]) == [5]
    assert list(found["mask_change_step"]) == [3, 6]
    assert found["validation"].tolist() == [[23, 18], [26, 21]]
    assert found["lambda"].shape == (2, 3)
    assert "seconds" not in found


@pytest.mark.parametrize("text", ["", "a,b\n1,2\n", "step,loss\n", "step,loss\n1,many\n"])
def test_what_is_no_log_is_said_so(text: str, tmp_path: Path) -> None:
    path = tmp_path / "x.log.csv"
    path.write_text(text)
    with pytest.raises(UserError, match=r"x\.log\.csv"):
        training.read(path)


def test_columns_with_a_number_at_their_end_share_a_panel() -> None:
    assert [training.family(n) for n in ("psnr_15", "lambda_2.5", "tv2", "mask_change")] == [
        "psnr", "lambda", "tv2", "mask_change",
    ]  # fmt: skip


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """Two columns of Table 1, two methods; results made up, weights released."""
    maker = Maker(tmp_path / "results", seconds=2.0)
    maker.put("denoise_gray", "sigma25", "bm3d", {"a": 28.0, "b": 29.0, "c": 30.0})
    maker.put("denoise_gray", "sigma25", "deal", {"c": 30.1, "a": 28.5, "d": 40.0})
    maker.put("denoise_color", "sigma25", "bm3d", [31.0, 32.0])
    maker.put("denoise_color", "sigma25", "deal", [], missing="no weights")
    values = {"tasks": {"denoise_gray": {"sigmas_255": [25.0]}, "denoise_color": {"sigmas_255": [25.0]}}}
    values |= {"methods": ["truth", "bm3d", "deal"], "weights": "released", "results": str(tmp_path / "results")}
    return configfile.load([ROOT / "config.yaml"], values)


def test_differences_are_paired_by_image(config: Config) -> None:
    arrays, meta = paired.collect(config)
    assert [(row["column"], row["label"], row["images"]) for row in meta["rows"]] == [("gray, noise σ = 25", "BM3D", 2)]
    np.testing.assert_allclose(sorted(arrays["d0"]), [0.1, 0.5])
    expected = mean_interval([0.5, 0.1])
    assert meta["rows"][0]["mean"] == pytest.approx(0.3)
    assert (meta["rows"][0]["low"], meta["rows"][0]["high"]) == pytest.approx((expected.low, expected.high))


def test_costs_are_those_of_the_results_and_of_the_model(config: Config) -> None:
    _, meta = scatter.collect(config)
    found = {(row["column"][:4], row["label"]): row for row in meta["rows"]}
    assert set(found) == {("gray", "BM3D"), ("gray", "DEAL"), ("colo", "BM3D")}
    assert found["gray", "DEAL"]["parameters"] == 468570
    assert found["gray", "BM3D"]["parameters"] is None
    assert found["gray", "BM3D"]["psnr"] == pytest.approx(29)
    assert found["gray", "DEAL"]["seconds"] == 2.0
    assert "BM3D" in meta["facts"]["none"]


def test_without_a_common_image_there_is_nothing_to_pair(config: Config, tmp_path: Path) -> None:
    Maker(tmp_path / "results").put("denoise_gray", "sigma25", "bm3d", {"elsewhere": 30.0})
    with pytest.raises(UserError, match="table1"):
        paired.collect(config)


def drawn(name: str, data: dict, meta: dict):
    """The figure and its texts."""
    with style.context():
        return made_figures.drawn(figures.draw(name, data, meta), 100)


def training_data() -> tuple[dict, dict]:
    steps = np.arange(1, 81)
    data = {"gray_loss": 9.0 / steps[:, None] ** 0.5, "gray_loss_step": steps, "gray_phases": np.array([60])}
    data |= {"gray_validation": np.array([[28.0, 24.0], [29.0, 25.0]]), "gray_validation_step": np.array([40, 80])}
    data |= {
        "gray_lambda": np.array([[2.0, 5.0, 9.0, 14.0], [2.0, 6.0, 9.0, 18.0]]),
        "gray_lambda_step": np.array([40, 80]),
    }
    facts = {"kinds": "a model", "window": "25", "last": ""}
    meta = {"facts": facts, "kinds": ["gray"], "groups": training.GROUPS, "window": 25}
    return data, meta | {"sigmas_255": {"gray": {"validation": [15, 25], "lambda": [5, 15, 25, 50]}}}


def paired_data() -> tuple[dict, dict]:
    rows = [{"column": f"gray, noise σ = {s}", "label": m, "mean": 0.3, "low": 0.2, "high": 0.4, "images": 9}
            for s in (5, 15) for m in ("BM3D", "DnCNN")]  # fmt: skip
    rows.append({**rows[0], "label": "one image", "low": float("nan"), "high": float("nan"), "images": 1})
    data = {f"d{i}": np.linspace(-0.2, 0.8, row["images"]) for i, row in enumerate(rows)}
    return data, {"facts": {"images": "1 to 9"}, "rows": rows}


def scatter_data() -> tuple[dict, dict]:
    rows = [{"column": "gray, noise σ = 25", "label": m, "psnr": 29.0 + n / 9, "seconds": 2.0**n, "parameters": p}
            for n, (m, p) in enumerate([("BM3D", None), ("DEAL", 468570), ("DRUNet", 32 * 10**6)])]  # fmt: skip
    return {"psnr": np.zeros(3)}, {"facts": {"images": "3", "devices": "cpu", "none": ""}, "rows": rows}


def ablation_data() -> tuple[dict, dict]:
    labels = ["filters_32", "filters_64", "filters_128", "unconstrained_splines", "kernel_5", "kernel_7"]
    psnr = 29 + np.linspace(0, 1, 6)[:, None] + np.array([9.0, 3.0, 0.0])
    psnr[4, 1] = np.nan
    data = {"parameters": np.array([66330, 163546, 468570, 468570, 349850, 400730]), "psnr": psnr}
    return data, {"facts": {}, "labels": labels, "columns": [f"σ = {s}" for s in (5, 15, 25)]}


MADE = {"training": training_data, "paired": paired_data, "scatter": scatter_data, "ablation_sizes": ablation_data}


@pytest.mark.parametrize("name", MADE)
def test_drawings_show_something_in_readable_type(name: str) -> None:
    data, meta = MADE[name]()
    pixels, texts = drawn(name, data, meta)
    with style.context():
        figure = figures.draw(name, data, meta)
    width, height = figure.get_size_inches()
    assert pixels.std() > 5
    assert len(texts) > 10
    assert width <= style.PAGE + 1e-9
    assert made_figures.mistakes(texts, 100 * width, 100 * height) == []


def test_training_curves_name_the_noise_levels() -> None:
    with style.context():
        figure = figures.draw("training", *training_data())
    written = [text.get_text() for text in figure.findobj(Text)]
    assert written.count("σ = 15") == written.count("σ = 25") == 2  # of PSNR and of λ
    assert written.count("σ = 50") == 1
    assert "gray: λ" in written


def test_a_single_image_has_a_dot_and_no_interval() -> None:
    data, meta = paired_data()
    with style.context():
        figure = figures.draw("paired", data, meta)
    widths = [line.get_linewidth() for axes in figure.axes for line in axes.lines if len(line.get_xdata()) == 2]
    assert widths.count(2.2) == len(meta["rows"]) - 1
