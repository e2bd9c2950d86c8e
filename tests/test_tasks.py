"""Tasks: data, crops and noise to the last digit (protocol, sections 2 and 15)."""

from pathlib import Path

import numpy as np
import pytest
import small_items
import torch

from bench import datasets, metrics, tasks
from bench.config import Config, Denoise
from bench.errors import UserError

GRAY, COLOR = tasks.get("denoise_gray"), tasks.get("denoise_color")


def section(crop: int | None = None, seed: int = 0) -> Denoise:
    return Denoise(dataset="bsd68", crop=crop, seed=seed, sigmas_255=[5.0, 25.0])


def image(channels: int, height: int = 20, width: int = 30) -> np.ndarray:
    values = np.random.default_rng(channels).integers(0, 256, (channels, height, width))
    return values.astype(np.float32) / np.float32(255)


def unclipped_psnr(item: tasks.Item) -> float:
    return metrics.psnr(item.y[0].numpy(), item.x[0].numpy(), clip=False)


def test_first_gray_image_has_the_protocols_noise(mirror: Path) -> None:
    name, x = datasets.load("bsd68", mirror, subset=1)[0]
    item = GRAY.item(name, x, Config().tasks.denoise_gray, "sigma25")
    assert name == "test001"
    assert tuple(item.y.shape) == (1, 1, *x.shape[1:])
    assert unclipped_psnr(item) == pytest.approx(20.19403, abs=5e-6)
    assert item.y.flatten()[:3].tolist() == pytest.approx([0.95726, 1.03923, 1.09595], abs=5e-6)


def test_castle_has_the_protocols_noise(mirror: Path) -> None:
    name, x = datasets.load("bsd68", mirror, subset=3)[2]
    item = GRAY.item(name, x, Config().tasks.denoise_gray, "sigma25")
    assert x.shape == (1, 481, 321)
    assert metrics.psnr(np.zeros_like(x), x, clip=False) == pytest.approx(6.1170, abs=5e-5)
    assert unclipped_psnr(item) == pytest.approx(20.194, abs=5e-4)


def test_first_colour_image_has_the_protocols_crop_and_noise(mirror: Path) -> None:
    name, x = datasets.load("cbsd68", mirror, subset=1)[0]
    item = COLOR.item(name, x, Config().tasks.denoise_color, "sigma25")
    assert (name, tuple(item.x.shape)) == ("0000", (1, 3, 256, 256))
    assert np.array_equal(item.x[0].numpy(), x[:, 32:288, 112:368])  # 321×481, protocol 2.2
    assert unclipped_psnr(item) == pytest.approx(20.18839, abs=5e-6)
    assert item.y[0, :, 0, 0].tolist() == pytest.approx([0.698437, 0.564721, 0.660661], abs=5e-7)


def test_gray_noise_is_rounded_before_the_addition() -> None:
    x = image(1)
    noise = np.random.RandomState(0).normal(0.0, 25 / 255, x.shape).astype(np.float32)
    assert np.array_equal(GRAY.item("a", x, section(), "sigma25").y[0].numpy(), x + noise)


def test_colour_noise_is_drawn_in_the_order_height_width_channel() -> None:
    x = image(3)
    noise = np.random.RandomState(0).normal(0.0, 25 / 255, (20, 30, 3))
    expected = (x.transpose(1, 2, 0) + noise).astype(np.float32).transpose(2, 0, 1)
    assert np.array_equal(COLOR.item("a", x, section(), "sigma25").y[0].numpy(), expected)


def test_noise_depends_on_the_seed_and_scales_with_sigma() -> None:
    x = np.zeros((1, 8, 8), dtype=np.float32)
    weak, strong = (GRAY.item("a", x, section(), setting).y for setting in ("sigma5", "sigma25"))
    assert torch.allclose(5 * weak, strong, rtol=1e-6)
    assert torch.equal(weak, GRAY.item("b", x, section(), "sigma5").y)
    assert not torch.equal(weak, GRAY.item("a", x, section(seed=1), "sigma5").y)


def test_the_global_generator_is_left_alone() -> None:
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    GRAY.item("a", image(1), section(), "sigma5")
    assert np.array_equal(np.random.get_state()[1], before)  # noqa: NPY002


@pytest.mark.parametrize(("height", "width", "rows", "columns"), [(321, 481, 32, 112), (481, 321, 112, 32)])
def test_centre_crop(height: int, width: int, rows: int, columns: int) -> None:
    x = np.arange(height * width, dtype=np.float32).reshape(1, height, width)
    crop = tasks.centre_crop(x, 256)
    assert crop.shape == (1, 256, 256)
    assert crop[0, 0, 0] == x[0, rows, columns]


def test_images_are_contiguous_float32_tensors() -> None:
    item = COLOR.item("a", image(3), section(crop=8), "sigma5")
    for tensor in (item.x, item.y):
        assert (tensor.dtype, tensor.is_contiguous(), tuple(tensor.shape)) == (
            torch.float32,
            True,
            (1, 3, 8, 8),
        )
    assert item.sigma == 5 / 255


@pytest.mark.parametrize(
    ("x", "complaint"),
    [
        (image(3), "image bad: has 3 channels, this task takes 1"),
        (np.zeros((8, 8), np.float32), r"image bad: has the shape \(8, 8\), this task takes 1"),
        (np.full((1, 8, 8), np.nan, np.float32), "image bad: contains NaN or infinite values"),
        (np.full((1, 8, 8), np.inf, np.float32), "image bad: contains NaN or infinite values"),
    ],
)
def test_images_that_do_not_fit_are_named(x: np.ndarray, complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        GRAY.item("bad", x, section(), "sigma5")


def test_a_crop_larger_than_the_image_is_refused() -> None:
    with pytest.raises(UserError, match="image small: a crop of 64 pixels does not fit into 20×30"):
        GRAY.item("small", image(1), section(crop=64), "sigma5")


@pytest.mark.parametrize("name", tasks.TASKS)
def test_operators_are_adjoint(name: str) -> None:
    item = small_items.item(name)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(item.x.shape, generator=generator)
    y = torch.randn(item.y.shape, generator=generator, dtype=item.y.dtype)
    left, right = (item.operator.A(x) * y.conj()).real.sum(), (x * item.operator.A_adjoint(y)).sum()
    assert abs(left - right) <= 1e-5 * item.operator.A(x).norm() * y.norm()


@pytest.mark.parametrize("name", tasks.TASKS)
def test_every_task_of_the_configuration_exists(name: str) -> None:
    assert name in type(Config().tasks).model_fields


def test_unknown_task() -> None:
    with pytest.raises(UserError, match="unknown task 'denoise_grey'; did you mean 'denoise_gray'"):
        tasks.get("denoise_grey")
