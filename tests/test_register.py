"""A folder of one's own becomes a data set: what is refused, what is written, and a table made of it."""

import csv
import functools
import io
import json
import shlex
import shutil
import subprocess
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from test_workflow import NOTHING, Repository

from bench import __main__ as command
from bench import configfile, datasets, doctor, register
from bench import registry as methods
from bench.cells import Column, Method, Table, make_cell
from bench.config import Config
from bench.errors import UserError
from bench.figure_config import CASTLE_ZOOM
from bench.figure_data import comparison, problems
from bench.per_image import authors, notes
from bench.register import About
from bench.results import Result

ROOT = Path(__file__).resolve().parents[1]
FILES = ("files.csv", "datasets.yaml")
parsed = functools.cache(datasets.parse)


def picture(mode: str = "L", seed: int = 0, height: int = 40, width: int = 48) -> bytes:
    """A PNG file of random pixels."""
    array = np.random.RandomState(seed).randint(0, 256, (height, width, 3)).astype(np.uint8)
    image = Image.fromarray(array).convert("L")
    if mode == "I;16":
        image = Image.fromarray(array[..., 0].astype(np.uint16) * 257)
    elif mode != "L":
        image = Image.fromarray(array).convert(mode)
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


class Place:
    """A copy of the registry, a cache, and a folder of images."""

    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.registry, self.cache, self.folder = (tmp_path / name for name in ("registry", "cache", "photos"))
        self.registry.mkdir()
        for name in FILES:
            shutil.copyfile(datasets.REGISTRY / name, self.registry / name)
        monkeypatch.setattr(datasets, "registry", lambda: self.known())
        monkeypatch.setattr(datasets.registry, "cache_clear", lambda: None, raising=False)
        monkeypatch.delenv("DEAL_MIRROR", raising=False)
        self.put("L", "a10.png", "a9.png")

    def put(self, mode: str, *names: str) -> None:
        """Fill the folder with these images and no others."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()
        for seed, name in enumerate(names):
            (self.folder / name).write_bytes(picture(mode, seed))

    def register(self, name: str = "mine", replace: bool = False, **about) -> str:
        return register.register(self.folder, name, self.cache, About(**about), replace, self.registry)

    def config(self, **castle) -> Config:
        """A configuration whose gray denoising is of the data set `mine`; `castle` for `figures.denoising`."""
        values = {"cache": str(self.cache), "results": str(self.cache / "results"), "device": "cpu"}
        values |= {"methods": ["measurement"], "weights": "released", "figures": {"denoising": castle}}
        return Config.model_validate(values | {"tasks": {"denoise_gray": {"dataset": "mine", "crop": None}}})

    def known(self) -> dict[str, datasets.Dataset]:
        return parsed(*self.texts())

    def texts(self) -> list[str]:
        return [(self.registry / name).read_text() for name in FILES]

    def cached(self) -> list[str]:
        return sorted(path.relative_to(self.cache).as_posix() for path in self.cache.rglob("*.png"))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    return Place(tmp_path, monkeypatch)


# What is refused


@pytest.mark.parametrize(
    ("files", "name", "message"),
    [
        (
            {"a.png": picture(), "b.png": picture("RGB")},
            "mine",
            "b.png: is colour, but a.png is gray; register them",
        ),
        ({}, "mine", "photos: holds no .png and no .jpg"),
        ({"notes.txt": b"x", ".hidden.png": b"x"}, "mine", "photos: holds no .png and no .jpg"),
        ({"a.png": picture("RGBA")}, "mine", "a.png: has Pillow's mode RGBA, .* remove its transparency"),
        ({"a.png": picture("P")}, "mine", "a.png: has Pillow's mode P, .* save it without a palette"),
        ({"a.png": picture("I;16")}, "mine", "a.png: has Pillow's mode I;16, .* save it with 8 bits"),
        ({"a.png": picture()[:200]}, "mine", "a.png cannot be read as an image: "),
        ({"a.png": b"no image"}, "mine", "a.png cannot be read as an image: its format is unknown$"),
        ({"a.png": b""}, "mine", "a.png cannot be read as an image: its format is unknown$"),
        ({"my cat.png": picture()}, "mine", "my cat.png: a name must be .* for instance to my_cat.png$"),
        ({"-é.png": picture()}, "mine", "a name must be .* for instance to __.png$"),
        ({"a.png": picture(), "a.jpg": picture()}, "mine", "the same name but for the suffix; rename one of them$"),
        ({"a.JPG": picture()}, "mine", "a.JPG: only .png and .jpg are read; rename it to a.jpg$"),
        ({"a.jpeg": picture()}, "mine", "a.jpeg: only .png and .jpg are read; rename it to a.jpg$"),
        ({"a.png": picture(), "b.tif": b""}, "mine", "b.tif: only .png and .jpg are read; save it as PNG"),
        ({"a.png": picture()}, "bsd68", "--name bsd68: the benchmark has a data set of this name"),
        ({"a.png": picture()}, "My-Photos", "--name 'My-Photos': must be lower-case letters, digits and _"),
        ({"a.png": picture()}, "on", "--name 'on': must be "),
    ],
)
def test_what_cannot_be_used_is_one_line_and_nothing_is_written(
    place: Place, files: dict[str, bytes], name: str, message: str
) -> None:
    place.put("L")
    for file, content in files.items():
        (place.folder / file).write_bytes(content)
    before = place.texts()
    for replace in (False, True):
        with pytest.raises(UserError, match=message) as caught:
            place.register(name, replace)
        assert "\n" not in str(caught.value)
    assert place.texts() == before
    assert not place.cache.exists()


def test_wrong_options_are_named(place: Place) -> None:
    with pytest.raises(UserError, match=r"--source 'http://x': expected an address that begins with https://"):
        place.register(source="http://x")
    with pytest.raises(UserError, match=r"--title '': expected some text"):
        place.register(title="")
    with pytest.raises(UserError, match="no such folder"):
        register.register(place.folder / "none", "mine", place.cache, registry=place.registry)
    assert not place.cache.exists()


def test_a_disk_that_refuses_is_one_line(place: Place, capsys: pytest.CaptureFixture) -> None:
    place.cache.write_text("no folder")
    with pytest.raises(UserError, match="cannot write"):
        place.register()


def test_the_command_refuses_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    line = ["register", str(tmp_path / "none"), "--name", "mine", "--config", str(ROOT / "config.yaml")]
    assert command.main(line) == 2
    assert capsys.readouterr().err == f"error: {tmp_path / 'none'}: no such folder\n"


# What is written


@pytest.mark.parametrize(("mode", "channels", "task"), [("L", 1, "denoise_gray"), ("RGB", 3, "denoise_color")])
def test_a_folder_becomes_a_data_set(place: Place, mode: str, channels: int, task: str, no_network: None) -> None:
    place.put(mode, "a10.png", "a9.png")
    (place.folder / "read me.txt").write_text("not an image")
    old = place.known()
    said = place.register(title="My photos: a test", licence="CC0", source="https://example.org/x")
    made = place.known()["mine"]
    assert (made.title, made.split, made.channels, made.licence) == ("My photos: a test", "test", channels, "CC0")
    assert [file.url for file in made.files] == ["local:mine/a9.png", "local:mine/a10.png"]
    assert place.cached() == ["local/mine/a10.png", "local/mine/a9.png"]
    assert {name: found for name, found in place.known().items() if name != "mine"} == old

    assert [path.read_bytes() for path in datasets.fetch("mine", place.cache)] == [picture(mode, n) for n in (1, 0)]
    images = datasets.load("mine", place.cache)
    assert [(name, image.shape) for name, image in images] == [("a9", (channels, 40, 48)), ("a10", (channels, 40, 48))]
    assert datasets.manifest("mine", place.cache)["digest"] == made.digest
    assert set(datasets.image_hashes("mine", place.cache).values()) == {"a9.png", "a10.png"}

    assert f"{task}: {{dataset: mine" in said and "2 images" in said
    assert ("crop: null" in said) == (channels == 3), "40 pixels are fewer than the crop of colour images"


def test_the_files_stay_as_they_were_but_for_the_new_lines(place: Place) -> None:
    before = [text.splitlines() for text in place.texts()]
    place.register()
    after = [text.splitlines() for text in place.texts()]
    assert [line for line in after[0] if not line.startswith("mine,")] == before[0]
    assert after[1][: len(before[1])] == before[1] and after[1][len(before[1]) + 1] == "mine:"
    rows = [line.split(",")[:2] for line in after[0][1:]]
    assert rows == sorted(rows, key=lambda row: [datasets.natural(field) for field in row])


def test_colour_becomes_gray_where_that_is_asked_for(place: Place) -> None:
    (place.folder / "b.png").write_bytes(picture("RGB"))
    assert "denoise_gray" in place.register(gray=True)
    assert [image.shape[0] for _, image in datasets.load("mine", place.cache)] == [1, 1, 1]
    assert "registered already" in place.register(), "what is not said again stays"


@pytest.mark.parametrize("split", ["test", "validation", "train"])
def test_the_next_command_is_one_that_the_configuration_takes(place: Place, split: str) -> None:
    place.put("RGB", "a.png")
    words = shlex.split(place.register(split=split).splitlines()[1])
    assert words[:4] == ["next:", ".venv/bin/snakemake", "--cores", "2"] and words[5] == "--config"
    given = {key: yaml.safe_load(value) for key, _, value in (word.partition("=") for word in words[6:])}
    made = configfile.load([ROOT / "config.yaml"], given)
    assert made.results == "results/mine"
    if split == "train":
        assert made.training.color.datasets == ["mine"]
        assert words[4] == str(methods.trained(made, "color"))
        return
    assert made.tables.table1.tasks == ["denoise_color"]
    used = made.tuning.tasks["denoise_color"] if split == "validation" else made.tasks.denoise_color
    assert (used.dataset, used.crop) == ("mine", 40 if split == "validation" else None)
    assert made.tuned("denoise_color") == (split == "validation")


def test_images_that_another_split_has_are_named(place: Place) -> None:
    place.register()
    said = place.register("mine_val", split="validation").splitlines()
    assert said[1] == "caution: a9.png and 1 more of these images are in mine, which is for test"
    assert len(place.register("mine_too").splitlines()) == 3 and "mine_val" in place.register("mine_3").splitlines()[1]
    assert len(place.register("mine_too", replace=True).splitlines()) == 1


# Once more


def test_registering_again_changes_nothing_and_brings_copies_back(place: Place) -> None:
    place.register(title="Mine")
    before = place.texts()
    (place.cache / "local/mine/a9.png").unlink()
    (place.cache / "local/mine/a10.png").write_bytes(b"damaged")
    assert place.register() == "mine is registered already, with the same 2 images; the registry stays as it is"
    assert place.texts() == before
    assert len(datasets.load("mine", place.cache)) == 2


def test_changes_are_made_only_when_asked_for(place: Place) -> None:
    place.register(title="Mine", licence="CC0")
    with pytest.raises(UserError, match="is registered already, with other title; --replace changes it"):
        place.register(title="Other")
    path = place.registry / "datasets.yaml"
    path.write_text(place.texts()[1] + "\nlast:\n" + path.read_text().split("\nmine:\n")[1])
    files = place.registry / "files.csv"
    files.write_text(files.read_text() + f"last,a.png,local:last/a.png,{'0' * 64},1\n")
    before, old = place.texts(), place.known()

    place.put("RGB", "b.png", "a9.png")
    with pytest.raises(UserError, match="with other channels, images; --replace"):
        place.register()
    assert place.texts() == before
    assert "mine changed: 2 images, colour" in place.register(replace=True)
    made = place.known()
    assert (made["mine"].title, made["mine"].licence, made["mine"].channels) == ("Mine", "CC0", 3)
    assert [file.name for file in made["mine"].files] == ["a9.png", "b.png"]
    assert {name: made[name] for name in made if name != "mine"} == {name: old[name] for name in old if name != "mine"}
    assert len(datasets.load("mine", place.cache)) == 2
    place.put("L", "a10.png", "a9.png")
    place.register(replace=True)
    assert place.texts()[1] == before[1], "back to where it was, the other blocks untouched"


@pytest.mark.parametrize("allowed", [0, 1])
@pytest.mark.parametrize("replace", [False, True])
def test_an_interruption_leaves_a_registry_that_is_read(
    place: Place, monkeypatch: pytest.MonkeyPatch, allowed: int, replace: bool
) -> None:
    """Killed before the first file is written, or between the two; the same command then goes on."""
    if replace:
        place.register()
        place.put("RGB", "c.png")
    old, written = place.known(), []

    def write(path: Path, text: str) -> None:
        if len(written) == allowed:
            raise KeyboardInterrupt
        path.write_text(text)
        written.append(path.name)

    with monkeypatch.context() as patched:
        patched.setattr(register, "write_text", write)
        with pytest.raises(KeyboardInterrupt):
            place.register(replace=replace)
    assert written == ["files.csv"][:allowed]
    now = place.known()
    assert {name: now[name] for name in now if name != "mine"} == {name: old[name] for name in old if name != "mine"}
    assert ("mine" in now) == replace
    place.register(replace=replace)
    assert len(datasets.load("mine", place.cache)) == (1 if replace else 2)


def test_rows_without_a_block_are_an_error_but_for_ones_own(place: Place) -> None:
    place.register()
    files, blocks = place.texts()
    blocks = blocks.split("\nmine:\n")[0]
    assert "mine" not in datasets.parse(files, blocks), "deleting the block takes the data set out"
    with pytest.raises(UserError, match="'mine' has no block"):
        datasets.parse(files.replace("local:mine/a9", "https://host/a9"), blocks)


def test_a_block_that_cannot_be_found_is_not_written_twice(place: Place) -> None:
    place.register()
    path = place.registry / "datasets.yaml"
    path.write_text(path.read_text().replace("\nmine:\n", '\n"mine":\n'))
    before = place.texts()
    with pytest.raises(UserError, match=r"datasets\.yaml: mine appears twice|edited by hand"):
        place.register(title="Other", replace=True)
    assert place.texts() == before


# Where copies come from


def test_a_mirror_may_have_the_images(place: Place, tmp_path: Path) -> None:
    place.register()
    place.cache.rename(tmp_path / "mirror")
    with pytest.raises(UserError) as caught:
        datasets.fetch("mine", place.cache, jobs=1)
    message = str(caught.value)
    assert str(place.cache / "local/mine/a9.png") in message and "1 other file could not be had" in message
    assert "python -m bench register FOLDER --name mine" in message and "network" not in message
    assert datasets.fetch("mine", place.cache, str(tmp_path / "mirror"))
    assert place.cached() == ["local/mine/a10.png", "local/mine/a9.png"]
    (tmp_path / "empty").mkdir()
    shutil.rmtree(place.cache)
    with pytest.raises(UserError, match=r"nor has the mirror .*empty a file local/mine/a9\.png"):
        datasets.fetch("mine", place.cache, str(tmp_path / "empty"), jobs=1)


def test_a_mirror_may_be_a_server(place: Place, tmp_path: Path) -> None:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *arguments: object) -> None:
            """Keep the tests' output clean."""

    place.register()
    place.cache.rename(tmp_path / "mirror")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path / "mirror"))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        datasets.fetch("mine", place.cache, url)
        assert len(datasets.load("mine", place.cache)) == 2
        shutil.rmtree(place.cache)
        (tmp_path / "mirror/local/mine/a9.png").unlink()
        with pytest.raises(UserError, match=r"a9\.png is not there .* nor has the mirror http"):
            datasets.fetch("mine", place.cache, url)
        server.shutdown()


