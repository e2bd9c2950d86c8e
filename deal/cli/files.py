"""Image files and arrays in and out: 8 and 16 bits, gray and colour, with what has to be kept beside the pixels."""

import contextlib
import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.TiffImagePlugin import BITSPERSAMPLE, PHOTOMETRIC_INTERPRETATION, SAMPLEFORMAT

from deal.cli import arrays

SUFFIXES = (".png", ".tif", ".tiff", ".jpg", ".jpeg", ".webp", ".bmp", ".npy")
DEEP = (".png", ".tif", ".tiff")  # hold 16 bits
WITH_ALPHA = (".png", ".tif", ".tiff", ".webp")
WITHOUT_PROFILE = (".bmp", ".npy")
_JPEG = {"quality": 95, "subsampling": 0}  # colours at full resolution; Pillow halves it
_SAVE = {".jpg": _JPEG, ".jpeg": _JPEG, ".webp": {"lossless": True, "exact": True}}  # exact: where transparent, too
_EIGHT = ("BMP", "GIF", "JPEG", "MPO", "PNG", "TIFF", "WEBP")  # formats whose colours are 8 bits, or are seen to be 16
_GRAY = {"1": 1, "L": 8, "LA": 8, "I;16": 16, "I;16B": 16, "I;16L": 16, "I": 16}


@dataclass
class Picture:
    """An image, and what belongs to its file.

    Attributes:
        pixels: (C, H, W) float32, C = 1 or 3; an integer file's values divided by its maximum.
        bits: 8 or 16 of each channel; 32 for floating-point arrays.
        alpha: (H, W) opacity in the file's integers, None without one or if it is full everywhere.
        icc: colour profile.
        notes: lines to tell the user.
    """

    pixels: NDArray[np.float32]
    bits: int
    alpha: NDArray | None = None
    icc: bytes | None = None
    notes: list[str] = field(default_factory=list)


def read(path: Path) -> Picture:
    """Read an image file (PNG, TIFF, JPEG, …) or a numpy array: (H, W), (H, W, 1) or (H, W, 3).

    Raises:
        ValueError: no image, several images in one file, or a colour space other than gray and RGB.
        OSError: the file cannot be read.
    """
    if path.suffix.lower() == ".npy":
        return _read_array(path)
    try:
        with _headers(path):
            file = Image.open(path)
        with file:
            with _headers(path):
                frames = getattr(file, "n_frames", 1)
            if frames > 1 and file.format != "MPO":
                raise ValueError(f"{path}: holds {frames} images; give one")
            found = _read_image(path, file)
            if frames > 1:  # a telephone's JPEG, with a preview or a depth map behind the photograph
                found.notes.append(f"{path}: the first of its {frames} images is taken")
            return found
    except Image.DecompressionBombError as error:
        raise ValueError(f"{path}: {error}") from None
    except (OSError, SyntaxError, struct.error, zlib.error) as error:
        if isinstance(error, OSError) and error.filename is not None:
            raise
        raise ValueError(f"{path}: a damaged image ({error})") from None


def write(path: Path, pixels: NDArray[np.float32], like: Picture) -> list[str]:
    """Write (C, H, W), clipped to [0, 1] in integer files, atomically; returns notes on what is lost.

    The depth is that of `like` where the format holds it; alpha and colour profile are its own.
    """
    with writing(path, pixels, like) as notes:
        return notes


@contextlib.contextmanager
def writing(path: Path, pixels: NDArray[np.float32], like: Picture) -> Iterator[list[str]]:
    """As `write`, but the file appears under its name when the block ends well."""
    suffix = path.suffix.lower()
    with replacing(path) as partial:
        if suffix == ".npy":
            bits = 32
            flat = pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)
            with partial.open("wb") as handle:
                np.save(handle, np.ascontiguousarray(flat))
        else:
            channels = len(pixels) + (like.alpha is not None)
            bits = 16 if like.bits >= 16 and (suffix == ".png" or (suffix in DEEP and channels == 1)) else 8
            values = _integers(pixels, like, bits)
            if bits == 16 and channels > 1:
                partial.write_bytes(_png16(values, like.icc))
            else:
                image = Image.fromarray(values[..., 0] if channels == 1 else values)
                image.save(partial, icc_profile=like.icc, **_SAVE.get(suffix, {}))
        yield _losses(path, bits, like)


def _integers(pixels: NDArray[np.float32], like: Picture, bits: int) -> NDArray:
    """(H, W, C) with `bits` bits, the alpha channel of `like` included."""
    top = 2**bits - 1
    values = np.rint(np.clip(pixels, 0, 1).transpose(1, 2, 0) * top).astype(np.uint16 if bits == 16 else np.uint8)
    if like.alpha is None:
        return values
    alpha = np.rint(like.alpha.astype(np.float64) * top / (2**like.bits - 1)).astype(values.dtype)
    return np.concatenate([values, alpha[..., None]], axis=2)


