"""Image files and kernels of the command `deal`."""

import io
import struct
import zlib

import h5py
import numpy as np
import pytest
import scipy.io
import tifffile
from PIL import Image, ImageCms

from deal.cli import files, kernels

ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
PNG = b"\x89PNG\r\n\x1a\n"


def values(channels: int, bits: int) -> np.ndarray:
    """(12, 9, C) integers of all sizes, the largest included."""
    found = np.random.default_rng(bits).integers(0, 2**bits, (12, 9, channels)).astype(f"uint{bits}")
    found[0, 0] = 2**bits - 1
    return found


def png16(array: np.ndarray, kind: int) -> bytes:
    """A 16-bit PNG of colour type `kind`, rows unfiltered."""
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in array)

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    head = struct.pack(">IIBBBBB", array.shape[1], array.shape[0], 16, kind, 0, 0, 0)
    return PNG + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def tiff(**tags: int) -> bytes:
    """A TIFF of 8×2 pixels in 24 bytes with these tags besides."""
    named = {"bits": 258, "white": 262, "signed": 339}
    numbers = {256: 8, 257: 2, 258: 12, 259: 1, 262: 1, 273: 8, 277: 1, 278: 2, 279: 24}
    numbers |= {named[name]: value for name, value in tags.items()}
    rows = [struct.pack("<HHII", tag, 3, 1, value) for tag, value in sorted(numbers.items())]
    return b"II*\0" + struct.pack("<I", 32) + bytes(24) + struct.pack("<H", len(rows)) + b"".join(rows) + bytes(4)


TWO_PAGES = tiff(bits=8)[:-4] + struct.pack("<I", len(tiff(bits=8))) + bytes(6)  # the second without its size


def saved(path, array: np.ndarray) -> None:
    """Write (H, W, C) integers by other means than those under test."""
    if path.suffix == ".tif":
        tifffile.imwrite(path, array.squeeze(), photometric="rgb" if array.shape[2] == 3 else "minisblack")
    elif array.dtype == np.uint16:
        path.write_bytes(png16(array, {1: 0, 3: 2, 4: 6}[array.shape[2]]))
    else:
        Image.fromarray(array.squeeze()).save(path)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("channels", [1, 3])
def test_integers_are_read_to_the_last_bit(tmp_path, suffix, bits, channels):
    array = values(channels, bits)
    saved(tmp_path / f"x{suffix}", array)
    picture = files.read(tmp_path / f"x{suffix}")
    assert picture.bits == bits and picture.alpha is None and picture.notes == []
    assert picture.pixels.dtype == np.float32 and picture.pixels.shape == (channels, 12, 9)
    assert np.array_equal(np.rint(picture.pixels * (2**bits - 1)).transpose(1, 2, 0), array)


@pytest.mark.parametrize(("suffix", "bits"), [(".png", 8), (".png", 16), (".tif", 8)])
@pytest.mark.parametrize("channels", [1, 3])
def test_what_is_written_is_read_again(tmp_path, suffix, bits, channels):
    array, path = values(channels, bits), tmp_path / f"x{suffix}"
    pixels = array.transpose(2, 0, 1).astype(np.float32) / np.float32(2**bits - 1)
    assert files.write(path, pixels, files.Picture(pixels, bits)) == []
    again = files.read(path)
    assert again.bits == bits and np.array_equal(again.pixels, pixels)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_a_compressed_tiff_of_16_bit_colours(tmp_path):
    array = values(3, 16)
    tifffile.imwrite(tmp_path / "x.tif", array, photometric="rgb", byteorder=">")
    assert np.array_equal(np.rint(files.read(tmp_path / "x.tif").pixels * 65535).transpose(1, 2, 0), array)
    with Image.open(tmp_path / "x.tif") as file:  # Pillow alone keeps the high bytes
        assert np.array_equal(np.asarray(file), array >> 8)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp"])
def test_alpha_and_profile_are_kept(tmp_path, suffix):
    """And every pixel, those that cannot be seen included."""
    array = values(4, 8)
    array[3:6, :, 3] = 0
    Image.fromarray(array).save(tmp_path / "x.png", icc_profile=ICC)
    picture = files.read(tmp_path / "x.png")
    assert np.array_equal(picture.alpha, array[..., 3]) and picture.icc == ICC
    assert picture.notes == [f"{tmp_path / 'x.png'}: the alpha channel is kept as it is"]
    for bits in (8, 16):
        picture.bits, picture.alpha = bits, array[..., 3].astype(np.uint16) * (257 if bits == 16 else 1)
        files.write(tmp_path / f"y{suffix}", picture.pixels, picture)
        with Image.open(tmp_path / f"y{suffix}") as file:
            assert file.mode == "RGBA" and file.info["icc_profile"] == ICC
            assert np.array_equal(np.asarray(file), array)


