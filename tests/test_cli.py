"""The command `deal`: what it prints, writes and returns."""

import json
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.ndimage
import torch
from PIL import Image
from skimage import data as photographs
from skimage.color import rgb2gray
from small_items import sample

import deal
from bench import mri_data, phantom
from bench.adapter import Deal
from bench.config import Solver
from bench.mri import measure
from deal import defaults
from deal.cli import files, kspace, main, mri
from deal.operators import Identity
from deal.weights import RELEASED

GOLDEN = str(Path(__file__).parent / "golden" / "random_gray.pth")


def written(path: Path, pixels: np.ndarray) -> Path:
    Image.fromarray(np.rint(np.clip(pixels, 0, 1) * 255).astype(np.uint8)).save(path)
    return path


def size(path: Path) -> tuple[int, int]:
    """Width and height of an image file."""
    with Image.open(path) as image:
        return image.size


@pytest.fixture
def picture(tmp_path):
    """A noisy gray image, 40×44."""
    rng = np.random.default_rng(0)
    clean = photographs.camera()[200:240, 200:244] / 255
    return written(tmp_path / "y.png", clean + rng.normal(0, 25 / 255, clean.shape))


def test_denoise_writes_an_image(picture, tmp_path, capsys):
    out = tmp_path / "x.png"
    assert main(["denoise", str(picture), "-o", str(out), "--sigma", "25", "--weights", GOLDEN]) == 0
    assert size(out) == (44, 40)
    said = capsys.readouterr()
    assert said.out.startswith(f"{out}: converged, residual ") and said.err == ""
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x.png", "y.png"]


def test_denoise_is_the_solver(picture, tmp_path):
    """The command's floats are those of `DEAL.denoise` on the file's pixels."""
    assert main(["denoise", str(picture), "-o", str(tmp_path / "x.npy"), "--sigma", "25"]) == 0
    y = torch.from_numpy(files.read(picture).pixels)[None]
    expected = deal.load("gray").denoise(y, 25 / 255, clip=False)
    assert np.allclose(np.load(tmp_path / "x.npy"), expected[0, 0].numpy(), atol=1e-6)


def test_colour_of_16_bits_stays_so(tmp_path, capsys):
    clean = photographs.astronaut()[100:124, 200:228].astype(np.float32).transpose(2, 0, 1) / 255
    files.write(tmp_path / "y.png", clean, files.Picture(clean, 16))
    arguments = ["denoise", str(tmp_path / "y.png"), "-o", str(tmp_path / "x.png"), "--sigma", "15", "--simulate"]
    assert main([*arguments, "--save-input", str(tmp_path / "n.png"), "--tol", "1e-3"]) == 0
    out = files.read(tmp_path / "x.png")
    assert out.bits == 16 and out.pixels.shape == clean.shape and len(np.unique(out.pixels)) > 256
    before, after = capsys.readouterr().out.split("PSNR ")[1].removesuffix(" dB\n").split(" → ")
    psnr = -10 * np.log10(np.mean((np.clip(out.pixels, 0, 1) - clean) ** 2))
    assert float(after) == pytest.approx(psnr, abs=0.01) and float(after) > float(before) + 2
    assert np.std(files.read(tmp_path / "n.png").pixels - clean) == pytest.approx(15 / 255, rel=0.1)


@pytest.mark.parametrize("boundary", ["circular", "unknown"])
def test_deblur(picture, tmp_path, capsys, boundary):
    arguments = ["deblur", str(picture), "-o", str(tmp_path / "x.png"), "--kernel", "gaussian:1", "--noise", "25"]
    status = main([*arguments, "--boundary", boundary, "--weights", GOLDEN, "--max-iterations", "3", "--tol", "1e-6"])
    said = capsys.readouterr()
    assert status == 3 and "NOT converged" in said.out and "3 iterations" in said.out
    assert "note: --noise 25: beyond the paper's levels; λ = 2.5" in said.err
    assert "warning: stopped at a relative fixed-point residual of" in said.err
    assert size(tmp_path / "x.png") == (44, 40)


