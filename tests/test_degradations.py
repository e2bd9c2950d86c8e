"""Super-resolution and deblurring: kernels, measurements and scores to the published digits."""

from pathlib import Path

import numpy as np
import pytest
import scipy.ndimage
import small_items
import torch
from PIL import Image

from bench import datasets, kernels, metrics, tasks
from bench.config import Config, Deblur, Superres
from bench.conventions import CONVENTIONS
from bench.errors import UserError

SUPERRES, DEBLUR = tasks.get("superres_color"), tasks.get("deblur_gray")
SETTINGS = {"255": 2.55, "765": 7.65}
PSNRS = {
    ("k17", 2.55): (20.75, 23.25, 18.56),
    ("k27", 2.55): (17.01, 18.60, 13.92),
    ("k17", 7.65): (20.38, 22.57, 18.33),
    ("k27", 7.65): (16.85, 18.35, 13.84),
}


@pytest.mark.parametrize(
    ("setting", "kernel", "clean", "noisy", "pixel"),
    [
        ("x2_sigma2.55", 0, 22125.6191, 22123.9057, (0.501648, 0.500403, 0.551288)),
        ("x2_sigma2.55", 3, 22123.2574, 22121.5441, None),
        ("x3_sigma2.55", 0, 9756.9799, 9756.5053, (0.501628, 0.499915, 0.552176)),
        ("x3_sigma2.55", 3, 9753.8557, 9753.3810, None),
    ],
)
def test_first_image_of_super_resolution(
    mirror: Path, setting: str, kernel: int, clean: float, noisy: float, pixel: tuple | None
) -> None:
    section = Config().tasks.superres_color
    found = dict(SUPERRES.items(section, setting, mirror, subset=1))
    assert list(found) == ["0000_k0", "0000_k1", "0000_k2", "0000_k3"]
    item = found[f"0000_k{kernel}"]()
    side = {"x2": 128, "x3": 85}[setting[:2]]
    assert tuple(item.y.shape) == (1, 3, side, side)
    assert tuple(item.x.shape[-2:]) == tuple(side * int(setting[1]) for _ in "HW")
    assert float(item.operator.A(item.x.double()).sum()) == pytest.approx(clean, abs=2e-3)
    assert float(item.y.double().sum()) == pytest.approx(noisy, abs=2e-3)
    assert item.sigma == 2.55 / 255
    if pixel:
        assert item.y[0, :, 0, 0].tolist() == pytest.approx(pixel, abs=1e-6)


@pytest.mark.parametrize("factor", [2, 3])
def test_super_resolution_is_dpirs_degradation(mirror: Path, factor: int) -> None:
    """scipy's convolution of the float32 image, as DPIR calls it, against the operator in float32."""
    kernel = kernels.gaussian(3, "dpir_kernels", mirror)
    _, x = datasets.load("cbsd68", mirror, subset=1)[0]
    side = 256 - 256 % factor
    x = tasks.centre_crop(x, 256)[:, :side, :side]
    image = np.ascontiguousarray(x.transpose(1, 2, 0))
    expected = scipy.ndimage.convolve(image, kernel[..., None], mode="wrap")[::factor, ::factor]
    item = SUPERRES.item("a", x, Superres(dataset="cbsd68", crop=None), f"x{factor}_sigma2.55", kernel)
    found = item.operator.A(item.x)[0].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-6)
    noise = np.random.RandomState(0).normal(0, 2.55 / 255, expected.shape)
    np.testing.assert_allclose(item.y[0].permute(1, 2, 0).numpy(), expected + noise, atol=2e-7)


@pytest.mark.parametrize("level", SETTINGS)
@pytest.mark.parametrize("kernel", ["k17", "k27"])
def test_deblurring_measurements_are_the_published_files(mirror: Path, level: str, kernel: str) -> None:
    """All twelve, pixel by pixel, with the PSNRs of the measurements."""
    section, sigma = Config().tasks.deblur_gray, SETTINGS[level]
    index = {"k17": 1, "k27": 3}[kernel]
    files = {file.name: file for file in datasets.get(f"dpir_deblurred_{level}").files}
    items = DEBLUR.items(section, f"{kernel}_sigma{sigma:g}", mirror)
    assert [name for name, _ in items] == ["01", "02", "05"]
    for (name, make), psnr in zip(items, PSNRS[kernel, sigma], strict=True):
        item = make()
        published = np.asarray(Image.open(files[f"{name}_k{index}_LR.png"].path(mirror)))
        assert np.array_equal(np.rint(255 * item.y[0, 0].numpy()).astype(np.uint8), published)
        scored = [CONVENTIONS["deblur_gray"].scored(image[0].numpy()) for image in (item.y, item.x)]
        assert metrics.psnr(*scored, clip=False) == pytest.approx(psnr, abs=5.1e-3)


def test_dpirs_results_score_as_its_log_says(mirror: Path) -> None:
    """The scoring convention of Table 5, on the images that the authors of DEAL published."""
    logged = {"k1": (32.05, 35.82, 33.38), "k3": (31.97, 35.52, 32.99)}
    files = {file.name: file for file in datasets.get("dpir_deblurred_255").files}
    for kernel, values in logged.items():
        for (name, x), psnr in zip(datasets.load("set3_gray", mirror), values, strict=True):
            estimate = np.asarray(Image.open(files[f"{name}_{kernel}_drunet_gray.png"].path(mirror)))
            scored = [CONVENTIONS["deblur_gray"].scored(image) for image in (estimate[None] / np.float32(255), x)]
            assert metrics.psnr(*scored, clip=False) == pytest.approx(psnr, abs=1e-2)