def test_opaque_alpha_is_dropped(tmp_path):
    array = values(4, 8)
    array[..., 3] = 255
    Image.fromarray(array).save(tmp_path / "x.png")
    picture = files.read(tmp_path / "x.png")
    assert picture.alpha is None and picture.pixels.shape[0] == 3


def test_palette_black_and_white_and_orientation(tmp_path):
    colours = Image.fromarray(values(3, 8)).quantize(16)
    colours.save(tmp_path / "p.png")
    assert np.array_equal(files.read(tmp_path / "p.png").pixels[0] * 255, np.asarray(colours.convert("RGB"))[..., 0])
    Image.fromarray(values(1, 8).squeeze() > 99).save(tmp_path / "b.png")
    assert set(np.unique(files.read(tmp_path / "b.png").pixels)) == {0, 1}
    turned = Image.Exif()
    turned[0x0112] = 6  # to be shown turned by a quarter
    Image.fromarray(np.full((8, 24, 3), 90, np.uint8)).save(tmp_path / "o.jpg", exif=turned)
    assert files.read(tmp_path / "o.jpg").pixels.shape == (3, 24, 8)


def test_arrays(tmp_path):
    noisy = np.random.default_rng(0).normal(0.5, 0.4, (7, 6)).astype(np.float32)
    np.save(tmp_path / "x.npy", noisy)
    picture = files.read(tmp_path / "x.npy")
    assert picture.bits == 32 and np.array_equal(picture.pixels[0], noisy)  # outside [0, 1] too
    files.write(tmp_path / "y.npy", picture.pixels, picture)
    assert np.array_equal(np.load(tmp_path / "y.npy"), noisy)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: Image.new("CMYK", (4, 4)).save(p.with_suffix(".jpg")), "has the mode CMYK"),
        (lambda p: p.with_suffix(".png").write_bytes(b"hello"), "not an image"),
        (lambda p: p.with_suffix(".png").write_bytes(png16(values(3, 16), 2)[:200]), "a damaged image"),
        (
            lambda p: p.with_suffix(".png").write_bytes(PNG + b"\0\0\0\3IHDR" + bytes(7)),
            "a damaged image (Truncated IHDR",
        ),
        (lambda p: p.with_suffix(".tif").write_bytes(TWO_PAGES), "a damaged image (Missing dimensions)"),
        (lambda p: p.with_suffix(".tif").write_bytes(tiff(bits=12)), "TIFF that cannot be read (12 bits"),
        (lambda p: p.with_suffix(".tif").write_bytes(tiff(bits=8, signed=2)), "TIFF that cannot be read (12 bits"),
        (lambda p: p.with_suffix(".tif").write_bytes(tiff(bits=16, white=0)), "TIFF that cannot be read (12 bits"),
        (lambda p: p.with_suffix(".npy").write_bytes(b"PK\3\4 an archive"), "not a numpy array of numbers"),
        (lambda p: np.save(p.with_suffix(".npy"), np.zeros((0, 4))), "and not empty"),
        (lambda p: np.save(p.with_suffix(".npy"), np.full((4, 4), 1e300)), "too large values"),
        (lambda p: np.save(p.with_suffix(".npy"), np.ones((4, 4), complex)), "has the dtype complex128"),
        (lambda p: np.save(p.with_suffix(".npy"), np.zeros((4, 4, 2))), "expected 1 or 3 channels last"),
        (lambda p: np.save(p.with_suffix(".npy"), np.full((4, 4), 255.0)), "expected images in [0, 1]"),
        (lambda p: np.save(p.with_suffix(".npy"), np.full((4, 4), np.nan)), "NaN"),
        (
            lambda p: np.save(p.with_suffix(".npy"), np.array([print]), allow_pickle=True),
            "not a numpy array of numbers",
        ),
        (
            lambda p: tifffile.imwrite(p.with_suffix(".tif"), np.zeros((3, 8, 8), np.uint8), photometric="minisblack"),
            "holds 3 images",
        ),
        (
            lambda p: tifffile.imwrite(p.with_suffix(".tif"), np.full((8, 8), 99, np.float32)),
            "expected images in [0, 1]",
        ),
        (
            lambda p: tifffile.imwrite(p.with_suffix(".tif"), np.zeros((8, 8, 3), np.float32), photometric="rgb"),
            "not an image, or of a kind that cannot be read; save it as PNG or .npy",
        ),
    ],
)
def test_what_cannot_be_read_says_so(tmp_path, make, message):
    make(tmp_path / "x")
    (path,) = tmp_path.iterdir()
    with pytest.raises(ValueError, match=r".") as caught:
        files.read(path)
    assert message in str(caught.value) and str(path) in str(caught.value)


