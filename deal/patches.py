"""Training images packed into one file, and random augmented patches drawn from it.

The file is a safetensors file with the pixels of all images behind one another (uint8, each image row-major as
(H, W, C)) and a table of their shapes; it is memory-mapped, so a set larger than memory works too.
"""

import json
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np


def pack(images: Iterable[np.ndarray], path: str | os.PathLike[str], metadata: dict | None = None) -> None:
    """Pack uint8 images of shape (C, H, W), all with the same C, into `path` (written atomically).

    Raises:
        ValueError: no image, another dtype, or differing channel counts.
    """
    about = json.dumps(metadata or {}, sort_keys=True)
    room = len(_header(about, 10**9, 10**18))
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.{os.getpid()}.part")
    shapes = []
    try:
        with partial.open("wb") as handle:
            handle.seek(8 + room)
            for number, image in enumerate(images):  # one at a time: the set may be larger than memory
                if image.dtype != np.uint8 or image.ndim != 3:
                    raise ValueError(
                        f"image {number}: expected uint8 of shape (C, H, W), got {image.dtype} {image.shape}"
                    )
                shapes.append(image.shape)
                handle.write(np.ascontiguousarray(image.transpose(1, 2, 0)))
            if len({shape[0] for shape in shapes}) != 1:
                raise ValueError(
                    f"{path}: cannot pack {len(shapes)} images with channel counts {sorted({s[0] for s in shapes})}"
                )
            table = np.array(shapes, dtype="<i8")
            handle.write(table)
            handle.seek(0)
            handle.write(room.to_bytes(8, "little"))
            handle.write(_header(about, len(shapes), int(table.prod(axis=1).sum())).ljust(room))
            handle.flush()
            os.fsync(handle.fileno())
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def _header(about: str, count: int, pixels: int) -> bytes:
    """Header of a safetensors file: the pixels, and after them the shapes."""
    entries = {
        "__metadata__": {"deal": about},
        "pixels": {"dtype": "U8", "shape": [pixels], "data_offsets": [0, pixels]},
        "shapes": {"dtype": "I64", "shape": [count, 3], "data_offsets": [pixels, pixels + 24 * count]},
    }
    return json.dumps(entries, separators=(",", ":")).encode()


class PackedImages:
    """Random access to a packed file.

    Args:
        path: a file written by `pack`.

    Raises:
        ValueError: the file is not one of `pack`.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = Path(path)
        try:
            with self.path.open("rb") as handle:
                size = int.from_bytes(handle.read(8), "little")
                header = json.loads(handle.read(size))
                start, stop = header["shapes"]["data_offsets"]
                handle.seek(8 + size + start)
                self.shapes = np.frombuffer(handle.read(stop - start), dtype="<i8").reshape(-1, 3)
            offset = 8 + size + header["pixels"]["data_offsets"][0]
            lengths = self.shapes.prod(axis=1)
            self._pixels = np.memmap(self.path, np.uint8, "r", offset, (int(lengths.sum()),))
            self.metadata = json.loads(header.get("__metadata__", {}).get("deal", "{}"))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, MemoryError) as error:
            raise ValueError(f"{path}: not a file of packed training images ({type(error).__name__})") from None
        self._starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])

    @property
    def channels(self) -> int:
        """1 (gray) or 3 (colour)."""
        return int(self.shapes[0, 0])

    def __len__(self) -> int:
        return len(self.shapes)

    def image(self, index: int) -> np.ndarray:
        """Image `index` as uint8 (H, W, C), a view of the file."""
        channels, height, width = self.shapes[index]
        start = self._starts[index]
        return self._pixels[start : start + channels * height * width].reshape(height, width, channels)

    def sample(self, rng: np.random.Generator, batch: int, patch: int) -> np.ndarray:
        """A batch of patches, uint8 (batch, C, patch, patch): random image, position and one of 8 symmetries.

        Raises:
            ValueError: no image is as large as the patch.
        """
        usable = np.flatnonzero(self.shapes[:, 1:].min(axis=1) >= patch)
        if not len(usable):
            raise ValueError(f"{self.path}: no training image is {patch} x {patch} or larger")
        out = np.empty((batch, self.channels, patch, patch), np.uint8)
        for i in range(batch):
            image = self.image(rng.choice(usable))
            row = rng.integers(image.shape[0] - patch + 1)
            col = rng.integers(image.shape[1] - patch + 1)
            crop = np.rot90(image[row : row + patch, col : col + patch], rng.integers(4))
            out[i] = (crop[:, ::-1] if rng.integers(2) else crop).transpose(2, 0, 1)
        return out
