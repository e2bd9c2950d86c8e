"""Odd images, operators and files: a finite result or one line that names what is wrong, whatever they hold."""

import io
import random
from collections.abc import Callable
from pathlib import Path

import h5py
import hypothesis
import numpy as np
import pytest
import small_items
import torch
from hypothesis import strategies as st
from PIL import Image
from safetensors import SafetensorError
from tally import Tally

import deal
from baselines import epll
from baselines.networks import fdn, readers
from bench import datasets, evaluate, items, mri_data, mri_prepare, registry, tasks
from bench.config import Config
from bench.conventions import CONVENTIONS
from bench.errors import UserError
from deal import operators, patches, weights

few = hypothesis.settings(
    max_examples=60, deadline=None, derandomize=True, database=None, suppress_health_check=list(hypothesis.HealthCheck)
)
MESSAGES = (UserError, ValueError)


# Images


def image(channels: int, height: int, width: int, kind: str, seed: int) -> np.ndarray:
    """An odd image (C, H, W)."""
    draw = np.random.RandomState(seed)
    x = draw.rand(channels, height, width).astype(np.float32)
    if kind == "constant":
        x[:] = 0.5
    elif kind in ("nan", "inf", "-inf"):
        x[draw.randint(channels), draw.randint(height), draw.randint(width)] = float(kind)
    elif kind == "zero":
        x[:] = 0
    elif kind == "float64":
        return x.astype(np.float64)
    elif kind == "uint8":
        return (255 * x).astype(np.uint8)
    elif kind == "huge":
        x *= 1e30
    return x


shapes = st.sampled_from([(1, 1), (1, 7), (2, 1), (3, 200), (150, 2), (8, 8), (5, 6), (17, 23)])
kinds = st.sampled_from(["plain", "constant", "zero", "nan", "inf", "-inf", "float64", "uint8", "huge"])


@pytest.mark.parametrize("task", ["denoise_gray", "denoise_color", "superres_color", "deblur_gray"])
def test_images_of_every_task(task: str, tally: Tally) -> None:
    """From the image to the row of a method; `measurement` for all, total variation where it serves."""
    section = Config().task(task).model_copy(update=small_items.NO_DATA[task])
    kind, setting = tasks.get(task), section.settings()[0]
    methods = [registry.create("measurement", Config())]

    @few
    @hypothesis.given(st.sampled_from([1, 3]), shapes, kinds, st.integers(0, 99))
    def check(channels: int, shape: tuple[int, int], odd: str, seed: int) -> None:
        x = image(channels, *shape, odd, seed)
        _, more = kind.variants(section, setting, Path())[0]
        try:
            with np.errstate(all="ignore"):
                item = kind.item("odd", x, section, setting, *more)
                for method in methods:
                    row = evaluate.run_one(method, item, CONVENTIONS[task], torch.device("cpu"), {})
                    assert row["psnr"] is not None
        except UserError as error:
            assert "odd" in str(error) and "\n" not in str(error)
        tally("input", "images of the tasks")

    check()


@few
@hypothesis.given(
    st.sampled_from(["gray", "color"]), shapes, kinds, st.sampled_from([0.0, 1e-3, 25 / 255, 50 / 255, 3.0])
)
def denoised(kind: str, shape: tuple[int, int], odd: str, sigma: float) -> None:
    """DEAL on odd images: finite and of the same shape; refused is only what is not finite itself."""
    y = torch.from_numpy(image(1 if kind == "gray" else 3, *shape, odd, 0))[None]
    try:
        x = MODELS[kind].denoise(y, sigma, tol=1e-1, max_outer=2)
    except ValueError as error:
        assert not torch.isfinite(y).all() and str(error) == "the data y contain NaN or infinite values"
        return
    assert torch.isfinite(y).all() and x.shape == y.shape and torch.isfinite(x).all()


MODELS: dict[str, deal.DEAL] = {}


@pytest.mark.filterwarnings("ignore:.*stopped at its cap")  # of two iterations
def test_deal_on_odd_images(tally: Tally) -> None:
    MODELS.update({kind: deal.load(kind) for kind in ("gray", "color")})
    denoised()
    tally("input", "images of DEAL", 60)


def encoded(draw: random.Random) -> bytes:
    """A PNG or JPEG of a random mode, some of its bytes changed or cut off."""
    modes = ["L", "RGB", "RGBA", "P", "1", "I;16", "LA", "CMYK", "F"]
    mode = draw.choice(modes)
    picture = Image.new(mode, (draw.randint(1, 9), draw.randint(1, 9)))
    sink = io.BytesIO()
    picture.save(sink, {"CMYK": "JPEG", "F": "TIFF"}.get(mode, "PNG"))
    content = bytearray(sink.getvalue())
    for _ in range(draw.choice([0, 0, 1, 3])):
        content[draw.randrange(len(content))] = draw.randrange(256)
    return bytes(content[: draw.choice([len(content), len(content), draw.randrange(len(content))])])


@pytest.mark.filterwarnings("ignore")  # Pillow warns of some; that is not an error
def test_image_files(tally: Tally) -> None:
    read = 0
    for seed in range(300):
        channels = seed % 2 * 2 + 1
        try:
            found = datasets._decode(Path("odd.png"), encoded(random.Random(seed)), channels, may_convert=seed % 3 == 0)
        except UserError as error:
            assert "odd.png" in str(error) and "\n" not in str(error)
        else:
            assert found.dtype == np.uint8 and found.ndim == 3 and found.shape[0] == channels
            read += 1
    assert 10 < read < 290
    tally("input", "image files", 300)


