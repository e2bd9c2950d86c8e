"""Register a folder of images as a data set: copies in the cache, rows in files.csv, a block in datasets.yaml.

The block is written last, and rows of the user's own files do not count without one: after an interruption at any place
the registry is as it was, and the same command goes on.
"""

import hashlib
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import yaml
from pydantic import ValidationError

from bench import datasets
from bench.datasets import IMAGE_SUFFIXES, NAME, Dataset, natural
from bench.errors import UserError
from bench.fetch import FILE_NAME, LOCAL, File
from bench.files import atomic, locked, write_text
from bench.provenance import sha256

CONVERT = (".bmp", ".gif", ".jp2", ".ppm", ".pgm", ".tif", ".tiff", ".webp")
"""Suffixes of images that are not read; a folder that has some is refused, for none is to be left out unnoticed."""
MODES = {"L": 1, "RGB": 3}
MEND = {
    "1": "save it as 8-bit gray",
    "CMYK": "save it as RGB",
    "I;16": "save it with 8 bits",
    "LA": "remove its transparency",
    "P": "save it without a palette",
    "RGBA": "remove its transparency",
}
"""Pillow's mode → what to do with an image that has it."""
CROP = 256
"""Side of the centre crops that config.yaml takes of colour images, in pixels."""


@dataclass(frozen=True)
class Picture:
    """One image of the folder: hash and size of its file, its channels, and its shorter side in pixels."""

    path: Path
    sha256: str
    size_bytes: int
    channels: int
    side: int


@dataclass(frozen=True)
class About:
    """What the block says of the data set; None: what it says already, else a default."""

    title: str | None = None
    split: str | None = None
    licence: str | None = None
    source: str | None = None
    gray: bool = False
    """Colour images become gray."""


def register(
    folder: Path,
    name: str,
    cache: Path,
    about: About = About(),
    replace: bool = False,
    registry: Path = datasets.REGISTRY,
) -> str:
    """Make the images of `folder` the data set `name`; returns what was done and how to go on.

    Args:
        cache: where copies are put, as `local/<name>/<file>`.
        replace: change a data set that was registered before, where it differs.
        registry: the folder of files.csv and datasets.yaml.

    Raises:
        UserError: for images or names that cannot be used, with nothing written; or for a disk that refuses.
    """
    if not re.fullmatch(NAME, name) or yaml.safe_load(name) != name:  # YAML takes `on` for true
        raise UserError(f"--name {name!r}: must be lower-case letters, digits and _, a letter first, as in my_photos")
    known = _parse(registry)
    before = known.get(name)
    if before and not before.local:
        raise UserError(f"--name {name}: the benchmark has a data set of this name ({before.title}); choose another")
    pictures = _pictures(folder, about.gray or (before is not None and before.gray_from_color))
    made = _dataset(name, pictures, about, before)
    same = before == made
    if before and not same and not replace:
        raise UserError(
            f"--name {name}: is registered already, with other {_differing(before, made)}; --replace changes it, "
            "another name adds a data set"
        )
    with locked(Path(cache, "local", ".lock")):
        _copy(pictures, name, Path(cache))
        if not same:
            _write(registry, made)
    count = f"{len(pictures)} image{'s' if len(pictures) > 1 else ''}"
    if same:
        return f"{name} is registered already, with the same {count}; the registry stays as it is"
    kind = "gray" if made.channels == 1 else "colour"
    done = f"{name} {'changed' if before else 'registered'}: {count}, {kind}, for {made.split}"
    return "\n".join([done, *_shared(made, known), advice(made, min(picture.side for picture in pictures))])