def test_superres(tmp_path, capsys):
    clean = photographs.astronaut()[100:125, 200:228] / 255
    written(tmp_path / "c.png", clean)
    arguments = ["superres", str(tmp_path / "c.png"), "-o", str(tmp_path / "x.png"), "--factor", "2", "--noise", "2.55"]
    arguments += ["--kernel", "gaussian:0.7", "--tol", "1e-2"]
    assert main([*arguments, "--simulate", "--save-input", str(tmp_path / "y.png")]) == 0
    assert size(tmp_path / "x.png") == (28, 24) and size(tmp_path / "y.png") == (14, 12)
    psnr = float(capsys.readouterr().out.split("PSNR ")[1].removesuffix(" dB\n"))
    with Image.open(tmp_path / "y.png") as small:
        enlarged = np.asarray(small.resize((28, 24), Image.Resampling.BICUBIC)) / 255
    bicubic = float(-10 * np.log10(np.mean((enlarged - clean[:24]) ** 2)))
    assert psnr > bicubic + 1
    # the same without the truth: the input is the small image
    arguments[1] = str(tmp_path / "y.png")
    assert main([*arguments, "-q"]) == 0
    assert size(tmp_path / "x.png") == (28, 24)


@pytest.mark.parametrize(("command", "factor"), [("deblur", 1), ("superres", 2)])
def test_by_default_a_picture_is_part_of_a_larger_scene(tmp_path, command, factor):
    scene = rgb2gray(photographs.astronaut())[100:180, 200:280]
    blurred = scipy.ndimage.gaussian_filter(scene, 1.0)[::factor, ::factor]
    noise = np.random.default_rng(0).normal(0, 2.55 / 255, blurred.shape)
    edge = 16 // factor
    np.save(tmp_path / "y.npy", (blurred + noise)[edge:-edge, edge:-edge].astype(np.float32))
    arguments = [command, str(tmp_path / "y.npy"), "--kernel", "gaussian:1", "--noise", "2.55", "--tol", "1e-2", "-q"]
    arguments += ["--factor", "2"] if factor == 2 else []
    psnrs = []
    for name, more in (("x.npy", []), ("c.npy", ["--boundary", "circular"])):
        assert main([*arguments, "-o", str(tmp_path / name), *more]) == 0
        found = np.load(tmp_path / name).clip(0, 1)
        psnrs.append(-10 * np.log10(np.mean((found - scene[16:-16, 16:-16]) ** 2)))
    assert psnrs[0] > psnrs[1] + 2


def test_x0_is_where_the_solver_starts(picture, tmp_path, capsys):
    out, arguments = (
        tmp_path / "x.npy",
        ["denoise", str(picture), "--sigma", "25", "--weights", GOLDEN, "--tol", "1e-3"],
    )
    main([*arguments, "-o", str(out)])
    first = capsys.readouterr().out
    main([*arguments, "-o", str(tmp_path / "again.npy"), "--x0", str(out)])
    assert "converged, residual" in first and " 0 iterations" not in first
    assert " 0 iterations" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("task", "values"),
    [
        ("deblur_gray", {2.55: 0.5, 7.65: 2.5, 30: 2.5}),
        ("superres_color", {1: 0.28, 2.55: 0.28, 7.65: 2.5, 12.75: 5.5}),
    ],
)
def test_command_and_benchmark_use_the_papers_lambda(task, values):
    method = Deal(Solver())
    for noise, value in values.items():
        known = method.hyperparameters_for(task, noise / 255)
        assert known["lmbda"].default == pytest.approx(value)
        assert known["sigma_255"].default == 15
        assert defaults.paper_lambda(task.partition("_")[0], noise)[0] == pytest.approx(value)
    assert 0.5 < defaults.paper_lambda("deblur", 4)[0] < 2.5
    assert [defaults.paper_lambda("deblur", noise)[1] for noise in (1, 2.55, 7.65, 30)] == [False, True, True, False]
    assert method.hyperparameters_for("mri", 0.002)["lmbda"].default == 0.05


@pytest.fixture
def prepared(tmp_path):
    """A sample as `python -m bench prepare_mri` writes it, without measurements."""
    mri_data.write_sample(tmp_path / "sample.h5", sample())
    return tmp_path / "sample.h5"


