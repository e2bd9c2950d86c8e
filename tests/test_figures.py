"""Figures: every one drawn from data that its own collection wrote; sizes, texts, captions, and three pictures."""

import io
import json
from pathlib import Path

import made_figures
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from bench import configfile, figure_data, figures, mri_prepare, report_record
from bench.config import Config
from bench.errors import UserError
from bench.figure_config import ABLATION_SIZES, NAMES
from bench.figures import style

ROOT = Path(__file__).resolve().parents[1]
BASELINES = ROOT / "tests" / "figures"
PICTURE_DPI = 80
TINY = {
    "methods": ["truth", "measurement", "bm3d", "deal"],
    "tasks": {
        "denoise_gray": {"crop": 56, "sigmas_255": [25.0]},
        "superres_color": {"crop": 32},
        "deblur_gray": {"crop": 32},
        "mri": {"phantom": {"height": 32, "width": 32, "coils": 4}},
    },
    "solver": {"tol": 1e-2, "max_outer": 3, "tasks": {"mri": {"max_outer": 3}, "superres_color": {"tol": 1e-2}}},
    "figures": {
        "robustness": {"noise_factors": [0.5, 1.0], "rotations_deg": [0.0, 8.0]},
        "error_time": {"max_outer": 3},
        "brain": {"factors": [0.5, 1.0]},
        "certificates": {"crop": 10, "perturbations_255": [1.0]},
    },
}
ELSEWHERE = (ABLATION_SIZES, "paired", "scatter", "training")  # from results of other rules: test_model_figures.py
FROM_RESULTS = (ABLATION_SIZES, "paired", "scatter", "training")
"""Figures of results and trainings, drawn from made-up ones in test_model_figures."""
COLLECTED = [name for name in figures.names() if name not in FROM_RESULTS]
LOST = "cannot be downloaded: https://host/weights.pth: Failed to resolve 'host'. Check the network"
CAPPED = "ignore:DEAL stopped at its cap"


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """The demo, made tiny."""
    folder = tmp_path_factory.mktemp("figures")
    paths = [ROOT / "config.yaml", ROOT / "workflow" / "config" / "demo.yaml"]
    where = {"results": str(folder / "results"), "cache": str(folder / "cache")}
    config = configfile.load(paths, TINY | where)
    from bench import datasets

    for name in ("embedded_gray", "embedded_color"):
        datasets.fetch(name, Path(config.cache), progress=False)
    mri_prepare.prepare(config, Path(config.tasks.mri.samples(config.cache)))
    return config


@pytest.fixture(scope="module")
def collected(config: Config):
    """Name of a figure → its data, collected once."""

    def get(name: str) -> Path:
        data = figures.data_of(name)
        path = Path(config.results, "figures", "data", f"{data}.npz")
        if not path.is_file():
            figure_data.write(config, data, path)
        return path

    return get


def test_the_configuration_names_every_figure() -> None:
    assert sorted([*NAMES, ABLATION_SIZES]) == figures.names(), "all but what another target makes"
    assert configfile.load([ROOT / "config.yaml"]).figures.names == NAMES


@pytest.mark.filterwarnings(CAPPED)
@pytest.mark.parametrize("name", [name for name in figures.names() if name not in ELSEWHERE])
def test_a_figure_is_made_from_its_own_data(name: str, collected, tmp_path: Path) -> None:
    source = collected(name)
    output = tmp_path / f"{name}.png"
    figures.write(name, source, output, [4, 6, 10, 12])
    about = json.loads(output.with_suffix(".json").read_text(encoding="utf-8"))

    pixels = np.asarray(Image.open(output).convert("RGB"))
    assert pixels.std() > 5, "the picture is empty"
    assert pixels.shape[1] == pytest.approx(style.DPI * about["width_in"], abs=1)
    assert pixels.shape[0] == pytest.approx(style.DPI * about["height_in"], abs=1)
    assert about["width_in"] <= style.PAGE + 1e-9
    assert about["height_in"] <= style.TALLEST, "LaTeX would shrink it, and its text below 6 pt"
    assert output.with_suffix(".pdf").read_bytes().startswith(b"%PDF")
    assert about["source"]["sha256"] == figures.sha256(source)
    assert about["zoom"] == [4, 6, 10, 12]
    for text in (about["title"], about["caption"], about["alt"]):
        assert len(text) > 10
        assert "{" not in text

    data, meta, _ = figures.load(source)
    with style.context():
        _, found = made_figures.drawn(figures.draw(name, data, meta | {"zoom": about["zoom"]}), 100)
    width, height = 100 * about["width_in"], 100 * about["height_in"]
    assert len(found) >= 3
    assert made_figures.mistakes(found, width, height) == []


def test_every_figure_is_drawn_in_a_test() -> None:
    from test_model_figures import MADE

    assert sorted(MADE) == sorted(FROM_RESULTS)


