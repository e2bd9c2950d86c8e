"""The registry is consistent and strict; images load as what they are; the real sets are the paper's."""

import csv
import hashlib
import io
import re
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench import datasets
from bench.datasets import Dataset, File
from bench.errors import UserError

# The images of BSD68 in its order (test001, …), as ids of the Berkeley data set; protocol, section 2.1
BSD68_IDS = re.findall(
    r"\d+",
    """
    101085 101087 102061 103070 105025 106024 108005 108070 108082 109053 119082 12084 123074 126007
    130026 134035 14037 143090 145086 147091 148026 148089 157055 159008 160068 16077 163085 167062
    167083 170057 175032 175043 182053 189080 19021 196073 197017 208001 210088 21077 216081 219090
    220075 223061 227092 229036 236037 24077 241004 241048 253027 253055 260058 271035 285079 291000
    295087 296007 296059 299086 300091 302008 304034 304074 306005 3096 33039 351093
    """,
)
EMBEDDED = [name for name in datasets.registry() if name.startswith("embedded")]


# The registry


def test_the_registry_holds_the_data_sets_of_the_paper() -> None:
    known = datasets.registry()
    images = [name for name in known if known[name].channels and not known[name].local]
    assert {name: (len(known[name].files), known[name].split, known[name].channels) for name in images} == {
        "set12": (12, "validation", 1),
        "set3_gray": (3, "test", 1),
        "set9_gray": (9, "validation", 1),
        "bsd68": (68, "test", 1),
        "cbsd68": (68, "test", 3),
        "set3c": (3, "validation", 3),
        "bsd400": (400, "train", 1),
        "bsds500_color": (400, "train", 3),
        "div2k": (2, "train", 3),
        "flickr2k": (1, "train", 3),
        "waterloo": (1, "train", 3),
        "embedded_gray": (3, "test", 1),
        "embedded_color": (2, "test", 3),
        "embedded_val_gray": (1, "validation", 1),
        "embedded_val_color": (1, "validation", 3),
        "embedded_train_gray": (6, "train", 1),
        "embedded_train_color": (3, "train", 3),
    }
    others = {name for name in known if not known[name].channels}
    assert {"dpir_kernels", "deal_official"} <= others
    assert all(known[name].split == "other" for name in others)


def test_urls_are_pinned_and_large_sets_are_off() -> None:
    known = datasets.registry()
    for dataset in known.values():
        for file in dataset.files:
            if "githubusercontent" in file.url:
                commit = file.url.split("/")[5]
                assert len(commit) == 40 and set(commit) <= set("0123456789abcdef")
    assert {name for name in known if not known[name].default} >= {
        "div2k",
        "flickr2k",
        "waterloo",
        "deal_official",
    }
    unknown = {name for name in known if any(file.sha256 is None for file in known[name].files)}
    assert {name for name in unknown if known[name].channels} == {"div2k", "flickr2k", "waterloo"}
    assert not any(known[name].default for name in unknown)


def test_files_are_in_natural_order() -> None:
    assert sorted(["10", "9", "a2", "a10", "1"], key=datasets.natural) == ["1", "9", "10", "a2", "a10"]
    with (datasets.REGISTRY / "files.csv").open(newline="") as handle:
        rows = [(row["dataset"], row["name"]) for row in csv.DictReader(handle)]
    assert rows == sorted(rows, key=lambda row: (datasets.natural(row[0]), datasets.natural(row[1])))
    ids = [file.id for file in datasets.get("bsds500_color").files]
    assert ids == sorted(ids, key=int)


def test_training_images_are_not_test_images() -> None:
    trained = {file.id for file in datasets.get("bsds500_color").files}
    assert len(trained) == 400
    assert len(set(BSD68_IDS)) == 68
    assert trained.isdisjoint(BSD68_IDS)