def test_the_doctor_says_what_is_missing(place: Place) -> None:
    place.register()
    made = place.config()
    assert ("ok", "mine: 2 files") in list(doctor.data(made))
    (place.cache / "local/mine/a9.png").unlink()
    (line,) = [text for kind, text in doctor.data(made) if kind == "FAIL" and "mine" in text]
    assert line.startswith("mine: 1 of 2 files are neither") and "python -m bench register" in line


# Tables and figures


def test_names_of_the_papers_images_are_not_taken_for_them(place: Place) -> None:
    """Neither for the comparison image by image, nor for the authors' noise and the castle's region."""
    _, theirs = authors()["denoise_gray", "sigma25", "deal"]
    about = {"task": "denoise_gray", "setting": "sigma25", "method": "deal", "image": "test003", "seed": "0"}
    column = Column("denoise_gray", "sigma25", "Gray", "σ = 25", "gray/sigma=25", "bsd68", None)
    for name, count in (("bsd68", 1), ("mine", 0)):
        row = about | {"dataset": name, "psnr": str(theirs["test003"]), "ssim": "0.9"}
        result = Result(("denoise_gray", "sigma25", "deal"), [row], None, {})
        method = Method("deal", "DEAL")
        cells = {(method, column): make_cell(column, method, {result.key: result})}
        assert len(notes(Table("table1", "", "", None, [column], [method], cells))) == count