@pytest.mark.filterwarnings(CAPPED)
def test_redrawing_gives_the_same_bytes(collected, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        figures.write("fig03", collected("fig03"), tmp_path / folder / "fig03.png")
    for suffix in (".png", ".pdf"):
        first, second = ((tmp_path / folder / f"fig03{suffix}").read_bytes() for folder in ("a", "b"))
        assert first == second


def test_mistakes_in_texts_are_seen() -> None:
    figure = Figure(figsize=(2, 1))
    figure.text(0.1, 0.8, "small", fontsize=5)
    figure.text(0.9, 0.5, "over the border", fontsize=7)
    figure.text(0.1, 0.2, "one", fontsize=7)
    figure.text(0.12, 0.2, "another", fontsize=7)
    figure.text(0.5, 0.8, "turned", fontsize=7, rotation=90)
    _, found = made_figures.drawn(figure, 100)
    wrong = made_figures.mistakes(found, 200, 100)
    assert len(wrong) == 4 and wrong[0] == "'small' has 5 points", wrong
    assert any("over the border" in text for text in wrong) and any("overlap" in text for text in wrong)


PICTURES = {
    "fig03": lambda: made_figures.comparison(["BM3D", "DnCNN", "DEAL"], {"SAFI": "weights missing"}),
    "fig04": made_figures.path,
    "robustness": made_figures.robustness,
}


def picture(name: str) -> np.ndarray:
    """A figure of made-up data, (H, W, 3)."""
    with style.context():
        return made_figures.drawn(figures.draw(name, *PICTURES[name]()), PICTURE_DPI)[0]


def difference(a: np.ndarray, b: np.ndarray) -> float:
    """Root mean square over pixels and channels, of 0 … 255; infinite for different sizes."""
    return float("inf") if a.shape != b.shape else float(np.sqrt(np.mean((a.astype(float) - b) ** 2)))


@pytest.mark.parametrize("name", PICTURES)
def test_the_picture_is_as_it_was(name: str, tmp_path: Path) -> None:
    """To renew a baseline on purpose: copy the picture named in the message over it, after a look at it."""
    found = picture(name)
    Image.fromarray(found).save(tmp_path / f"{name}.png")
    expected = np.asarray(Image.open(BASELINES / f"{name}.png").convert("RGB"))
    apart = difference(found, expected)
    assert apart < 3.0, f"{tmp_path / f'{name}.png'} differs from {BASELINES / f'{name}.png'} by {apart:.1f} of 255"


def test_a_changed_picture_is_noticed() -> None:
    data, meta = made_figures.path()
    with style.context():
        changed = made_figures.drawn(figures.draw("fig04", data | {"psnr": data["psnr"] - 5}, meta), PICTURE_DPI)[0]
    assert difference(changed, np.asarray(Image.open(BASELINES / "fig04.png").convert("RGB"))) > 3.0


def test_a_caption_says_what_is_missing_and_what_did_not_converge() -> None:
    _, meta = made_figures.comparison(["DEAL"], {"SAFI": LOST, "SARR": LOST, "DRUNet": "damaged"})
    meta["capped"] = ["DEAL on smooth"]
    text = figures.caption("Denoising of {images}.", meta)
    assert text == (
        "Denoising of smooth. Settings: DEAL's weights released. Stopped at the cap of updates, not converged: DEAL on "
        "smooth. Not shown: SAFI, SARR (weights cannot be downloaded). Not shown: DRUNet (damaged)."
    )


def test_a_zoom_that_does_not_fit_is_refused() -> None:
    data, meta = made_figures.comparison(["DEAL"], {})
    with pytest.raises(UserError, match=r"zoom \[60, 0, 10, 10\] does not fit into an image of 64×96"):
        figures.draw("fig03", data, meta | {"zoom": [60, 0, 10, 10]})


def test_the_busiest_window_is_where_most_happens() -> None:
    flat = np.full((1, 50, 80), 0.5)
    flat[0, 30:40, 10:25] = np.random.RandomState(0).rand(10, 15)
    top, left, height, width = style.busiest(flat)
    assert top <= 30 and left <= 10 and top + height >= 40 and left + width >= 25


def test_what_is_no_figure_data_ends_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "fig03.npz"
    content = io.BytesIO()
    np.savez(content, a=np.zeros(1))
    path.write_bytes(content.getvalue())
    path.with_suffix(".json").write_text("{}")
    with pytest.raises(UserError, match="not the data of a figure"):
        figures.load(path)
    with pytest.raises(UserError, match="unknown figure 'robustnes'; did you mean 'robustness'"):
        figures.checked("robustnes")


def test_a_figure_of_many_methods_still_fits_on_a_page() -> None:
    one, meta = made_figures.comparison([f"method {n}" for n in range(14)], {})
    data = {"kernel": np.ones((5, 5)), **{key: np.repeat(one[key], 3, 0) for key in ("psnr", "ssim")}}
    data |= {f"{key[:-1]}{i}": value for key, value in one.items() if key.endswith("0") for i in range(3)}
    meta["images"] = ["a", "b", "c"]
    with style.context():
        drawn = figures.draw("fig09", data, meta)
        found = made_figures.drawn(drawn, 100)[1]
    width, height = (100 * float(side) for side in drawn.get_size_inches())
    assert height == 100 * style.TALLEST
    assert made_figures.mistakes(found, width, height) == []


def test_data_of_another_figure_and_other_endings_end_in_one_line(tmp_path: Path) -> None:
    data, meta = made_figures.path()
    with pytest.raises(UserError, match=r"figure fig03 needs data with '\w+': take those of 'fig03'"):
        figures.draw("fig03", data, meta)
    with pytest.raises(UserError, match=r"picture\.pdf: the name must end in \.png"):
        figures.write("fig03", tmp_path / "fig03.npz", tmp_path / "picture.pdf")
    assert list(tmp_path.iterdir()) == []


def test_where_nothing_can_be_shown_the_report_gives_the_reason(tmp_path: Path) -> None:
    """Weights that cannot be had must cost the figure, not the report."""
    made = configfile.load([ROOT / "config.yaml"], {"weights": "train", "results": str(tmp_path)})
    source, output = tmp_path / "filters_gray.npz", tmp_path / "fig13.png"
    figure_data.write(made, "filters_gray", source)
    figures.write("fig13", source, output)
    (view,) = report_record.figures([output])
    assert view.missing is not None and "gray.safetensors: not trained yet" in view.missing
    assert np.asarray(Image.open(output).convert("L")).std() > 5