@pytest.mark.parametrize("layout", [tiff(bits=8), tiff(bits=16)])
def test_the_layout_of_the_refused_ones_can_be_read(tmp_path, layout):
    (tmp_path / "x.tif").write_bytes(layout)
    assert files.read(tmp_path / "x.tif").pixels.shape == (1, 2, 8)


FLOATS = "clipped to [0, 1]; x.npy would hold floats as they are"


@pytest.mark.parametrize(
    ("name", "channels", "bits", "icc", "lost"),
    [
        ("x.png", 3, 16, ICC, []),
        ("x.tif", 1, 16, ICC, []),
        ("x.tif", 3, 16, None, ["tif is written with 8 bits a channel, x.png would hold all 16"]),
        ("x.jpg", 3, 8, ICC, ["jpg is lossy, x.png would not be"]),
        (
            "x.jpeg",
            1,
            16,
            None,
            ["jpeg is written with 8 bits a channel, x.png would hold all 16", "jpeg is lossy, x.png would not be"],
        ),
        ("x.webp", 3, 8, ICC, []),
        ("x.bmp", 3, 8, None, []),
        ("x.bmp", 3, 8, ICC, ["bmp holds no colour profile, x.png would"]),
        ("x.npy", 3, 8, ICC, ["npy holds no colour profile, x.png would"]),
        ("x.npy", 1, 32, None, []),
        ("x.png", 3, 32, None, [f"png is written with 16 bits a channel, {FLOATS}"]),
        ("x.tif", 1, 32, None, [f"tif is written with 16 bits a channel, {FLOATS}"]),
        ("x.bmp", 1, 32, None, [f"bmp is written with 8 bits a channel, {FLOATS}"]),
    ],
)
def test_what_a_format_lacks_is_said(tmp_path, name, channels, bits, icc, lost):
    """And nothing else is lost: the depth, the profile and the values are those of the picture."""
    top = 2 ** min(bits, 16) - 1
    pixels = values(channels, min(bits, 16)).transpose(2, 0, 1).astype(np.float32) / np.float32(top)
    path = tmp_path / name
    assert files.write(path, pixels, files.Picture(pixels, bits, icc=icc)) == [f"{path}: {line}" for line in lost]
    again = files.read(path)
    said = " ".join(lost)
    assert (again.icc == icc) != ("profile" in said)
    assert again.bits == (8 if "8 bits" in said else min(bits, 16) if path.suffix != ".npy" else 32)
    if "lossy" not in said:
        assert np.abs(again.pixels - pixels).max() <= 0.5001 / (255 if again.bits == 8 else 65535)


def test_a_float_tiff(tmp_path):
    """Is read as it is, beyond [0, 1] too, with its profile; written with 16 bits, which is said."""
    array = np.random.default_rng(0).uniform(-0.3, 1.4, (12, 9)).astype(np.float32)
    Image.fromarray(array).save(tmp_path / "x.tif", icc_profile=ICC)
    picture = files.read(tmp_path / "x.tif")
    assert picture.bits == 32 and picture.icc == ICC and np.array_equal(picture.pixels[0], array)
    assert FLOATS.replace("x.npy", "y.npy") in files.write(tmp_path / "y.tif", picture.pixels, picture)[0]
    assert np.abs(files.read(tmp_path / "y.tif").pixels[0] - array.clip(0, 1)).max() < 1e-5


def test_jpeg_keeps_colours_at_full_resolution(tmp_path):
    pixels = np.zeros((3, 16, 16), np.float32)
    pixels[0, :, ::2], pixels[1, :, 1::2] = 0.8, 0.5
    files.write(tmp_path / "x.jpg", pixels, files.Picture(pixels, 8))
    assert np.abs(files.read(tmp_path / "x.jpg").pixels - pixels).max() < 0.05


def test_colours_that_may_have_been_deeper_are_said(tmp_path):
    """Pillow reads PPM of 16 bits with 8; gray ones, PGM, with 16."""
    array = values(3, 16).astype(">u2")
    (tmp_path / "x.ppm").write_bytes(b"P6 9 12 65535\n" + array.tobytes())
    (tmp_path / "x.pgm").write_bytes(b"P5 9 12 65535\n" + array[..., 0].tobytes())
    deep = files.read(tmp_path / "x.ppm")
    assert deep.bits == 8 and deep.notes[0].startswith(f"{tmp_path / 'x.ppm'}: colours of PPM are read with 8 bits")
    gray = files.read(tmp_path / "x.pgm")
    assert gray.notes == [] and np.array_equal(np.rint(gray.pixels[0] * 65535), array[..., 0])


def test_a_failed_write_leaves_the_old_file(tmp_path):
    (tmp_path / "x.png").write_bytes(b"old")
    with pytest.raises(RuntimeError), files.replacing(tmp_path / "x.png") as partial:
        partial.write_bytes(b"half")
        raise RuntimeError
    assert [p.read_bytes() for p in tmp_path.iterdir()] == [b"old"]