# Operators

sides, lengths = st.integers(1, 7), st.integers(1, 30)


@few
@hypothesis.given(sides, sides, st.integers(1, 4), lengths, lengths, st.integers(0, 9))
def adjoint(rows: int, columns: int, factor: int, height: int, width: int, seed: int) -> None:
    """⟨Ax, y⟩ = ⟨x, Aᵀy⟩ for whatever can be made; the rest is refused, saying why."""
    generator = torch.Generator().manual_seed(seed)
    kernel = torch.rand(rows, columns, generator=generator, dtype=torch.float64)
    mask = (torch.rand(height, width, generator=generator) > 0.5).to(torch.uint8)
    makers: list[Callable[[], object]] = [
        lambda: operators.Blur(kernel),
        lambda: operators.Downsampling(kernel, factor, (1, height, width)),
        lambda: operators.MRI(mask),
    ]
    for make in makers:
        x = torch.randn(1, 1, height, width, generator=generator, dtype=torch.float64)
        try:
            operator = make()
            y = operator.A(x)
        except ValueError as error:
            uneven, empty = height % factor or width % factor, not mask.any()
            assert (uneven and f"{height}×{width} pixels cannot be decimated by {factor}" in str(error)) or (
                empty and str(error) == "an MRI mask must not be zero everywhere"
            )
            continue
        z = torch.randn(y.shape, generator=generator, dtype=torch.float64).to(y.dtype)
        left, right = (y.conj() * z).sum().real, (x * operator.A_adjoint(z)).sum().real
        assert torch.isfinite(left) and abs(left - right) <= 1e-4 * (1 + abs(left) + x.numel())


def test_operators(tally: Tally) -> None:
    adjoint()
    tally("input", "operators", 180)


# Files: bytes changed, cut off, put in


def damaged(content: bytes, seed: int) -> bytes:
    """`content` with a few bytes changed, mostly near its beginning, where the layout is; sometimes cut off."""
    draw, changed = random.Random(seed), bytearray(content)
    for _ in range(draw.randint(1, 8)):
        limit = draw.choice([64, 2048, len(changed)])
        changed[draw.randrange(min(limit, len(changed)))] = draw.randrange(256)
    return bytes(changed[: draw.choice([len(changed)] * 3 + [draw.randrange(len(changed))])])


def many(path: Path, content: bytes, read: Callable[[Path], object], count: int) -> int:
    """Read `count` damaged versions of a file: each is read or refused in one line that names it. How many are not."""
    refused = 0
    for seed in range(count):
        path.write_bytes(damaged(content, seed))
        try:
            read(path)
        except MESSAGES as error:
            assert path.name in str(error) and "\n" not in str(error), error
            refused += 1
    assert refused > count // 20
    return refused


def test_checkpoints(tmp_path: Path, tally: Tally) -> None:
    torch.manual_seed(0)
    model, path, pth = deal.DEAL("gray"), tmp_path / "w.safetensors", tmp_path / "w.pth"
    deal.save(model, path)
    many(path, path.read_bytes(), weights._read_safetensors, 150)
    torch.save({"state_dict": {"x": torch.zeros(3)}}, pth)
    many(pth, pth.read_bytes(), weights.read_official, 100)
    torch.save({"x": torch.zeros(3)}, pth)
    many(pth, pth.read_bytes(), readers.read_state_dict, 100)
    tally("input", "checkpoints", 350)


def test_other_files(tmp_path: Path, tally: Tally) -> None:
    npz, pack, keras = tmp_path / "p.npz", tmp_path / "i.safetensors", tmp_path / "k.h5"
    np.savez(npz, weights=np.ones(2) / 2, covariances=np.stack([np.eye(64)] * 2))
    many(npz, npz.read_bytes(), epll.Prior.load, 60)
    patches.pack([np.zeros((1, 20, 20), np.uint8)], pack)
    many(pack, pack.read_bytes(), opened, 60)
    with h5py.File(keras, "w") as handle:
        handle.attrs["layer_names"] = [b"model_1"]
        handle["model_1/x_out_1/filter_weights:0"] = np.zeros((24, 24), np.float32)
    many(keras, keras.read_bytes(), fdn.load, 100)
    tally("input", "other files", 220)


def opened(path: Path) -> object:
    try:
        return patches.PackedImages(path)
    except SafetensorError as error:
        raise AssertionError("not told in words") from error


def test_hdf5(tmp_path: Path, tally: Tally) -> None:
    path = tmp_path / "sample.h5"
    mri_data.write_sample(path, small_items.sample())
    many(path, path.read_bytes(), mri_data.read_sample, 200)
    raw = tmp_path / "raw.h5"
    with h5py.File(raw, "w") as handle:
        handle["kspace"] = np.ones((2, 2, 8, 8), np.complex64)
        handle.attrs["acquisition"] = "CORPD_FBK"
    many(raw, raw.read_bytes(), lambda p: (mri_prepare.acquisition(p), mri_prepare.middle_slice(p)), 200)
    tally("input", "HDF5 files", 400)
    assert items.Item
