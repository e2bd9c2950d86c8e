"""The command `deal`."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import data as photographs

from deal.cli import main

GOLDEN = str(Path(__file__).parent / "golden" / "random_gray.pth")


@pytest.fixture
def picture(tmp_path):
    rng = np.random.default_rng(0)
    clean = photographs.camera()[200:248, 200:250]
    Image.fromarray(np.clip(clean + rng.normal(0, 25, clean.shape), 0, 255).astype(np.uint8)).save(tmp_path / "y.png")
    return tmp_path / "y.png"


def test_denoise_writes_an_image(picture, tmp_path, capsys):
    out = tmp_path / "x.png"
    assert main(["denoise", str(picture), "-o", str(out), "--sigma", "25", "--weights", GOLDEN]) == 0
    assert np.asarray(Image.open(out)).shape == (48, 50)
    assert "converged" in capsys.readouterr().out
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x.png", "y.png"]


def test_info_and_convert(tmp_path, capsys):
    assert main(["convert", GOLDEN, str(tmp_path / "w.safetensors")]) == 0
    assert main(["info", str(tmp_path / "w.safetensors")]) == 0
    out = capsys.readouterr().out
    assert "gray model" in out and '"parameters": 468570' in out and '"source": "random_gray.pth"' in out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image": "missing.png"}, "missing.png"),
        ({"sigma": "-3"}, "(0, 50]"),
        ({"sigma": "nan"}, "(0, 50]"),
        ({"weights": "missing.pth"}, "missing.pth: no such file"),
        ({"output": "x.unknown"}, "unknown image format"),
        ({"image": GOLDEN}, "not an image"),
    ],
)
def test_errors_are_one_line(picture, tmp_path, capsys, change, message):
    given = {"image": str(picture), "output": str(tmp_path / "x.png"), "sigma": "25", "weights": GOLDEN} | change
    arguments = [
        "denoise",
        given["image"],
        "-o",
        given["output"],
        "--sigma",
        given["sigma"],
        "--weights",
        given["weights"],
    ]
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error and error.startswith("error: ") and error.count("\n") == 1
    assert [p.name for p in tmp_path.iterdir()] == ["y.png"]