@pytest.mark.parametrize("sampling", ["single4", "multi8"])
def test_mri_of_a_prepared_sample(prepared, tmp_path, capsys, sampling):
    """The measurement is the benchmark's to the digit, and the estimate is better than zero-filling."""
    data = kspace.read(prepared, None, sampling, None, None)
    assert np.array_equal(mri.simulate(data, 3), measure(sample(), sampling, 0.002, 3)[0].numpy())
    out = tmp_path / "x.h5"
    arguments = ["mri", str(prepared), "-o", str(out), "--sampling", sampling, "--simulate", "--tol", "1e-4"]
    assert main(arguments) == 0
    said = capsys.readouterr().out.split("PSNR ")[1]
    assert float(said.split(" (zero-filled) → ")[1].removesuffix(" dB\n")) > float(said.split()[0]) + 1
    with h5py.File(out) as handle:
        assert handle["reconstruction"].shape == (48, 48) and handle["reconstruction"].dtype == np.float32


def centred_fft(x):
    axes = (-2, -1)
    return np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(x, axes), norm="ortho"), axes)


SCALE = 3e-4


@pytest.fixture
def scene():
    """An image within a dark border, (56, 48), four coils whose maps carry its phase, and the columns measured."""
    rng = np.random.RandomState(0)
    x = np.pad(phantom.image(44, 36, "pd", rng), 6).astype(np.float32)
    phase = np.exp(1j * np.linspace(0, 1, 56))[:, None]
    maps = (phantom.sensitivities(*x.shape, 4, rng) * phase).astype(np.complex64)
    columns = np.arange(48)
    return x, maps, ((columns % 2 == 0) | (abs(columns - 24) < 9)).astype(np.uint8)


@pytest.fixture
def raw(tmp_path, scene):
    """A file like fastMRI's of two slices, the second with the scene."""
    x, maps, mask = scene
    full = SCALE * centred_fft(maps * x)
    with h5py.File(tmp_path / "file1.h5", "w") as handle:
        handle["kspace"] = (np.stack([0 * full + 1e-9, full]) * mask).astype(np.complex64)
        handle["mask"] = mask
        handle["reconstruction_rss"] = np.zeros((2, 40, 40), np.float32)
    np.save(tmp_path / "maps.npy", maps)
    return tmp_path / "file1.h5"


def test_raw_kspace_becomes_the_operators_measurement(raw, scene, tmp_path):
    """With the true maps y is A x to float32's digits, up to the scale, and the image is not shifted."""
    data = kspace.read(raw, 1, None, None, tmp_path / "maps.npy")
    operator = deal.MRI(torch.from_numpy(data.mask), torch.from_numpy(data.smaps))
    expected = operator.A(torch.from_numpy(scene[0])[None, None])[0].numpy() * SCALE / data.scale
    assert np.abs(data.y - expected).max() < 1e-5 * np.abs(expected).max()
    assert data.side == 40


def test_mri_of_raw_kspace(raw, scene, tmp_path, capsys):
    """In the units of the file, by maps from the centre; the estimate is nearer to x than the zero-filled image."""
    out, (truth, _, _) = tmp_path / "x.npy", scene
    assert main(["mri", str(raw), "-o", str(out), "--tol", "1e-2"]) == 0
    assert "sensitivities estimated from the centre" in capsys.readouterr().err
    data = kspace.read(raw, None, None, None, None)
    operator = deal.MRI(torch.from_numpy(data.mask), torch.from_numpy(data.smaps))
    zero_filled = operator.A_adjoint(torch.from_numpy(data.y)[None])[0, 0].numpy() * data.scale / SCALE
    error, before = (np.linalg.norm(x - truth) / np.linalg.norm(truth) for x in (np.load(out) / SCALE, zero_filled))
    assert error < 0.1 and error < 0.7 * before
    assert main(["mri", str(raw), "-o", str(tmp_path / "x.jpg"), "--tol", "1e-1", "--crop", "16"]) in (0, 3)
    assert size(tmp_path / "x.jpg") == (16, 16) and "x.jpg: jpg is lossy" in capsys.readouterr().err


