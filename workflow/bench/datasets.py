"""The data sets: the registry in `workflow/data`, fetching, loading, and the manifest of what was fetched."""

import csv
import difflib
import functools
import hashlib
import io
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import yaml
from PIL import Image, UnidentifiedImageError
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bench import archives
from bench.errors import UserError
from bench.fetch import SHARED, File, download, expected_sha256, mismatch
from bench.provenance import sha256

REGISTRY = Path(__file__).resolve().parents[1] / "data"
_COLUMNS = ["dataset", "name", "url", "sha256", "bytes"]
IMAGE_SUFFIXES = (".png", ".jpg")
NAME = r"[a-z][a-z0-9_]*"
"""What a data set may be called, as a pattern."""

# MATLAB's rgb2gray (luma of its own NTSC matrix); BSD68 is exactly this of CBSD68, protocol section 2.1
_RGB2GRAY = np.array([0.2989360212937753, 0.5870430744511212, 0.1140209042551033])


class Dataset(BaseModel):
    """One data set of the registry; the fields are explained at the head of datasets.yaml."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: str = Field(pattern=f"^{NAME}$")
    title: str = Field(min_length=1)
    split: Literal["train", "validation", "test", "other"]
    channels: Literal[1, 3] | None
    licence: str = Field(min_length=1)
    source: str = Field(pattern="^(https://|local$)")
    default: bool
    note: str
    gray_from_color: bool = False
    members: list[str] | None = None
    files: tuple[File, ...] = Field(min_length=1)

    @property
    def local(self) -> bool:
        """Whether its files are the user's own, registered with `python -m bench register`."""
        return all(file.local for file in self.files)

    @property
    def digest(self) -> str:
        """sha256 over the lines `<sha256 of the file>  <name>` in natural order; an unknown hash is empty."""
        return _digest((file.sha256 or "", file.name) for file in self.files)