def test_embedded_sets_share_no_scene_between_splits() -> None:
    scenes: dict[str, set[str]] = {"train": set(), "validation": set(), "test": set()}
    for name in EMBEDDED:
        dataset = datasets.get(name)
        scenes[dataset.split] |= {file.id.split("_")[0] for file in dataset.files}
    assert not scenes["train"] & scenes["test"]
    assert not scenes["train"] & scenes["validation"]
    assert not scenes["validation"] & scenes["test"]


def test_every_listed_file_is_in_the_mirror_with_its_hash(mirror: Path) -> None:
    sums = dict(line.split("  ", 1)[::-1] for line in (mirror / "SHA256SUMS").read_text().splitlines())
    listed = [file for dataset in datasets.registry().values() for file in dataset.files if "raw.github" in file.url]
    known = [file for file in listed if file.sha256]
    assert len(known) == 12 + 68 + 68 + 3 + 400 + 400 + 3 + 55  # the last: what later sets list, weights included
    for file in known:
        assert datasets.mismatch(file, file.path(mirror)) is None, file.url
        assert sums[file.location] == file.sha256


def test_the_digest_is_that_of_sha256sum() -> None:
    dataset = datasets.get("set3c")
    lines = "".join(f"{file.sha256}  {file.name}\n" for file in dataset.files)
    assert dataset.digest == hashlib.sha256(lines.encode()).hexdigest()
    assert [file.name for file in dataset.files] == ["butterfly.png", "leaves.png", "starfish.png"]


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(UserError, match="no data set 'bsd86'; did you mean bsd68"):
        datasets.get("bsd86")


HEAD = "dataset,name,url,sha256,bytes\n"
ROW = f"toy,1.png,https://host/1.png,{'0' * 64},10\n"
BLOCK = """toy:
  title: toy
  split: test
  channels: 1
  licence: none
  source: https://host
  default: true
  note: ""
"""