def advice(dataset: Dataset, side: int) -> str:
    """The next command for a data set; `side` is the shortest side of its images in pixels."""
    name, kind = dataset.name, "gray" if dataset.channels == 1 else "color"
    results = f"results=results/{name}"  # of its own, since the files there are called as those of the paper's images
    if dataset.split == "train":
        target, values = f"results/{name}/training/{kind}.safetensors", f"'training={{{kind}: {{datasets: [{name}]}}}}'"
        return f"next: .venv/bin/snakemake --cores 2 {target} --config {results} {values}"
    small = kind == "color" and side < CROP
    if dataset.split == "validation":
        crop = f", crop: {side}" if small else ""
        values = f"hyperparameters=tuned 'tuning={{tasks: {{denoise_{kind}: {{dataset: {name}{crop}}}}}}}'"
    else:
        crop = ", crop: null" if small else ""
        values = f"'tasks={{denoise_{kind}: {{dataset: {name}{crop}}}}}'"
    table = f"'tables={{table1: {{tasks: [denoise_{kind}]}}}}'"
    return f"next: .venv/bin/snakemake --cores 2 table1 --config weights=released {results} {values} {table}"


def _shared(made: Dataset, known: dict[str, Dataset]) -> list[str]:
    """A line for each data set of another split that has, byte for byte, an image of this one."""
    lines = []
    for other in known.values():
        hashes = {file.sha256 for file in other.files}
        both = [file.name for file in made.files if file.sha256 in hashes]
        if both and other.split != made.split and other.name != made.name:
            more = f" and {len(both) - 1} more" if len(both) > 1 else ""
            lines.append(f"caution: {both[0]}{more} of these images are in {other.name}, which is for {other.split}")
    return lines


def _parse(registry: Path) -> dict[str, Dataset]:
    """The registry as it is now, not as it was when this process began."""
    return datasets.parse(*(datasets.text_of(registry / file) for file in ("files.csv", "datasets.yaml")))