def test_kernels_of_dpir(mirror: Path) -> None:
    first = kernels.gaussian(0, "dpir_kernels", mirror)
    assert first[12, 12:14] == pytest.approx([0.32472417, 0.1170461], abs=5e-9)
    for index in range(4):
        published = kernels.gaussian(index, "dpir_kernels", mirror)
        np.testing.assert_allclose(kernels.gaussian(index, "generated", mirror), published, atol=1e-8)
    for index, size, centroid in ((1, 17, (7.904, 7.865)), (3, 27, (11.430, 15.210))):
        kernel = kernels.motion(index, "dpir_kernels", mirror)
        assert kernel.shape == (size, size)
        assert kernel.sum() == pytest.approx(1, abs=1e-9)
        assert scipy.ndimage.center_of_mass(kernel) == pytest.approx(centroid, abs=5e-4)


@pytest.mark.parametrize("index", range(8))
def test_generated_shakes_are_motion_blurs(index: int) -> None:
    kernel = kernels.motion(index, "generated", Path())
    side = (19, 17, 15, 27, 13, 21, 23, 23)[index]
    assert kernel.shape == (side, side)
    assert kernel.min() >= 0
    assert kernel.sum() == pytest.approx(1)
    assert np.array_equal(kernel, kernels.motion(index, "generated", Path()))
    assert max(np.ptp(np.nonzero(kernel), axis=1)) >= side - 4, "the path fills the kernel"
    assert np.count_nonzero(kernel) < 0.6 * kernel.size
    assert kernel.max() < 0.15, "no pixel holds most of the path"


def test_kernel_files_that_are_not_there_or_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for make, name in ((kernels.gaussian, "kernels_12.mat"), (kernels.motion, "Levin09.mat")):
        with pytest.raises(
            UserError, match=r"dpir_kernels has not been fetched \(python -m bench fetch dpir_kernels\)"
        ):
            make(0, "dpir_kernels", tmp_path)
        path = next(f for f in datasets.get("dpir_kernels").files if f.name == name).path(tmp_path)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"no kernels at all" * 20)
        with pytest.raises(UserError, match=f"{name} is damaged: expected sha256"):
            make(0, "dpir_kernels", tmp_path)
        with monkeypatch.context() as patched, pytest.raises(UserError, match=f"{name}: cannot be read as the"):
            patched.setattr(kernels, "mismatch", lambda file, path: None)
            make(0, "dpir_kernels", tmp_path)


def test_deblurring_rounds_twice_or_once() -> None:
    """Published: blur rounded down to 8 bits, noise, clipped and rounded; float: without the last."""
    x, kernel = small_items.image(1), kernels.motion(1, "generated", Path())
    sections = [Deblur(dataset="set3_gray", measurement=kind) for kind in ("published", "float")]
    rounded, plain = (DEBLUR.item("a", x, section, "k17_sigma7.65", kernel).y[0, 0].numpy() for section in sections)
    eight_bits = np.rint(255 * x[0])
    exact = np.zeros_like(eight_bits, dtype=np.float64)
    for (row, column), weight in np.ndenumerate(kernel):
        exact += weight * np.roll(eight_bits, (row - 8, column - 8), (0, 1))
    noise = np.random.RandomState(0).normal(0, 7.65 / 255, x.shape[1:])
    np.testing.assert_allclose(plain - noise, np.floor(exact + 1e-9) / 255, atol=1e-6)
    np.testing.assert_allclose(rounded, np.rint(255 * np.clip(plain, 0, 1)) / 255, atol=1e-7)
    assert np.array_equal(255 * rounded, np.rint(255 * rounded))


def test_super_resolution_averages_over_its_kernels() -> None:
    section = Superres(dataset="embedded_color", crop=24, kernel_source="generated", kernels=[1, 3])
    items = SUPERRES.items(section, "x3_sigma7.65", Path(), subset=1)
    assert [name.rpartition("_")[2] for name, _ in items] == ["k1", "k3"]
    first, second = (make() for _, make in items)
    assert torch.equal(first.x, second.x)
    assert not torch.equal(first.y, second.y)
    assert tuple(first.y.shape) == (1, 3, 8, 8)


def test_data_of_a_task_names_images_and_kernels() -> None:
    config = Config()
    data = SUPERRES.data(config.tasks.superres_color, Path())
    assert data["dataset"] == "cbsd68"
    assert data["also"] == {"dpir_kernels": datasets.get("dpir_kernels").digest}
    embedded = config.tasks.superres_color.model_copy(update={"kernel_source": "generated"})
    assert "also" not in SUPERRES.data(embedded, Path())


def test_conventions() -> None:
    image = np.array([[[-0.2, 0.5004, 1.3]] * 3], dtype=np.float32)
    for task, expected in {
        "denoise_gray": [0, 0.5004, 1],
        "superres_color": [0, 0.5004, 1],
        "deblur_gray": [0, 128 / 255, 1],
        "mri": [-0.2, 0.5004, 1.3],
    }.items():
        np.testing.assert_allclose(CONVENTIONS[task].scored(image)[0, 0], expected, rtol=1e-6)
    np.testing.assert_allclose(CONVENTIONS["superres_color"].scored(image, clip=False), image)
    wide = np.arange(640 * 372, dtype=np.float32).reshape(1, 640, 372)
    assert np.array_equal(CONVENTIONS["mri"].scored(wide), wide[:, 160:480, 26:346])
    assert set(tasks.TASKS) <= set(CONVENTIONS)