def test_one_coil_without_maps_takes_the_phase_from_the_centre(tmp_path, scene):
    x, _, mask = scene
    phase = np.exp(1j * np.linspace(0, 2, 48))[None, :]
    with h5py.File(tmp_path / "one.h5", "w") as handle:
        handle["kspace"] = (centred_fft(x * phase) * mask).astype(np.complex64)
    data = kspace.read(tmp_path / "one.h5", None, None, None, None)
    assert np.allclose(np.abs(data.smaps), 1, atol=1e-5)
    assert np.array_equal(np.fft.fftshift(data.mask)[0], mask) and "no mask" in data.notes[0]
    assert np.abs(np.angle(data.smaps[0] * phase.conj()))[x > 0.2].max() < 0.1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["denoise", "missing.png", "-o", "x.png", "--sigma", "25"], "missing.png: no such file or directory"),
        (["denoise", "y.png", "-o", "x.png", "--sigma", "-3"], "(0, 50]"),
        (["denoise", "y.png", "-o", "x.png", "--sigma", "nan"], "(0, 50]"),
        (["denoise", "y.png", "-o", "x.png", "--sigma", "9", "--tol", "0"], "--tol 0"),
        (["denoise", "y.png", "-o", "x.png", "--sigma", "9", "--lambda", "-1"], "--lambda -1"),
        (["denoise", "y.png", "-o", "x.png", "--sigma", "9", "--device", "tpu"], "--device tpu: no such device"),
        (["denoise", "y.png", "-o", "x.png", "--sigma", "9", "--device", "cuda:7"], "CUDA devices"),
        (["denoise", "y.png", "-o", "x.png", "--sigma", "9", "--weights", "missing.pth"], "missing.pth: no such file"),
        (["denoise", "y.png", "-o", "x.png", "--sigma", "9", "--weights", "color"], "leave --weights out"),
        (["denoise", "y.png", "-o", "x.png", "--sigma", "9", "--x0", "wide.png"], "the solution has 1×40×44"),
        (["denoise", "y.png", "-o", "x.png", "--sigma", "9", "--save-input", "n.png"], "--save-input: nothing"),
        (["denoise", "y.png", "-o", "x.unknown", "--sigma", "9"], "unknown image format"),
        (["denoise", "y.png", "-o", "none/x.png", "--sigma", "9"], "there is no folder none"),
        (["denoise", "clear.png", "-o", "x.jpg", "--sigma", "9"], "the input is transparent"),
        (["denoise", GOLDEN, "-o", "x.png", "--sigma", "9"], "not an image"),
        (["denoise", "y.png", "-o", "x.png", "--sigma", "9", "--simulate", "--seed", "-1"], "--seed -1"),
        (["denoise", "y.png", "-o", "y.png", "--sigma", "9"], "y.png: is both the input and --output"),
        (
            ["denoise", "y.png", "-o", "x.png", "--sigma", "9", "--simulate", "--save-input", "../{folder}/x.png"],
            "/x.png: is both --output and --save-input",
        ),
        (["deblur", "y.png", "-o", "x.png", "--kernel", "k.npy", "--noise", "0"], "--noise 0"),
        (["deblur", "y.png", "-o", "x.png", "--kernel", "k.npy", "--noise", "5"], "k.npy: no such file"),
        (["superres", "y.png", "-o", "x.png", "--factor", "0", "--kernel", "gaussian:1", "--noise", "5"], "--factor 0"),
        (["superres", "clear.png", "-o", "x.png", "--factor", "2", "--kernel", "gaussian:1", "--noise", "5"], "transp"),
        (["mri", "y.png", "-o", "x.h5"], "y.png: not an HDF5 file"),
        (["mri", "missing.h5", "-o", "x.h5"], "missing.h5: no such file"),
        (["mri", "sample.h5", "-o", "x.h5"], "choose one by --sampling"),
        (["mri", "sample.h5", "-o", "x.h5", "--sampling", "multi8"], "no measurement; add --simulate"),
        (["mri", "sample.h5", "-o", "x.h5", "--sampling", "multi9", "--simulate"], "has no sampling multi9"),
        (["mri", "file1.h5", "-o", "x.h5", "--slice", "2"], "has 2 slices"),
        (["mri", "file1.h5", "-o", "x.h5", "--mask", "k2.npy"], "k2.npy: found (4,) with values from 1 to 1"),
        (["mri", "file1.h5", "-o", "x.h5", "--simulate"], "no true image"),
        (["mri", "other.h5", "-o", "x.h5"], "the key kspace is missing; there are image"),
        (["mri", "group.h5", "-o", "x.h5"], "group.h5: kspace is a group"),
        (["mri", "file1.h5", "-o", "x.h5", "--slice", "1", "--maps", "s4.npy"], "s4.npy: sensitivities of 1 slices"),
        (["mri", "file1.h5", "-o", "file1.h5"], "file1.h5: is both the input and --output"),
        (["convert", str(RELEASED / "gray.safetensors"), "w.safetensors"], "gray.safetensors: not .pth"),
        (["info", "y.png"], "y.png: not a safetensors file"),
        (["train", "."], "CUDA" if not torch.cuda.is_available() else "train.json: no training plan"),
        (["train", ".", "--device", "foo"], "--device foo: no such device"),
        (["train", ".", "--device", "cpu"], "train.json: no training plan"),
    ],
)  # fmt: skip
def test_errors_are_one_line(picture, prepared, raw, tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    written(Path("wide.png"), np.zeros((40, 60)))
    Image.fromarray(np.full((8, 8, 4), 99, np.uint8)).save("clear.png")
    np.save("k2.npy", np.ones(4))
    np.save("s4.npy", np.ones((1, 2, 8, 8), np.complex64))
    with h5py.File("other.h5", "w") as handle:
        handle["image"] = np.zeros(3)
    with h5py.File("group.h5", "w") as handle:
        handle.create_group("kspace")
    before = sorted(Path().iterdir())
    assert main([argument.replace("{folder}", tmp_path.name) for argument in arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and error.startswith("error: ") and error.count("\n") == 1
    assert sorted(Path().iterdir()) == before


GROUP = object()
KSPACE = "expected complex numbers (slices, coils, H, W)"


@pytest.mark.parametrize(
    ("file", "key", "value", "message"),
    [
        ("file1.h5", "kspace", np.ones((0, 4, 56, 48), "c8"), f"(0, 4, 56, 48), {KSPACE} and not empty"),
        ("file1.h5", "kspace", np.ones((2, 0, 56, 48), "c8"), f"(2, 0, 56, 48), {KSPACE} and not empty"),
        ("file1.h5", "kspace", np.ones((2, 4, 56, 48)), f"found float64 (2, 4, 56, 48), {KSPACE}"),
        ("file1.h5", "kspace", np.ones(48, "c8"), f"found complex64 (48,), {KSPACE}"),
        ("file1.h5", "kspace", h5py.Empty("c8"), f"found complex64 (), {KSPACE}"),
        ("file1.h5", "kspace", np.full((4, 56, 48), np.nan + 0j), "contains NaN, infinite or too large values"),
        ("file1.h5", "kspace", np.full((4, 56, 48), 1e300 + 0j), "contains NaN, infinite or too large values"),
        ("file1.h5", "kspace", np.zeros((4, 56, 48), "c8"), "is all zero"),
        ("file1.h5", "reconstruction_rss", GROUP, "is a group, expected an array"),
        ("file1.h5", "mask", GROUP, "is a group, expected an array"),
        ("file1.h5", "mask", np.ones(48, "c8"), "found complex64 (48,), expected a mask (56, 48) or (48,)"),
        ("file1.h5", "mask", np.full(48, np.nan), "contains NaN, infinite or too large values, expected a mask"),
        ("file1.h5", "mask", b"hello", "found object (), expected a mask"),
        ("file1.h5", "smaps", GROUP, "is a group, expected an array"),
        ("file1.h5", "smaps", b"hello", "found object (), expected complex sensitivities (4, 56, 48)"),
        ("file1.h5", "smaps", h5py.Empty("c8"), "found complex64 (), expected complex sensitivities (4, 56, 48)"),
        ("file1.h5", "smaps", np.ones((3, 56, 48)), "found numbers (3, 56, 48), expected complex sensitivities (4, 56"),
        ("file1.h5", "smaps", np.zeros((4, 56, 48)), "found zeros (4, 56, 48), expected complex sensitivities (4, 56"),
        ("sample.h5", "x", GROUP, "is a group, expected an array"),
        ("sample.h5", "x", np.full((48, 48), np.nan), "contains NaN, infinite or too large values"),
        ("sample.h5", "x", np.ones((48, 48), "c8"), "found complex64 (48, 48), expected real numbers (H, W)"),
        ("sample.h5", "smaps", GROUP, "is a group, expected an array"),
        ("sample.h5", "smaps", np.ones((1, 3, 48, 48), "c8"), "(1, 3, 48, 48), expected complex sensitivities"),
        ("sample.h5", "multi8/mask", GROUP, "is a group, expected an array"),
        ("sample.h5", "multi8/mask", np.ones((2, 48, 48)), "(2, 48, 48) with values from 1 to 1, expected a mask"),
        ("sample.h5", "multi8/mask", -np.ones((48, 48)), "(48, 48) with values from -1 to -1, expected a mask"),
        ("sample.h5", "multi8/y", GROUP, "is a group, expected an array"),
        ("sample.h5", "multi8/y", np.ones((2, 48, 48), "c8"), "found (2, 48, 48), expected (3, 48, 48)"),
    ],
)  # fmt: skip
def test_odd_kspace_is_one_line(prepared, raw, tmp_path, monkeypatch, capsys, file, key, value, message):
    """The file and the key are named, and what was expected of it."""
    monkeypatch.chdir(tmp_path)
    with h5py.File(file, "r+") as handle:
        if key in handle:
            del handle[key]
        if value is GROUP:
            handle.create_group(key)
        else:
            handle[key] = value
    more = ["--sampling", "multi8"] if file == "sample.h5" else []
    assert main(["mri", file, "-o", "x.h5", "--max-iterations", "1", *more]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {file}: {key}") and message in error and error.count("\n") == 1
    assert not Path("x.h5").exists()


@pytest.mark.parametrize("option", ["--mask", "--maps"])
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing.npy", "no such file or directory"),
        ("folder", "is a directory"),
        ("a.npz", "not a numpy array of numbers, as numpy.save writes it"),
        ("text.npy", "not a numpy array of numbers, as numpy.save writes it"),
        ("empty.npy", "not a numpy array of numbers, as numpy.save writes it"),
        ("objects.npy", "not a numpy array of numbers, as numpy.save writes it"),
        ("strings.npy", "found <U1 (48,), expected"),
        ("single.npy", "found float64 (), expected"),
    ],
)
def test_odd_masks_and_maps_are_one_line(raw, tmp_path, monkeypatch, capsys, option, name, message):
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    np.savez("a.npz", np.ones(48))
    Path("text.npy").write_text("1 1 0 1")
    Path("empty.npy").touch()
    np.save("objects.npy", np.array([None] * 48), allow_pickle=True)
    np.save("strings.npy", np.array(["1"] * 48))
    np.save("single.npy", np.float64(1))
    assert main(["mri", "file1.h5", "-o", "x.h5", "--max-iterations", "1", option, name]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {name}: {message}") and error.count("\n") == 1
    assert not Path("x.h5").exists()


def test_maps_of_another_image_are_refused(raw, scene, tmp_path, capsys):
    """They are zero where the image is not: nothing but rounding errors would be left of it."""
    left = np.arange(48) < 24
    np.save(tmp_path / "left.npy", scene[1] * left)
    with h5py.File(raw, "r+") as handle:
        handle["kspace"][1] = SCALE * centred_fft(scene[1] * ~left)
        handle["mask"][:] = 1
    arguments = ["mri", str(raw), "-o", str(tmp_path / "x.h5"), "--maps", str(tmp_path / "left.npy")]
    assert main([*arguments, "--max-iterations", "1"]) == 2
    assert "are the sensitivities those of this kspace?" in capsys.readouterr().err


def test_an_image_that_memory_cannot_hold_is_refused(picture, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("deal.cli.machine.available_memory", lambda: 10**6)
    assert main(["denoise", str(picture), "-o", str(tmp_path / "x.png"), "--sigma", "25"]) == 2
    assert "takes about 0.0 GB of memory" in capsys.readouterr().err and not (tmp_path / "x.png").exists()


def test_an_interruption_writes_nothing(picture, tmp_path, monkeypatch, capsys):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(Identity, "A_adjoint", interrupt)
    assert main(["denoise", str(picture), "-o", str(tmp_path / "x.png"), "--sigma", "25"]) == 130
    assert capsys.readouterr().err == "error: interrupted\n" and not (tmp_path / "x.png").exists()


@pytest.mark.parametrize(
    ("where", "error", "status"),
    [
        ("deal.cli.solving.solve", ValueError("no"), 2),
        ("deal.cli.solving.solve", KeyboardInterrupt(), 130),
        ("numpy.save", OSError(28, "No space left on device", "x.npy"), 2),  # when the input has been written
    ],
)
def test_all_outputs_are_written_or_none(picture, tmp_path, monkeypatch, capsys, where, error, status):
    def fail(*_, **__):
        raise error

    arguments = ["denoise", str(picture), "-o", str(tmp_path / "x.npy"), "--sigma", "25", "--weights", GOLDEN]
    arguments += ["--simulate", "--save-input", str(tmp_path / "n.png"), "--tol", "1e-2"]
    with monkeypatch.context() as patched:
        patched.setattr(where, fail)
        assert main(arguments) == status
    assert capsys.readouterr().err.count("\n") == 1
    assert [p.name for p in tmp_path.iterdir()] == ["y.png"]
    assert main(arguments) == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["n.png", "x.npy", "y.png"]


@pytest.mark.parametrize(
    ("arguments", "advice"),
    [
        (["--max-iterations", "2"], "raise --max-iterations or --tol"),
        (["--algorithm", "reference", "--max-iterations", "2"], "raise --max-iterations or take --algorithm fast"),
        (["--algorithm", "reference"], "take --algorithm fast, the default"),
    ],
)
def test_advice_fits_the_way_of_stopping(picture, tmp_path, capsys, arguments, advice):
    """The last one stops by its own rule, far from the cap of 1000; then the advice leads to the tolerance."""
    common = ["denoise", str(picture), "-o", str(tmp_path / "x.png"), "--sigma", "25", "--weights", GOLDEN]
    common += ["--tol", "3e-5"]
    assert main([*common, *arguments]) == 3
    assert f"above --tol 3e-05; {advice}, or take the image as what it is" in capsys.readouterr().err
    assert main(common) == 0


def test_losses_are_said_of_all_outputs(picture, tmp_path, capsys):
    out, saved = tmp_path / "x.jpg", tmp_path / "n.jpeg"
    arguments = ["denoise", str(picture), "-o", str(out), "--sigma", "25", "--weights", GOLDEN, "--tol", "1e-2"]
    assert main([*arguments, "--simulate", "--save-input", str(saved)]) == 0
    said = capsys.readouterr().err
    assert said == f"note: {saved}: jpeg is lossy, n.png would not be\nnote: {out}: jpg is lossy, x.png would not be\n"


def test_a_defect_is_not_hidden(picture, tmp_path, monkeypatch):
    """What is no fault of the user ends in a traceback."""
    monkeypatch.setattr(Identity, "A_adjoint", lambda self, y: y.no_such_attribute)
    with pytest.raises(AttributeError, match="no_such_attribute"):
        main(["denoise", str(picture), "-o", str(tmp_path / "x.png"), "--sigma", "25"])


def test_progress_on_a_terminal(picture, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("deal.cli.solving.DELAY_S", 0)
    arguments = ["denoise", str(picture), "-o", str(tmp_path / "x.png"), "--sigma", "25", "--tol", "1e-3"]
    main(arguments)
    assert "iterations [" in (shown := capsys.readouterr().err) and "goal 1e-03" in shown
    main([*arguments, "--quiet"])
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("command", ["denoise", "deblur", "superres", "mri", "train", "info", "convert", "doctor"])
def test_help_has_examples(capsys, command):
    with pytest.raises(SystemExit) as end:
        main([command, "--help"])
    said = capsys.readouterr().out
    assert end.value.code == 0 and "example" in said and f"deal {command}" in said.partition("example")[2]


def test_help_names_the_exit_statuses(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "3  the output was written, but the solver stopped" in capsys.readouterr().out


def test_info_and_convert(tmp_path, capsys):
    assert main(["convert", GOLDEN, str(tmp_path / "w.safetensors")]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'w.safetensors'}: gray model\n"
    assert main(["info", str(tmp_path / "w.safetensors")]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["parameters"], said["source"], said["kind"]) == (468570, "random_gray.pth", "gray")
