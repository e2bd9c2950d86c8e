"""A parcel trains without the rest of the repository, stops in time and goes on elsewhere."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bench import parcel
from bench.config import Config
from bench.errors import UserError
from deal.patches import PackedImages

PHASES = [{"steps": 3, "lr": [1e-3, 1e-4]}]


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> Config:
    values = Config().model_dump()
    for kind in ("gray", "color"):
        values["training"][kind] |= {
            "datasets": [f"embedded_train_{kind}"],
            "validation": f"embedded_val_{kind}",
            "phases": PHASES,
            "batch": 2,
            "patch": 24,
            "outer": [2, 2],
            "algorithm": "fast",
            "cg_tol": 0.1,
            "validate_every": 3,
            "validation_crop": 32,
            "validation_tol": 1e-2,
        }
    return Config.model_validate(values | {"cache": str(tmp_path_factory.mktemp("cache"))})


@pytest.fixture(scope="module")
def gray(config, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("parcel") / "gray"
    parcel.write(config, "gray", folder, 200_000)
    return folder


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    """Without this repository on the path: only what lies in the folder, and the installed packages but ours."""
    command = "import sys; sys.path.insert(0, '.'); import deal; print(deal.__file__); from deal.cli import main; "
    command += "sys.exit(main(sys.argv[1:]))"
    return subprocess.run(
        [sys.executable, "-c", command, "train", ".", "--device", "cpu", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_parcel_trains_alone_stops_and_goes_on_elsewhere(gray, tmp_path):
    here = shutil.copytree(gray, tmp_path / "here")
    first = run(here, "--minutes", "0")
    assert first.returncode == 0, first.stderr
    assert str(here / "deal") in first.stdout
    assert "the same command goes on" in first.stdout
    elsewhere = shutil.copytree(here, tmp_path / "elsewhere")
    second = run(elsewhere)
    assert second.returncode == 0, second.stderr
    assert "complete" in second.stdout
    assert (elsewhere / "gray.safetensors").stat().st_size < 15e6
    assert max(p.stat().st_size for p in (elsewhere / "state").iterdir()) < 15e6


def test_images_are_cut_to_the_size_asked_for(gray, config, tmp_path):
    images = PackedImages(gray / "images.safetensors")
    assert images.shapes.prod(axis=1).sum() <= 200_000
    assert images.shapes[:, 1:].min() >= 24
    with pytest.raises(UserError, match="--max-mb"):
        parcel.write(config, "gray", tmp_path / "none", 100)
    assert not (tmp_path / "none").exists()
    with pytest.raises(UserError, match="exists"):
        parcel.write(config, "gray", gray, 200_000)


def test_colour_takes_its_start_along(config, tmp_path):
    values = config.model_dump()
    values["training"]["color"]["init"] = "gray"
    parcel.write(Config.model_validate(values), "color", tmp_path / "color", 300_000)
    assert json.loads((tmp_path / "color" / "train.json").read_text())["init"] == "init.safetensors"
    done = run(tmp_path / "color")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "color" / "color.safetensors").is_file()


def test_a_folder_without_a_plan_is_named(tmp_path):
    done = run(tmp_path)
    assert done.returncode == 2
    assert "train.json" in done.stderr and len(done.stderr.splitlines()) == 1