KERNEL = np.array([[0.0, 0.1, 0.0], [0.2, 0.4, 0.1], [0.0, 0.1, 0.1]])


def matlab_73(path, *matrices: np.ndarray) -> None:
    """A cell array of matrices as MATLAB 7.3 keeps it: references, columns as rows."""
    with h5py.File(path, "w") as handle:
        group = handle.create_group("#refs#")
        references = [group.create_dataset(str(n), data=m.T).ref for n, m in enumerate(matrices)]
        handle.create_dataset("kernels", data=np.array(references, dtype=h5py.ref_dtype)[:, None])


def test_kernels_of_all_formats(tmp_path):
    np.save(tmp_path / "k.npy", KERNEL)
    cells = np.empty((1, 2), object)
    cells[0, 0], cells[0, 1] = KERNEL.T, KERNEL
    scipy.io.savemat(tmp_path / "5.mat", {"kernels": cells})
    matlab_73(tmp_path / "73.mat", KERNEL.T, KERNEL)
    Image.fromarray((KERNEL * 600).round().astype(np.uint8)).save(tmp_path / "k.png")
    for name in ("k.npy", "5.mat:1", "73.mat:1", "k.png"):
        kernel, notes = kernels.read(f"{tmp_path}/{name}")
        assert np.allclose(kernel, KERNEL) and notes == [], name
    assert np.allclose(kernels.read(f"{tmp_path}/73.mat:0")[0], KERNEL.T)


def test_a_kernel_is_scaled_and_that_is_said(tmp_path):
    np.save(tmp_path / "k.npy", 2 * KERNEL)
    kernel, notes = kernels.read(f"{tmp_path}/k.npy")
    assert kernel.sum() == pytest.approx(1) and "the kernel's sum was 2; it is scaled to 1" in notes[0]


def test_gaussians():
    kernel, _ = kernels.read("gaussian:1.2")
    rows, columns = np.mgrid[-5:6, -5:6]
    assert kernel.shape == (11, 11) and kernel.sum() == pytest.approx(1)
    assert (kernel * rows**2).sum() == pytest.approx(1.44, rel=1e-2) and (kernel * rows * columns).sum() < 1e-12


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gaussian:x", "0.1 to 50"),
        ("gaussian:1e9", "0.1 to 50"),
        ("missing.npy", "missing.npy"),
        ("missing.mat", "missing.mat"),
        ("two.mat", "holds 2 kernels; say which one"),
        ("two.mat:2", "no number 2"),
        ("zero.npy", "sum is 0"),
        ("nan.npy", "finite matrix"),
        ("line.npy", "finite matrix"),
        ("line.npy:1", "only a .mat file"),
        ("bad.mat", "not a MATLAB file"),
        ("folder.mat", "Is a directory"),
        ("group.mat", "group.mat: holds no matrix"),
        ("complex.npy", "found complex128 (3, 3), expected a blur kernel"),
        ("colour.png", "this is colour"),
    ],
)
def test_what_is_no_kernel_says_so(tmp_path, monkeypatch, text, message):
    monkeypatch.chdir(tmp_path)
    matlab_73(tmp_path / "two.mat", KERNEL, KERNEL)
    np.save("zero.npy", 0 * KERNEL)
    np.save("nan.npy", np.nan * KERNEL)
    np.save("line.npy", np.ones(4))
    np.save("complex.npy", KERNEL + 0j)
    (tmp_path / "folder.mat").mkdir()
    with h5py.File("group.mat", "w") as handle:  # a cell array of a group and of nothing
        cells = [handle.create_group("#refs#").ref, h5py.Reference()]
        handle.create_dataset("kernels", data=np.array(cells, dtype=h5py.ref_dtype)[:, None])
    (tmp_path / "bad.mat").write_bytes(b"MATLAB 5.0 MAT-file" + bytes(120) + b"rubbish")
    Image.fromarray(values(3, 8)).save("colour.png")
    with pytest.raises((ValueError, OSError)) as caught:
        kernels.read(text)
    assert message in str(caught.value) and not isinstance(caught.value, io.UnsupportedOperation)


def test_a_telephones_photograph_is_its_first_image(tmp_path):
    """Behind it an MPO file, which is called .jpg, holds a preview or a depth map."""
    frames = [Image.new("RGB", (8, 6), color) for color in ((200, 10, 10), (0, 0, 0))]
    path = tmp_path / "photo.jpg"
    frames[0].save(path, "MPO", save_all=True, append_images=frames[1:], quality=95)
    found = files.read(path)
    np.testing.assert_allclose(found.pixels[:, 3, 4], np.array([200, 10, 10]) / 255, atol=0.02)
    assert found.bits == 8
    assert found.notes == [f"{path}: the first of its 2 images is taken"]