def _pictures(folder: Path, gray: bool) -> list[Picture]:
    """The images of `folder`, checked; `gray` allows gray and colour together."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    there = [path for path in folder.iterdir() if path.is_file() and not path.name.startswith(".")]
    there.sort(key=lambda path: natural(path.name))
    paths, stems = [], {}
    for path in there:
        suffix = path.suffix.lower()
        if suffix in CONVERT:
            raise UserError(f"{path}: only .png and .jpg are read; save it as PNG, or take it out of the folder")
        if suffix not in (*IMAGE_SUFFIXES, ".jpeg"):
            continue
        if path.suffix not in IMAGE_SUFFIXES:
            wanted = path.stem + (".png" if suffix == ".png" else ".jpg")
            raise UserError(f"{path}: only .png and .jpg are read; rename it to {wanted}")
        if not re.fullmatch(FILE_NAME, path.name):
            wanted = re.sub(r"^[.+=-]|[^A-Za-z0-9_.+=-]", "_", path.name)
            raise UserError(
                f"{path}: a name must be of letters, digits and _ . + = - only, and begin with one of the first three; "
                f"rename it, for instance to {wanted}"
            )
        if (other := stems.setdefault(path.stem, path)) != path:
            raise UserError(f"{path}: {other.name} has the same name but for the suffix; rename one of them")
        paths.append(path)
    if not paths:
        raise UserError(f"{folder}: holds no .png and no .jpg; name the folder that does (those inside are not read)")
    pictures = [_picture(path) for path in paths]
    for picture in pictures:
        if picture.channels != (first := pictures[0]).channels and not gray:
            words = {1: "gray", 3: "colour"}
            raise UserError(
                f"{picture.path}: is {words[picture.channels]}, but {first.path.name} is {words[first.channels]}; "
                "register them as two data sets, or all as gray with --gray"
            )
    return pictures


def _picture(path: Path) -> Picture:
    content = path.read_bytes()
    mode, pixels = datasets.decoded(path, content)
    if mode not in MODES:
        mend = MEND.get(mode, "save it as one of them")
        raise UserError(f"{path}: has Pillow's mode {mode}, expected 8-bit gray (L) or colour (RGB); {mend}")
    return Picture(path, hashlib.sha256(content).hexdigest(), len(content), MODES[mode], min(pixels.shape[:2]))


def _dataset(name: str, pictures: list[Picture], about: About, before: Dataset | None) -> Dataset:
    """The data set as it is to be; what `about` leaves open is as in `before`, if there is one."""
    known = before.model_dump() if before else {"title": name, "split": "test", "licence": "not stated", "note": ""}
    gray = about.gray or bool(before and before.gray_from_color)
    values = {
        "default": False,
        "source": "local",
        **known,
        **{key: value for key in ("title", "split", "licence", "source") if (value := getattr(about, key)) is not None},
        "name": name,
        "channels": 1 if gray else pictures[0].channels,
        "gray_from_color": gray,
        "files": tuple(
            File(name=p.path.name, url=f"{LOCAL}{name}/{p.path.name}", sha256=p.sha256, bytes=p.size_bytes)
            for p in pictures
        ),
    }
    try:
        return Dataset(**values)
    except ValidationError as error:
        key = str(error.errors()[0]["loc"][0])
        expected = {"source": "an address that begins with https://"}.get(key, "some text")
        raise UserError(f"--{key} {values[key]!r}: expected {expected}") from error


def _differing(before: Dataset, made: Dataset) -> str:
    """In which keys two data sets differ, in words."""
    found = [key for key in Dataset.model_fields if getattr(before, key) != getattr(made, key)]
    return ", ".join("images" if key == "files" else key for key in found)


def _copy(pictures: list[Picture], name: str, cache: Path) -> None:
    """Put the images into the cache; those that are there stay."""
    for picture in pictures:
        target = cache / "local" / name / picture.path.name
        if target.is_file() and sha256(target) == picture.sha256:
            continue
        with atomic(target) as partial:
            shutil.copyfile(picture.path, partial)
            if sha256(partial) != picture.sha256:
                raise UserError(f"{picture.path}: changed while it was read; run the same command again")


def _write(registry: Path, dataset: Dataset) -> None:
    """Write files.csv, then datasets.yaml, each in one go, after a check of what they will say."""
    files, blocks = (datasets.text_of(registry / file) for file in ("files.csv", "datasets.yaml"))
    files, changed = _with_rows(files, dataset), _with_block(blocks, dataset)
    if datasets.parse(files, changed).get(dataset.name) != dataset:
        raise UserError(f"datasets.yaml: the block {dataset.name} was edited by hand; delete it and register again")
    write_text(registry / "files.csv", files)
    write_text(registry / "datasets.yaml", changed)
    datasets.registry.cache_clear()


def _with_rows(text: str, dataset: Dataset) -> str:
    """The text of files.csv with the rows of `dataset`, in the file's order, in place of those it has."""
    header, *lines = text.splitlines()
    kept = [line for line in lines if line.partition(",")[0] != dataset.name]
    added = [f"{dataset.name},{file.name},{file.url},{file.sha256},{file.bytes}" for file in dataset.files]
    ordered = sorted(kept + added, key=lambda line: [natural(field) for field in line.split(",")[:2]])
    return "\n".join([header, *ordered]) + "\n"


def _with_block(text: str, dataset: Dataset) -> str:
    """The text of datasets.yaml with the block of `dataset`, at the end or in place of the one it has."""
    keys = ("title", "split", "channels", "licence", "source", "default", "gray_from_color", "note")
    values = {key: getattr(dataset, key) for key in keys if key != "gray_from_color" or dataset.gray_from_color}
    block = yaml.safe_dump({dataset.name: values}, sort_keys=False, allow_unicode=True, width=120)
    text = text.rstrip("\n") + "\n"
    # a block goes on while lines are indented or empty
    there = re.search(rf"^{dataset.name}:.*\n(?:[ \t].*\n|\n)*", text, re.MULTILINE)
    if there is None:
        return f"{text}\n{block}"
    after = text[there.end() :]
    return text[: there.start()] + block + ("\n" + after if after else "")