def natural(name: str) -> list[tuple[int, str]]:
    """Sort key that puts img2 before img10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


@functools.cache
def registry(folder: Path = REGISTRY) -> dict[str, Dataset]:
    """Read and check the registry; the data sets as in datasets.yaml, their files in natural order."""
    return parse(text_of(folder / "files.csv"), text_of(folder / "datasets.yaml"))


def parse(files_csv: str, datasets_yaml: str) -> dict[str, Dataset]:
    """The registry of the texts of its two files; a UserError names the first mistake."""
    rows, blocks = _read_files(files_csv), _read_yaml(datasets_yaml)
    # the rows of a registration that was interrupted, or undone by deleting its block
    loose = {name for name in set(rows) - set(blocks) if all(file.local for file in rows[name])}
    if unknown := sorted(set(rows) - set(blocks) - loose):
        raise UserError(f"files.csv: the data set {unknown[0]!r} has no block in datasets.yaml")
    datasets = {}
    for name, block in blocks.items():
        if not isinstance(block, dict) or {"name", "files"} & set(block):
            raise UserError(f"datasets.yaml: {name} must hold keys and values, without name and files")
        try:
            datasets[name] = Dataset(name=name, files=tuple(rows.get(name, ())), **block)
        except (ValidationError, TypeError) as error:
            raise UserError(f"datasets.yaml: {name}: {_first(error)}") from error
        _check_kind(datasets[name])
    return datasets


def get(name: str) -> Dataset:
    """The data set called `name`; an unknown name is answered with the nearest known one."""
    if name not in (known := registry()):
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
        raise UserError(f"there is no data set {name!r}; {hint}")
    return known[name]


def fetch(name: str, cache: Path, mirror: str | None = None, jobs: int = 8, progress: bool = True) -> list[Path]:
    """Bring a data set into `cache`, verified, and unpack it if it comes in archives.

    `mirror` (folder or URL, by default $DEAL_MIRROR) is asked before the origin. Returns the paths of its
    files or, for archives, of the images in them. Raises UserError as `bench.fetch.download` does.
    """
    dataset = get(name)
    paths = download(dataset.files, cache, mirror, jobs, progress)
    if dataset.members is None:
        return paths
    hashes = [expected_sha256(file, path) or "" for file, path in zip(dataset.files, paths, strict=True)]
    unpacked = [archives.unpack(path, dataset.members, sha256) for path, sha256 in zip(paths, hashes, strict=True)]
    return [image for images in unpacked for image in images]


def images(
    name: str, cache: Path, subset: int | None = None, channels: int | None = None
) -> Iterator[tuple[str, np.ndarray]]:
    """Yield (id, uint8 array (C, H, W)) one by one in natural order; each file's hash is checked on the way.

    Args:
        subset: only the first so many.
        channels: 1 turns a colour set gray (`rgb_to_gray`); default: what the registry says.
    """
    dataset = get(name)
    if dataset.channels is None:
        raise UserError(f"{name} holds no images")
    if subset is not None and subset < 1:
        raise UserError(f"subset must be at least 1, not {subset}")
    wanted = channels or dataset.channels
    may_convert = dataset.gray_from_color or wanted < dataset.channels
    for path, content in islice(_contents(dataset, Path(cache)), subset):
        yield path.stem, _decode(path, content, wanted, may_convert)


def load(
    name: str, cache: Path, subset: int | None = None, channels: int | None = None
) -> list[tuple[str, np.ndarray]]:
    """(id, float32 array (C, H, W) in [0, 1], namely uint8/255) of every image; arguments as for `images`."""
    found = images(name, cache, subset, channels)
    return [(identifier, array.astype(np.float32) / np.float32(255)) for identifier, array in found]


def manifest(name: str, cache: Path) -> dict[str, Any]:
    """What a fetched data set consists of, for `<cache>/<name>.json`.

    `digest` is that of the data set, with the hashes recorded on first use where the registry has none.
    Raises UserError where a file is missing or wrong.
    """
    dataset = get(name)
    files = []
    for file in dataset.files:
        path = _sound(dataset, file, Path(cache))
        files.append({"name": file.name, "url": file.url, "sha256": sha256(path), "bytes": path.stat().st_size})
    digest = _digest((file["sha256"], file["name"]) for file in files)
    about = {key: getattr(dataset, key) for key in ("name", "title", "split", "channels", "licence", "source")}
    return {**about, "digest": digest, "files": files}


def image_hashes(name: str, cache: Path) -> dict[str, str]:
    """sha256 → file name of every image, to find those that two data sets share.

    Only where the registry lacks hashes, or has those of archives, must the data set have been fetched.
    """
    dataset = get(name)
    if dataset.members is None and all(file.sha256 for file in dataset.files):
        return {file.sha256: file.name for file in dataset.files if file.sha256}
    return {hashlib.sha256(content).hexdigest(): path.name for path, content in _contents(dataset, Path(cache))}


def rgb_to_gray(rgb: np.ndarray) -> np.ndarray:
    """MATLAB's rgb2gray: uint8 (H, W, 3) → uint8 (H, W), rounding half up."""
    return np.floor(rgb @ _RGB2GRAY + 0.5).astype(np.uint8)


def _contents(dataset: Dataset, cache: Path) -> Iterator[tuple[Path, bytes]]:
    """Path and bytes of each image."""
    for file in dataset.files:
        path = _sound(dataset, file, cache)
        if dataset.members is None:
            yield path, path.read_bytes()
            continue
        unpacked = archives.unpacked(path, expected_sha256(file, path) or "")
        if unpacked is None:
            raise _not_fetched(dataset, path)
        for image in sorted(unpacked, key=lambda path: natural(path.name)):
            yield image, image.read_bytes()


def _sound(dataset: Dataset, file: File, cache: Path) -> Path:
    """The path of a fetched file, after a check of its hash."""
    path = file.path(cache)
    if not path.is_file():
        raise _not_fetched(dataset, path)
    if wrong := mismatch(file, path):
        raise UserError(f"{path} is damaged: {wrong}. Mend: python -m bench fetch {dataset.name}")
    return path


def _not_fetched(dataset: Dataset, path: Path) -> UserError:
    return UserError(f"{dataset.name} has not been fetched (python -m bench fetch {dataset.name}): {path} is missing")