@pytest.mark.parametrize(
    ("files", "blocks", "message"),
    [
        (HEAD + ROW.replace("0000", "xyz"), BLOCK, "files.csv line 2: sha256"),
        (HEAD + ROW.replace("10\n", "-1\n"), BLOCK, "files.csv line 2: bytes"),
        (
            HEAD + ROW.replace("10\n", "\n").replace(",\n", "\n"),
            BLOCK,
            "files.csv line 2: a row has 5 fields",
        ),
        (HEAD + ROW.replace("https://host", "ftp://host"), BLOCK, "files.csv line 2: url"),
        (HEAD + ROW.replace("host/1.png", "host/../1.png"), BLOCK, "files.csv line 2: url"),
        (HEAD + ROW.replace("host/1.png", "host/2.png"), BLOCK, "the URL does not end in the name '1.png'"),
        (HEAD + ROW + ROW.replace(".png", ".jpg"), BLOCK, "files.csv line 3: toy has two files called '1'"),
        (HEAD.replace("bytes", "size") + ROW, BLOCK, "the columns must be dataset,name,url,sha256,bytes"),
        (HEAD + ROW.replace(".png", ".mat"), BLOCK, "1.mat is none of .png, .jpg"),
        (HEAD + ROW, BLOCK + "  members: ['*.png']\n", "1.png is none of .zip, .tar, .rar"),
        (HEAD + ROW.replace("toy", '"toy'), BLOCK, "files.csv: "),
        ("", BLOCK, "files.csv: "),
        (HEAD + ROW + ROW.replace("toy", "joy"), BLOCK, "'joy' has no block"),
        (HEAD, BLOCK, "toy: files: "),
        (HEAD + ROW, BLOCK + "  licnce: MIT\n", "toy: licnce: "),
        (HEAD + ROW, BLOCK.replace("  title: toy\n", ""), "toy: title: "),
        (HEAD + ROW, BLOCK.replace("channels: 1", "channels: 2"), "toy: channels: "),
        (HEAD + ROW, BLOCK.replace("default: true", "default: 'yes'"), "toy: default: "),
        (HEAD + ROW, BLOCK + "  files: []\n", "without name and files"),
        (HEAD + ROW, BLOCK + BLOCK, "toy appears twice"),
        (HEAD + ROW, "toy", "one block for each data set"),
        (HEAD + ROW, "toy: [", "datasets.yaml: "),
    ],
)
def test_mistakes_in_the_registry_are_named(tmp_path: Path, files: str, blocks: str, message: str) -> None:
    (tmp_path / "files.csv").write_text(files)
    (tmp_path / "datasets.yaml").write_text(blocks)
    with pytest.raises(UserError) as caught:
        datasets.registry(tmp_path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_registry_without_mistakes(tmp_path: Path) -> None:
    (tmp_path / "files.csv").write_text(HEAD + ROW)
    with pytest.raises(UserError, match=r"datasets\.yaml is missing"):
        datasets.registry(tmp_path)
    (tmp_path / "datasets.yaml").write_text(BLOCK)
    assert datasets.registry(tmp_path)["toy"].files[0].bytes == 10


# Loading


def png(array: np.ndarray, mode: str | None = None) -> bytes:
    stream = io.BytesIO()
    image = Image.fromarray(array)
    (image.convert(mode) if mode else image).save(stream, "PNG")
    return stream.getvalue()


GRAY = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20
COLOR = np.arange(36, dtype=np.uint8).reshape(3, 4, 3) * 7


def make(monkeypatch: pytest.MonkeyPatch, cache: Path, contents: dict[str, bytes], **keys: object) -> Dataset:
    """Put a data set called toy into the registry and its files into the cache."""
    files = []
    for name, content in contents.items():
        file = File(
            name=name,
            url=f"https://host/{name}",
            sha256=hashlib.sha256(content).hexdigest(),
            bytes=len(content),
        )
        file.path(cache).parent.mkdir(parents=True, exist_ok=True)
        file.path(cache).write_bytes(content)
        files.append(file)
    about = {
        "title": "t",
        "split": "test",
        "licence": "l",
        "source": "https://host",
        "default": True,
        "note": "",
    }
    dataset = Dataset(name="toy", files=tuple(files), **({"channels": 1} | about | keys))
    monkeypatch.setattr(datasets, "registry", lambda: {"toy": dataset})
    return dataset


def test_gray_and_colour_images_load(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    make(monkeypatch, tmp_path, {"1.png": png(GRAY), "2.png": png(GRAY + 5)})
    first, second = datasets.load("toy", tmp_path)
    assert (first[0], second[0]) == ("1", "2")
    assert first[1].dtype == np.float32 and first[1].shape == (1, 3, 4)
    np.testing.assert_array_equal(first[1][0], (GRAY / 255).astype(np.float32))
    assert [name for name, _ in datasets.load("toy", tmp_path, 1)] == ["1"]

    make(monkeypatch, tmp_path, {"1.png": png(COLOR)}, channels=3)
    ((_, color),) = datasets.load("toy", tmp_path)
    np.testing.assert_array_equal(color, (COLOR.transpose(2, 0, 1) / 255).astype(np.float32))
    ((_, raw),) = datasets.images("toy", tmp_path)
    assert raw.dtype == np.uint8 and raw.flags.c_contiguous
    ((_, gray),) = datasets.images("toy", tmp_path, channels=1)
    np.testing.assert_array_equal(gray[0], datasets.rgb_to_gray(COLOR))


def test_gray_weights_and_rounding() -> None:
    colors = np.array([[[255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 255], [7, 7, 7]]], np.uint8)
    assert datasets.rgb_to_gray(colors).tolist() == [[255, 76, 150, 29, 7]]


@pytest.mark.parametrize(
    ("content", "channels", "message"),
    [
        (png(COLOR), 1, "mode RGB; its data set is 8-bit gray"),
        (png(GRAY), 3, "mode L; its data set is 8-bit colour"),
        (png(COLOR, "RGBA"), 3, "mode RGBA"),
        (png(COLOR, "P"), 3, "mode P"),
        (png(GRAY.astype(np.uint16) * 257), 1, "mode I;16"),
        (png(np.tile(GRAY, (50, 50)))[:100], 1, "cannot be read as an image"),
        (b"not an image", 1, "cannot be read as an image"),
    ],
    ids=["colour", "gray", "alpha", "palette", "16 bits", "truncated", "text"],
)
def test_unusable_images_are_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes, channels: int, message: str
) -> None:
    make(
        monkeypatch,
        tmp_path,
        {"1.png": png(GRAY if channels == 1 else COLOR), "2.png": content},
        channels=channels,
    )
    with pytest.raises(UserError) as caught:
        datasets.load("toy", tmp_path)
    assert "2.png" in str(caught.value)
    assert message in str(caught.value)


def test_missing_and_damaged_files_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    dataset = make(monkeypatch, tmp_path, {"1.png": png(GRAY), "2.png": png(GRAY)})
    path = dataset.files[1].path(tmp_path)
    path.write_bytes(png(GRAY + 1))
    for use in (datasets.load, datasets.manifest):
        with pytest.raises(UserError, match=r"2\.png is damaged: expected sha256 .*, found "):
            use("toy", tmp_path)
    path.unlink()
    for use in (datasets.load, datasets.manifest):
        with pytest.raises(UserError, match=r"toy has not been fetched .*2\.png is missing"):
            use("toy", tmp_path)
    assert len(datasets.load("toy", tmp_path, 1)) == 1
    with pytest.raises(UserError, match="subset must be at least 1"):
        datasets.load("toy", tmp_path, 0)


def test_what_holds_no_images_does_not_load(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="dpir_kernels holds no images"):
        datasets.load("dpir_kernels", tmp_path)


def test_images_of_archives(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name in ("10", "9"):
            archive.writestr(f"set_HR/{name}.png", png(GRAY + int(name)))
        archive.writestr("set_LR/9.png", png(GRAY))
    make(monkeypatch, tmp_path, {"a.zip": stream.getvalue()}, members=["*_HR/*.png"])
    with pytest.raises(UserError, match="toy has not been fetched"):
        datasets.load("toy", tmp_path)
    assert {path.name for path in datasets.fetch("toy", tmp_path)} == {"9.png", "10.png"}
    loaded = datasets.load("toy", tmp_path)
    assert [name for name, _ in loaded] == ["9", "10"]
    np.testing.assert_array_equal(loaded[1][1][0], ((GRAY + 10) / 255).astype(np.float32))


def test_the_manifest_lists_what_was_fetched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    content = png(GRAY)
    dataset = make(monkeypatch, tmp_path, {"1.png": content})
    manifest = datasets.manifest("toy", tmp_path)
    assert manifest["digest"] == dataset.digest
    assert manifest["files"] == [
        {
            "name": "1.png",
            "url": "https://host/1.png",
            "sha256": dataset.files[0].sha256,
            "bytes": len(content),
        }
    ]
    assert str(tmp_path) not in str(manifest)
    unknown = dataset.files[0].model_copy(update={"sha256": None, "bytes": None})
    monkeypatch.setattr(datasets, "registry", lambda: {"toy": dataset.model_copy(update={"files": (unknown,)})})
    datasets.fetch("toy", tmp_path)
    assert datasets.manifest("toy", tmp_path)["digest"] == dataset.digest


# The embedded photographs


@pytest.mark.parametrize("name", EMBEDDED)
def test_embedded_photographs_need_no_network(no_network: None, tmp_path: Path, name: str) -> None:
    dataset = datasets.get(name)
    assert all(path.is_file() for path in datasets.fetch(name, tmp_path / "cache"))
    loaded = datasets.load(name, tmp_path / "cache")
    assert [identifier for identifier, _ in loaded] == [file.id for file in dataset.files]
    for _, image in loaded:
        assert image.shape[0] == dataset.channels
        assert min(image.shape[1:]) >= 256  # the tasks' crop
        assert 0 <= image.min() < 0.3 and 0.7 < image.max() <= 1
    assert not (tmp_path / "cache").exists()


def test_another_scikit_image_is_noticed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = datasets.get("embedded_gray").files[0]
    shutil.copy(file.path(tmp_path), tmp_path / "camera.png")
    (tmp_path / "camera.png").write_bytes(b"another photograph")
    monkeypatch.setattr(File, "path", lambda self, cache: tmp_path / self.name)
    with pytest.raises(UserError, match=r"camera\.png of the installed scikit-image is not .*expected sha256 b0793d2a"):
        datasets.fetch("embedded_gray", tmp_path)


# The real images


def test_fetch_from_the_mirror(no_network: None, mirror: Path, tmp_path: Path) -> None:
    paths = datasets.fetch("set12", tmp_path, str(mirror))
    assert [path.stem for path in paths] == [f"{number:02d}" for number in range(1, 13)]
    sizes = [image.shape for _, image in datasets.load("set12", tmp_path)]
    assert sizes == [(1, 256, 256)] * 7 + [(1, 512, 512)] * 5
    assert datasets.manifest("set12", tmp_path)["digest"] == datasets.get("set12").digest


def test_bsd68_is_the_papers(mirror: Path) -> None:
    loaded = datasets.load("bsd68", mirror)
    assert [name for name, _ in loaded] == [f"test{number:03d}" for number in range(1, 69)]
    shapes = [image.shape for _, image in loaded]
    assert shapes.count((1, 321, 481)) == 53
    assert shapes.count((1, 481, 321)) == 15
    castle = dict(loaded)["test003"]
    assert castle.shape == (1, 481, 321)
    assert -10 * np.log10(np.mean(castle.astype(np.float64) ** 2)) == pytest.approx(6.1170, abs=5e-5)


def test_bsd68_is_cbsd68_in_gray_and_in_another_order(mirror: Path) -> None:
    gray = dict(datasets.images("bsd68", mirror))
    color = dict(datasets.images("cbsd68", mirror, channels=1))
    numeric = sorted(BSD68_IDS, key=int)
    assert sorted(BSD68_IDS) == BSD68_IDS
    for position, identifier in enumerate(BSD68_IDS, start=1):
        np.testing.assert_array_equal(gray[f"test{position:03d}"], color[f"{numeric.index(identifier):04d}"])


def test_bsd400_are_crops_of_the_training_images_only(mirror: Path) -> None:
    """A crop's most varied row tells where it is from: from no image of BSD68, from one of BSDS500's."""
    tested = [image.tobytes() for _, image in datasets.images("bsd68", mirror)]
    trained = [image.tobytes() for _, image in datasets.images("bsds500_color", mirror, subset=20, channels=1)]
    found = 0
    for name, crop in datasets.images("bsd400", mirror):
        assert crop.shape == (1, 180, 180)
        row = crop[0, crop[0].std(axis=1).argmax()].tobytes()
        assert not any(row in image for image in tested), name
        found += any(row in image for image in trained)
    assert found == 20


def test_set3c_and_the_training_photographs(mirror: Path) -> None:
    assert [(name, image.shape) for name, image in datasets.load("set3c", mirror)] == [
        ("butterfly", (3, 256, 256)),
        ("leaves", (3, 256, 256)),
        ("starfish", (3, 256, 256)),
    ]
    for _, image in datasets.images("bsds500_color", mirror, subset=5):
        assert image.shape in ((3, 321, 481), (3, 481, 321))


def test_validation_images_of_deblurring_are_the_rest_of_set12(tmp_path: Path) -> None:
    """Hashes come from the registry, with nothing fetched."""
    whole, tested, rest = (datasets.image_hashes(name, tmp_path) for name in ("set12", "set3_gray", "set9_gray"))
    assert whole == tested | rest
    assert not set(tested) & set(rest)
    assert sorted(tested.values()) == ["01.png", "02.png", "05.png"]