def _losses(path: Path, bits: int, like: Picture) -> list[str]:
    """What a file with `bits` bits a channel does not hold of `like`, and what would."""
    suffix = path.suffix.lower()
    kind, png, npy = suffix[1:], path.with_suffix(".png").name, path.with_suffix(".npy").name
    losses = (
        (like.bits == 16 > bits, f"{kind} is written with {bits} bits a channel, {png} would hold all 16"),
        (
            like.bits == 32 > bits,
            f"{kind} is written with {bits} bits a channel, clipped to [0, 1]; {npy} would hold floats as they are",
        ),
        (suffix in (".jpg", ".jpeg"), f"{kind} is lossy, {png} would not be"),
        (like.icc is not None and suffix in WITHOUT_PROFILE, f"{kind} holds no colour profile, {png} would"),
    )
    return [f"{path}: {text}" for lost, text in losses if lost]


def check_distinct(files: dict[str, Path | None]) -> None:
    """ValueError if two of the files, by the names of their options, are one, which would be lost in the writing."""
    names: dict[Path, str] = {}
    for name, path in files.items():
        if path is not None and (other := names.setdefault(path.resolve(), name)) != name:
            raise ValueError(f"{path}: is both {other} and {name}; give two files")


def check_output(path: Path, alpha: bool = False, suffixes: tuple[str, ...] = SUFFIXES) -> None:
    """ValueError if a result cannot be written to `path`: before hours are spent on it."""
    suffix = path.suffix.lower()
    if suffix not in suffixes:
        raise ValueError(f"{path}: unknown image format; {', '.join(suffixes)} can be written")
    if alpha and suffix not in WITH_ALPHA:
        raise ValueError(f"{path}: the input is transparent and {suffix[1:]} cannot be; write {', '.join(WITH_ALPHA)}")
    if path.is_dir():
        raise ValueError(f"{path}: is a folder")
    if not path.parent.is_dir():
        raise ValueError(f"{path}: there is no folder {path.parent}")
    if not os.access(path.parent, os.W_OK):
        raise ValueError(f"{path}: the folder {path.parent} cannot be written to")


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path to write to, beside `path`; it becomes `path` when the block ends well, and vanishes otherwise."""
    partial = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _read_array(path: Path) -> Picture:
    found = arrays.load(path)
    bits = {"uint8": 8, "uint16": 16}.get(found.dtype.name, 32)
    if bits == 32 and found.dtype.kind != "f":
        raise ValueError(f"{path}: has the dtype {found.dtype}; expected uint8, uint16 or floats in [0, 1]")
    wanted = "an array (H, W) or (H, W, 3)"
    values = arrays.numbers(str(path), found, np.float32, arrays.REAL, (2, 3), wanted)
    values = values[..., None] if values.ndim == 2 else values
    if values.shape[2] not in (1, 3):
        raise ValueError(f"{path}: expected 1 or 3 channels last, found {values.shape}")
    if bits == 32:
        return _floats(path, values)
    return Picture(np.ascontiguousarray(values.transpose(2, 0, 1)) / np.float32(2**bits - 1), bits)


@contextlib.contextmanager
def _headers(path: Path) -> Iterator[None]:
    """ValueError for what Pillow stumbles on before it reads pixels."""
    try:
        yield
    except UnidentifiedImageError:
        raise ValueError(f"{path}: not an image, or of a kind that cannot be read; save it as PNG or .npy") from None
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: a damaged image ({error})") from None


def _read_image(path: Path, file: Image.Image) -> Picture:
    _demand_true_values(path, file)
    icc, kind, notes, alpha = file.info.get("icc_profile"), file.format, [], None
    if "transparency" in file.info and any("16" in mode for mode in _raw_modes(file)):
        raise ValueError(f"{path}: 16 bits with a transparent colour cannot be read; save it with an alpha channel")
    if file.mode in ("P", "PA") or "transparency" in file.info:
        has_alpha = file.mode == "PA" or "transparency" in file.info
        gray = file.mode in ("1", "L")
        file = file.convert(("LA" if gray else "RGBA") if has_alpha else "RGB")
    if file.mode in _GRAY:
        bits = max(_GRAY[file.mode], 8)
        turned = ImageOps.exif_transpose(file)
        values = np.asarray(turned.convert("L") if file.mode == "1" else turned)
        if file.mode == "I" and not 0 <= values.min() <= values.max() < 2**16:
            raise ValueError(f"{path}: integers up to {values.max()}; expected at most 16 bits")
    elif file.mode in ("RGB", "RGBA"):
        values, bits = _colour(path, file)
        if bits == 8 and kind not in _EIGHT:
            notes.append(f"{path}: colours of {kind} are read with 8 bits a channel; PNG is read with all 16")
    elif file.mode == "F":
        return _floats(path, np.asarray(ImageOps.exif_transpose(file))[..., None], icc)
    else:
        raise ValueError(f"{path}: has the mode {file.mode}; convert it to gray or RGB first")
    values = values[..., None] if values.ndim == 2 else values
    if values.shape[2] in (2, 4):
        values, alpha = values[..., :-1], values[..., -1]
        if alpha.min() == 2**bits - 1:
            alpha = None
        else:
            notes.append(f"{path}: the alpha channel is kept as it is")
    pixels = np.ascontiguousarray(values.transpose(2, 0, 1)).astype(np.float32) / np.float32(2**bits - 1)
    return Picture(pixels, bits, alpha, icc, notes)


def _demand_true_values(path: Path, file: Image.Image) -> None:
    """ValueError for TIFF that Pillow reads as other numbers: 12 bits as 16, signed as unsigned, white as black."""
    tags = getattr(file, "tag_v2", {})
    bits, kinds = max(tags.get(BITSPERSAMPLE, (1,))), tags.get(SAMPLEFORMAT, (1,))
    if bits == 12 or (bits == 8 and 2 in kinds) or (bits > 8 and tags.get(PHOTOMETRIC_INTERPRETATION) == 0):
        raise ValueError(f"{path}: TIFF that cannot be read (12 bits, signed, or 0 is white); save it as PNG")


def _colour(path: Path, file: Image.Image) -> tuple[NDArray, int]:
    """(H, W, C) and its depth. Pillow keeps the high bytes of 16-bit colours; the low ones take a second pass."""
    raw = _raw_modes(file)
    if not any(mode.startswith(("RGB;16", "RGBA;16")) for mode in raw):
        if any("16" in mode for mode in raw):
            raise ValueError(f"{path}: 16-bit colour in a layout that cannot be read; save it as PNG without alpha")
        return np.asarray(ImageOps.exif_transpose(file)), 8
    tiles = list(file.tile)
    high = np.asarray(ImageOps.exif_transpose(file)).astype(np.uint16)
    with Image.open(path) as again:
        again.tile = [_swap(tile) for tile in tiles]
        low = np.asarray(ImageOps.exif_transpose(again)).astype(np.uint16)
    return high * 256 + low, 16


def _raw_modes(file: Image.Image) -> list[str]:
    tiles = getattr(file, "tile", [])  # a converted image has none
    return [tile.args if isinstance(tile.args, str) else str(tile.args[0]) for tile in tiles]


def _swap(tile):
    """The tile read with the other byte order, so that what was the low byte is kept."""
    mode = tile.args if isinstance(tile.args, str) else tile.args[0]
    kind, order = mode[:-1], mode[-1]
    native = "L" if struct.pack("=H", 1) == b"\1\0" else "B"
    order = native if order == "N" else order
    other = kind + {"L": "B", "B": "L"}[order]
    return tile._replace(args=other if isinstance(tile.args, str) else (other, *tile.args[1:]))


def _floats(path: Path, values: NDArray, icc: bytes | None = None) -> Picture:
    """Of (H, W, C), whatever is near [0, 1]: noise may lie outside."""
    if not np.isfinite(values).all():
        raise ValueError(f"{path}: contains NaN or infinite values")
    if np.abs(values).max() > 16:
        raise ValueError(f"{path}: floats up to {np.abs(values).max():g}; expected images in [0, 1]")
    return Picture(np.ascontiguousarray(values.transpose(2, 0, 1), dtype=np.float32), 32, icc=icc)


def _png16(values: NDArray[np.uint16], icc: bytes | None) -> bytes:
    """A PNG file of (H, W, C) with 16 bits, which Pillow cannot write in colour; filter `up` on every row."""
    height, width, channels = values.shape
    rows = np.frombuffer(values.astype(">u2").tobytes(), np.uint8).reshape(height, -1)
    above = np.vstack([np.zeros_like(rows[:1]), rows[:-1]])
    lines = np.hstack([np.full((height, 1), 2, np.uint8), rows - above])

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    colour = {2: 4, 3: 2, 4: 6}[channels]
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0))
    profile = chunk(b"iCCP", b"icc\0\0" + zlib.compress(icc)) if icc else b""
    return (
        b"\x89PNG\r\n\x1a\n" + head + profile + chunk(b"IDAT", zlib.compress(lines.tobytes(), 6)) + chunk(b"IEND", b"")
    )