def _decode(path: Path, content: bytes, channels: int, may_convert: bool) -> np.ndarray:
    """Decode an 8-bit gray or RGB image to a uint8 array (channels, H, W)."""
    mode, pixels = decoded(path, content)
    if mode == "L" and channels == 1:
        return pixels[None]
    if mode == "RGB" and channels == 3:
        return np.ascontiguousarray(pixels.transpose(2, 0, 1))
    if mode == "RGB" and may_convert:
        return rgb_to_gray(pixels)[None]
    wanted = "gray (mode L)" if channels == 1 else "colour (mode RGB)"
    raise UserError(f"{path} has Pillow's mode {mode}; its data set is 8-bit {wanted}")


def decoded(path: Path, content: bytes) -> tuple[str, np.ndarray]:
    """Pillow's mode of an image file and its pixels, (H, W) or (H, W, channels); `path` is for the UserError."""
    try:
        with Image.open(io.BytesIO(content)) as image:
            return image.mode, np.asarray(image)
    except UnidentifiedImageError as error:  # whose own words name an object in memory
        raise UserError(f"{path} cannot be read as an image: its format is unknown") from error
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(f"{path} cannot be read as an image: {error}") from error


def _digest(hashes: Iterator[tuple[str, str]]) -> str:
    return hashlib.sha256("".join(f"{sha256}  {name}\n" for sha256, name in hashes).encode()).hexdigest()


def text_of(path: Path) -> str:
    """The text of one of the registry's two files."""
    if not path.is_file():
        raise UserError(f"{path} is missing: the registry of data sets belongs to the repository's clone")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{path.name}: {error}") from error


def _read_files(text: str) -> dict[str, list[File]]:
    """The rows of files.csv by data set."""
    try:
        header, *rows = csv.reader(text.splitlines(), strict=True)
    except (csv.Error, ValueError) as error:
        raise UserError(f"files.csv: {error}") from error
    if header != _COLUMNS:
        raise UserError(f"files.csv: the columns must be {','.join(_COLUMNS)}")
    datasets: dict[str, dict[str, File]] = {}
    for line, row in enumerate(rows, start=2):
        where = f"files.csv line {line}"
        if len(row) != len(_COLUMNS):
            raise UserError(f"{where}: a row has {len(_COLUMNS)} fields")
        dataset, *fields = row
        try:
            file = File(**{key: field for key, field in zip(_COLUMNS[1:], fields, strict=True) if field})
        except ValidationError as error:
            raise UserError(f"{where}: {_first(error)}") from error
        before = datasets.setdefault(dataset, {})
        named = file.url.endswith(SHARED) or file.url.rpartition("/")[2].rpartition(":")[2] == file.name
        if not named:
            raise UserError(f"{where}: the URL does not end in the name {file.name!r}")
        if file.id in before:
            raise UserError(f"{where}: {dataset} has two files called {file.id!r}")
        before[file.id] = file
    return {name: sorted(files.values(), key=lambda file: natural(file.name)) for name, files in datasets.items()}


class _UniqueKeys(yaml.SafeLoader):
    """YAML without the rule that the last of two equal keys wins."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        if repeated := {key for key in keys if keys.count(key) > 1}:
            raise yaml.constructor.ConstructorError(
                problem=f"{min(repeated)} appears twice", problem_mark=node.start_mark
            )
        return super().construct_mapping(node, deep)


def _read_yaml(text: str) -> dict[str, Any]:
    try:
        blocks = yaml.load(text, _UniqueKeys)
    except yaml.YAMLError as error:
        raise UserError(f"datasets.yaml: {' '.join(str(error).split())}") from error
    if not isinstance(blocks, dict) or not all(isinstance(name, str) for name in blocks):
        raise UserError("datasets.yaml must hold one block for each data set")
    return blocks


def _check_kind(dataset: Dataset) -> None:
    """Files must be what the block says they are: images, archives, or (no channels) anything."""
    allowed = archives.SUFFIXES if dataset.members else IMAGE_SUFFIXES if dataset.channels else None
    for file in dataset.files:
        if allowed and not file.name.endswith(allowed):
            raise UserError(f"files.csv: {dataset.name}: {file.name} is none of {', '.join(allowed)}")


def _first(error: ValidationError | TypeError) -> str:
    """The first complaint of a validation, led by its key."""
    if isinstance(error, TypeError):
        return str(error)
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}, not {first['input']!r}"
