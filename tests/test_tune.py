"""Tuning: the chosen values and their trace, what survives a kill, what is refused, the picture."""

import csv
import json
import math
from pathlib import Path
from typing import ClassVar

import pytest
import torch

from baselines import Hyperparameter, Method
from bench import evaluate, registry, tasks, tune, tuning_figure
from bench.__main__ import main
from bench.config import Config
from bench.errors import UserError
from bench.provenance import verify

TASK, SETTING = "denoise_gray", "sigma25"


class Killed(BaseException):
    """As little caught by the code as a SIGKILL."""


class Smooth(Method):
    """y filtered by a Gaussian of variance `width`, scaled by `gain`: the best values are near 1."""

    name = "bm3d"
    label = "Smooth"
    tasks = (TASK, "denoise_color")
    hyperparameters: ClassVar = {"width": Hyperparameter(0.2, 0.01, 40.0)}
    calls: list[dict[str, float]]
    killed_at: int | None = None
    diverges_above = math.inf

    def hyperparameters_for(self, task, sigma):
        return self.hyperparameters if task == TASK else {}

    def reconstruct(self, y, operator, sigma, *, width=0.2, gain=1.0):
        if len(self.calls) == self.killed_at:
            raise Killed
        self.calls.append({"width": width, "gain": gain})
        if width > self.diverges_above:
            return y * math.nan
        frequencies = [2 * math.pi * torch.fft.fftfreq(n) for n in y.shape[-2:]]
        squared = frequencies[0][:, None] ** 2 + frequencies[1] ** 2
        return gain * torch.fft.ifft2(torch.fft.fft2(y) * torch.exp(-0.5 * width * squared)).real.float()


@pytest.fixture
def config(tmp_path: Path) -> Config:
    values = Config().model_dump() | {"results": str(tmp_path / "results"), "cache": str(tmp_path / "cache")}
    values["tasks"][TASK] |= {"dataset": "embedded_gray", "crop": 24}
    values["tuning"] |= {"search": "budget", "evaluations": 12}
    values["tuning"]["tasks"][TASK] = {"dataset": "embedded_train_gray", "subset": 2, "crop": 32}
    return Config.model_validate(values)


@pytest.fixture
def smooth(monkeypatch: pytest.MonkeyPatch) -> Smooth:
    """Takes the place of BM3D."""
    method = Smooth()
    method.calls = []
    monkeypatch.setattr(registry, "create", lambda name, config, setting="": method)
    return method


def changed(config: Config, **changes: object) -> Config:
    """`config` with other keys of the section `tuning`."""
    return config.model_copy(update={"tuning": config.tuning.model_copy(update=changes)})


def run(config: Config, task: str = TASK, setting: str = SETTING) -> tuple[list[dict[str, str]], dict]:
    """The trace and the sidecar."""
    output = Path(config.results) / "tuning" / task / setting / "bm3d.csv"
    tune.tune(config, task, setting, "bm3d", output)
    assert verify(output) is None
    with output.open(newline="") as handle:
        return list(csv.DictReader(handle)), json.loads(output.with_suffix(".json").read_text())


def trace_file(config: Config) -> Path:
    return Path(config.results) / "tuning" / TASK / SETTING / "bm3d.csv"