@pytest.mark.parametrize(
    ("names", "image", "shown"),
    [
        (("a.png", "b.png"), {}, "a"),
        (("b.png", "test003.png"), {}, "test003"),
        (("a.png", "b.png"), {"image": "b"}, "b"),
        (("a.png", "b.png"), {"image": None}, "a"),
    ],
)
def test_figures_show_an_image_of_the_set(place: Place, names: tuple[str, ...], image: dict, shown: str) -> None:
    place.put("L", *names)
    place.register()
    made = place.config(**image)
    found = problems.problem(made, "denoising")
    assert [item.image for item in found.items] == [shown] and found.notes == ()
    _, meta, _ = comparison.compare(made, "denoising")
    assert meta["not_zoom"] == CASTLE_ZOOM
    assert (meta["facts"]["images"], meta["facts"]["dataset"]) == (shown, "mine")


def test_a_typing_mistake_is_still_one(place: Place) -> None:
    place.register()
    made = place.config(image="a11")
    with pytest.raises(UserError, match=r"figures.denoising.image: unknown image 'a11'; did you mean 'a1?0?9?'"):
        problems.problem(made, "denoising")


def test_from_a_folder_to_a_table(tmp_path: Path) -> None:
    """Registered by the command, evaluated, in the table without comparison; the figure shows its first image."""
    (tmp_path / "copy").mkdir()
    copy = Repository(tmp_path / "copy")
    (tmp_path / "photos").mkdir()
    for seed in range(3):
        (tmp_path / f"photos/p{seed}.png").write_bytes(picture(seed=seed))
    environment = copy.environment | {"PYTHONPATH": f"{copy.folder}:{copy.folder / 'workflow'}"}

    def bench(*arguments: str) -> str:
        line = [*copy.command()[:2], "bench", *arguments]
        done = subprocess.run(line, cwd=copy.folder, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    real = [(datasets.REGISTRY / name).read_bytes() for name in FILES]
    said = bench("register", str(tmp_path / "photos"), "--name", "mine", "--title", "My photos")
    assert "mine registered: 3 images, gray, for test" in said
    assert [(datasets.REGISTRY / name).read_bytes() for name in FILES] == real, "the copy's registry, not this one"
    words = shlex.split(said)
    next_command = words[words.index("next:") + 4 :]
    assert "tasks={denoise_gray: {dataset: mine}}" in next_command
    # less of everything than config.yaml has, so that there is nothing to download and little to compute
    run = ["figure3", *next_command, "methods=[truth, measurement]", "figures={methods: [measurement]}", "device=cpu"]
    done = copy.snakemake(*run, tiny=False)
    assert done.returncode == 0, done.stdout + done.stderr
    tables = copy.folder / "results/mine/tables"
    table = (tables / "table1.md").read_text()
    assert "Gray was measured on mine, not on the paper's bsd68; it is not compared." in table
    assert "Colour" not in table and "‡" not in table
    with (tables / "table1_per_image.csv").open() as handle:
        assert {row["image"] for row in csv.DictReader(handle)} == {"p0", "p1", "p2"}
    with (tables / "table1_vs_paper.csv").open() as handle:
        assert {row["verdict"] for row in csv.DictReader(handle)} == {"missing"}
    about = json.loads((copy.folder / "results/mine/figures/fig03.json").read_text())
    assert about["zoom"] is None and "p0 (My photos)" in about["caption"]
    done = copy.snakemake(*run, tiny=False)
    assert NOTHING in done.stdout + done.stderr