def timeless(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


@pytest.mark.parametrize("search", ["grid", "budget"])
def test_the_best_of_the_trace_is_chosen_and_near_the_optimum(config: Config, smooth: Smooth, search: str) -> None:
    rows, sidecar = run(changed(config, search=search, evaluations=40))
    assert list(rows[0]) == ["evaluation", "width", "psnr", "images", "seconds"]
    assert [row["evaluation"] for row in rows] == [str(n + 1) for n in range(len(rows))]
    assert float(rows[0]["width"]) == 0.2, "the search starts at the default"
    assert {row["images"] for row in rows} == {"2"}
    best = max(rows, key=lambda row: float(row["psnr"]))
    assert sidecar["hyperparameters"] == {"width": float(best["width"])}
    assert (sidecar["psnr"], sidecar["evaluations"]) == (float(best["psnr"]), len(rows))
    assert sidecar["complete"] and sidecar["missing"] is None
    assert sidecar["data"]["dataset"] == "embedded_train_gray"
    dense = run(changed(config, search="grid", evaluations=60, gamma=1.2, gamma_stop=1.19))[0]
    assert sidecar["psnr"] > max(float(row["psnr"]) for row in dense) - 0.02
    assert sidecar["psnr"] > sidecar["psnr_at_start"] + 0.5


def test_two_parameters(config: Config, smooth: Smooth) -> None:
    smooth.hyperparameters = {**Smooth.hyperparameters, "gain": Hyperparameter(0.5, 0.1, 10.0)}
    rows, sidecar = run(changed(config, evaluations=40))
    assert list(rows[0])[:3] == ["evaluation", "width", "gain"]
    assert 0.85 < sidecar["hyperparameters"]["gain"] < 1.1
    assert sidecar["psnr"] > sidecar["psnr_at_start"] + 10


def test_the_limit_of_evaluations_is_kept_and_said(config: Config, smooth: Smooth, capsys) -> None:
    rows, sidecar = run(changed(config, evaluations=3))
    assert len(rows) == 3 and not sidecar["complete"]
    assert "the search was ended by tuning.evaluations = 3" in capsys.readouterr().out


def test_a_killed_job_goes_on_and_leaves_the_same_trace(config: Config, smooth: Smooth, tmp_path: Path) -> None:
    whole = run(config.model_copy(update={"results": str(tmp_path / "whole")}))[0]
    calls, smooth.calls, smooth.killed_at = list(smooth.calls), [], 5  # in the middle of the third point
    with pytest.raises(Killed):
        run(config)
    assert not trace_file(config).exists()
    state = next((Path(config.results) / ".state" / "tuning" / TASK / SETTING).glob("bm3d-*.jsonl"))
    state.write_bytes(state.read_bytes()[:-20])  # and the last line is torn
    smooth.killed_at = None
    resumed = run(config)[0]
    assert smooth.calls == [*calls[:5], *calls[4:]], "the torn line alone was computed again"
    assert timeless(resumed) == timeless(whole)
    written, smooth.calls = trace_file(config).read_bytes(), []
    run(config)
    assert trace_file(config).read_bytes() == written
    assert smooth.calls == []


def test_a_longer_search_starts_from_what_a_shorter_one_knew(config: Config, smooth: Smooth) -> None:
    short = run(changed(config, evaluations=3))[0]
    smooth.calls.clear()
    rows = run(config)[0]
    assert rows[:3] == short
    assert len(smooth.calls) == 2 * (len(rows) - 3)


def test_points_where_the_method_diverges_are_left(config: Config, smooth: Smooth) -> None:
    smooth.diverges_above = 0.5
    rows, sidecar = run(config)
    assert {(row["psnr"], row["images"]) for row in rows if float(row["width"]) > 0.5} == {("-inf", "1")}
    assert sidecar["hyperparameters"]["width"] <= 0.5
    smooth.diverges_above, smooth.hyperparameters = 0.0, {"width": Hyperparameter(0.3, 0.1, 1.0)}
    with pytest.raises(UserError, match=f"bm3d returned NaN or infinite values at all . points of {TASK} {SETTING}"):
        run(config)


def test_the_evaluation_takes_what_was_chosen(config: Config, smooth: Smooth) -> None:
    tuned = config.model_copy(update={"hyperparameters": "tuned"})
    output = Path(config.results) / "evaluate" / TASK / SETTING / "bm3d.csv"
    with pytest.raises(UserError, match="not tuned yet"):
        evaluate.evaluate(tuned, TASK, SETTING, "bm3d", output)
    chosen = run(config)[1]["hyperparameters"]
    smooth.calls.clear()
    evaluate.evaluate(tuned, TASK, SETTING, "bm3d", output)
    assert {call["width"] for call in smooth.calls} == {chosen["width"]} != {0.2}


def test_a_test_image_among_the_validation_images_is_refused(config: Config, smooth: Smooth) -> None:
    leaking = {TASK: config.tuning.tasks[TASK].model_copy(update={"dataset": "set12"})}
    tested = config.tasks.denoise_gray.model_copy(update={"dataset": "set3_gray"})
    tasks = config.tasks.model_copy(update={TASK: tested})
    message = (
        "tuning.tasks.denoise_gray.dataset: set12 shares 01.png, 02.png, 05.png with the test set set3_gray; "
        "hyperparameters must be chosen on other images"
    )
    with pytest.raises(UserError) as caught:
        run(changed(config, tasks=leaking).model_copy(update={"tasks": tasks}))
    assert str(caught.value) == message
    assert smooth.calls == []


@pytest.mark.parametrize("task", Config().tuning.tasks)
def test_the_papers_validation_images_are_no_test_images(task: str, tmp_path: Path) -> None:
    tune.refuse_test_images(Config(cache=str(tmp_path)), task)


def test_a_task_without_validation_images_is_named(config: Config, smooth: Smooth) -> None:
    with pytest.raises(UserError, match=r"^tuning\.tasks\.denoise_gray is missing"):
        run(changed(config, tasks={}))


def test_a_method_without_hyperparameters_says_so(config: Config, smooth: Smooth, capsys) -> None:
    rows, sidecar = run(config, "denoise_color")
    assert rows == []
    assert sidecar["missing"] == "Smooth has no hyperparameters for denoise_color"
    assert (sidecar["hyperparameters"], sidecar["evaluations"]) == ({}, 0)
    assert "nothing to tune: Smooth has no hyperparameters for denoise_color" in capsys.readouterr().out
    assert (
        run(config, "superres_color", "x2_sigma2.55")[1]["missing"] == "Smooth does not serve the task superres_color"
    )


def test_what_cannot_be_searched_is_refused(config: Config, smooth: Smooth) -> None:
    smooth.hyperparameters = {"width": Hyperparameter(0.0, 0.0, 1.0)}
    with pytest.raises(UserError, match=r"^bm3d: parameter width starts at 0 .* needs a positive start"):
        run(config)


def test_three_parameters_are_not_for_the_grid(config: Config, smooth: Smooth) -> None:
    smooth.hyperparameters = {name: Hyperparameter(0.2, 0.01, 1.0) for name in ("a", "b", "c")}
    with pytest.raises(
        UserError, match=r"bm3d has 3 hyperparameters for denoise_gray and tuning\.search: grid takes two"
    ):
        run(changed(config, search="grid"))


def test_validation_volumes_are_not_reconstructed_with_what_was_chosen_on_them(monkeypatch: pytest.MonkeyPatch) -> None:
    mri = Config().tasks.mri.model_copy(update={"split": "validation"})
    chosen = Config().model_copy(update={"tasks": Config().tasks.model_copy(update={"mri": mri})})
    monkeypatch.setattr(tasks.get("mri"), "hashes", lambda section, cache: {"0": f"pd {section.split}"})
    with pytest.raises(UserError, match=r"^tasks\.mri\.split: validation reconstructs pd validation, on which"):
        tune.refuse_test_images(chosen, "mri")


def test_missing_weights_are_the_reason(config: Config) -> None:
    config = config.model_copy(update={"weights": "train"})
    output = Path(config.results) / "tuning" / "deblur_gray" / "k17_sigma2.55" / "deal.csv"
    tune.tune(config, "deblur_gray", "k17_sigma2.55", "deal", output)
    assert output.read_text() == "evaluation,lmbda,sigma_255,psnr,images,seconds\n"
    assert "gray.safetensors: not trained yet" in json.loads(output.with_suffix(".json").read_text())["missing"]


def test_weights_that_cannot_be_read_are_the_reason_and_no_evaluation_fails(
    config: Config, smooth: Smooth, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreadable(*_: object) -> None:
        raise ValueError("w.pth: m_head.weight is missing")

    monkeypatch.setattr(smooth, "setup", unreadable)
    found = {"w": {"path": "w.pth", "sha256": "0"}}
    monkeypatch.setattr(tune, "obstacle", lambda *_: (None, found))
    monkeypatch.setattr(evaluate, "obstacle", lambda *_: (None, found))
    rows, about = run(config)
    assert rows == [] and about["missing"] == "weights w cannot be used: ValueError: w.pth: m_head.weight is missing"
    output = Path(config.results) / "evaluate" / TASK / SETTING / "bm3d.csv"
    evaluate.evaluate(config.model_copy(update={"hyperparameters": "tuned"}), TASK, SETTING, "bm3d", output)
    assert json.loads(output.with_suffix(".json").read_text())["missing"] == about["missing"]


@pytest.mark.parametrize(
    "rows",
    [
        "evaluation,lmbda,psnr,images,seconds\n1,0.1,29.5,2,0.1\n2,0.3,30.5,2,0.1\n3,0.9,-inf,1,0\n",
        "evaluation,lmbda,sigma,psnr,images,seconds\n1,0.1,5,29.5,2,0.1\n2,0.3,5,30,2,0\n3,0.1,15,28,2,0\n",
        "evaluation,lmbda,sigma,psnr,images,seconds\n1,0.1,5,29.5,2,0.1\n2,0.3,5,-inf,2,0\n",
        "evaluation,psnr,images,seconds\n",
    ],
)
def test_the_picture(rows: str, tmp_path: Path) -> None:
    trace = tmp_path / TASK / SETTING / "deal.csv"
    trace.parent.mkdir(parents=True)
    trace.write_text(rows)
    assert main(["draw_tuning", str(trace)]) == 0
    png, pdf = (trace.with_suffix(suffix).read_bytes() for suffix in (".png", ".pdf"))
    assert png.startswith(b"\x89PNG") and pdf.startswith(b"%PDF")
    assert main(["draw_tuning", str(trace)]) == 0
    assert (png, pdf) == tuple(trace.with_suffix(suffix).read_bytes() for suffix in (".png", ".pdf"))


def test_a_file_that_is_no_trace_is_refused(tmp_path: Path, capsys) -> None:
    path = tmp_path / "x.csv"
    path.write_text("a,b\n1,2\n")
    assert main(["draw_tuning", str(path)]) == 2
    assert f"{path}: the columns are a,b, expected evaluation," in capsys.readouterr().err
    path.write_text("evaluation,p,psnr,images,seconds\n1,x,2,3,4\n")
    with pytest.raises(UserError, match="could not convert string to float"):
        tuning_figure.read(path)
