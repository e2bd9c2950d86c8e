"""One evaluation job: its rows, its sidecar, what it survives and what it refuses."""

import csv
import json
import os
from pathlib import Path
from pickle import UnpicklingError

import numpy as np
import pytest
import torch

from baselines import Hyperparameter, Method
from bench import datasets, evaluate, registry
from bench.__main__ import main
from bench.config import Config
from bench.errors import UserError
from bench.plan import Plan
from bench.provenance import verify


class Double(Method):
    """A method that the tests make misbehave."""

    name = "bm3d"
    label = "Double"
    tasks = ("denoise_gray",)
    calls: list[float]
    result = staticmethod(lambda y: y)

    def reconstruct(self, y: torch.Tensor, operator: object, sigma: float) -> torch.Tensor:
        self.calls.append(sigma)
        self.info = {"iterations": 3, "converged": True}
        return self.result(y)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    values = Config().model_dump() | {"results": str(tmp_path / "results"), "cache": str(tmp_path / "cache")}
    values["tasks"]["denoise_gray"] |= {"dataset": "embedded_gray", "crop": 24}
    return Config.model_validate(values)


@pytest.fixture
def double(monkeypatch: pytest.MonkeyPatch) -> Double:
    """Takes the place of BM3D."""
    method = Double()
    method.calls = []
    monkeypatch.setattr(registry, "create", lambda name, config, setting="": method)
    return method


def run(config: Config, method: str = "bm3d", task: str = "denoise_gray") -> list[dict[str, str]]:
    output = Path(config.results) / "evaluate" / task / "sigma25" / f"{method}.csv"
    evaluate.evaluate(config, task, "sigma25", method, output)
    with output.open(newline="") as handle:
        return list(csv.DictReader(handle))


def sidecar(config: Config, method: str = "bm3d") -> dict:
    path = Path(config.results) / "evaluate" / "denoise_gray" / "sigma25" / f"{method}.json"
    return json.loads(path.read_text())


def progress_file(config: Config) -> Path:
    return next((Path(config.results) / ".state" / "evaluate" / "denoise_gray" / "sigma25").glob("*.jsonl"))


def test_truth_and_measurement(config: Config) -> None:
    names = [name for name, _ in datasets.load("embedded_gray", Path(config.cache))]
    rows = run(config, "truth")
    assert [row["image"] for row in rows] == names
    assert {row["psnr"] for row in rows} == {"inf"}
    assert {row["ssim"] for row in rows} == {"1.0"}
    for row in run(config, "measurement"):
        # Closed form, up to the draw of 24×24 values: standard error 10/ln 10 · √(2/576) = 0.26 dB.
        assert float(row["psnr"]) == pytest.approx(20.172, abs=0.8)


def test_row_and_sidecar_follow_the_contract(config: Config, double: Double) -> None:
    row = run(config)[0]
    assert tuple(row) == evaluate.COLUMNS
    assert ",".join(row) == ("task,setting,dataset,image,method,seed,parameters,psnr,ssim,seconds,iterations,converged")
    assert (row["task"], row["setting"], row["dataset"]) == ("denoise_gray", "sigma25", "embedded_gray")
    assert (row["method"], row["seed"], row["parameters"]) == ("bm3d", "0", "{}")
    assert (row["iterations"], row["converged"]) == ("3", "true")
    assert float(row["seconds"]) >= 0
    found = sidecar(config)
    keys = {"missing", "code", "config_digest", "data", "weights", "seed", "packages", "device", "driver"}
    keys |= {"threads", "started", "ended", "peak_memory_bytes", "command"}
    assert keys <= set(found)
    assert found["missing"] is None
    assert found["data"] == {"dataset": "embedded_gray", "digest": datasets.get("embedded_gray").digest}
    assert verify(Path(config.results) / "evaluate/denoise_gray/sigma25/bm3d.csv") is None


def test_noise_is_the_same_for_every_method(config: Config, double: Double) -> None:
    seen: list[torch.Tensor] = []
    double.result = lambda y: (seen.append(y.clone()), y)[1]
    run(config)
    run(config, "measurement")
    half = len(seen) // 2
    assert half and all(torch.equal(a, b) for a, b in zip(seen[:half], seen[half:], strict=True))


def test_finished_images_are_not_done_again(config: Config, double: Double) -> None:
    first = run(config)
    before = list(double.calls)
    assert run(config) == first  # seconds included: these are the old rows
    assert double.calls == before


def test_torn_last_line_is_dropped(config: Config, double: Double) -> None:
    first = run(config)
    path = progress_file(config)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:1]) + lines[1][:20])
    double.calls.clear()
    again = run(config)
    assert len(double.calls) == len(lines) - 1
    assert path.read_bytes().count(b"\n") == len(lines)
    timeless = [[{k: v for k, v in row.items() if k != "seconds"} for row in rows] for rows in (first, again)]
    assert timeless[0] == timeless[1]
    assert again[0]["seconds"] == first[0]["seconds"]


def test_a_longer_run_keeps_what_a_shorter_did(config: Config, double: Double) -> None:
    run(config.model_copy(update={"subset": 1}))
    assert len(double.calls) == 1
    rows = run(config)
    assert len(double.calls) == len(rows) > 1


def test_other_settings_have_other_progress(config: Config, double: Double) -> None:
    run(config)
    count = len(double.calls)
    seeded = config.task("denoise_gray").model_copy(update={"seed": 1})
    tasks = config.tasks.model_copy(update={"denoise_gray": seeded})
    run(config.model_copy(update={"tasks": tasks}))
    assert len(double.calls) == 2 * count


@pytest.mark.parametrize(
    ("result", "complaint"),
    [
        (lambda y: y * float("nan"), "bm3d returned NaN or infinite values for image"),
        (lambda y: y[..., 1:], r"bm3d returned the shape \(1, 1, 24, 23\) for image"),
        (lambda y: y.numpy(), "bm3d returned ndarray for image"),
        (lambda y: 1 / 0, "bm3d failed on image .*: ZeroDivisionError: division by zero"),
    ],
)
def test_a_methods_mistake_names_method_and_image(
    config: Config, double: Double, result: object, complaint: str
) -> None:
    double.result = result
    with pytest.raises(UserError, match=complaint) as caught:
        run(config)
    assert datasets.load("embedded_gray", Path(config.cache))[0][0] in str(caught.value)
    assert not list((Path(config.results)).rglob("*.csv"))


@pytest.mark.parametrize(
    ("image", "complaint"),
    [
        (np.full((1, 32, 32), np.nan, np.float32), "image photo: contains NaN or infinite values"),
        (np.zeros((3, 32, 32), np.float32), "image photo: has 3 channels, this task takes 1"),
    ],
)
def test_a_bad_image_ends_in_one_line(
    config: Config,
    image: np.ndarray,
    complaint: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    from bench.configfile import write_resolved

    monkeypatch.setattr(datasets, "load", lambda *arguments: [("photo", image)])
    output = tmp_path / "out.csv"
    arguments = f"evaluate --task denoise_gray --setting sigma25 --method truth --output {output}".split()
    assert main([*arguments, "--config", str(write_resolved(config))]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == f"error: {complaint}"
    assert not output.exists()
    assert not output.with_suffix(".json").exists()


def test_missing_weights_leave_a_header_and_the_reason(config: Config) -> None:
    rows = run(config.model_copy(update={"weights": "train"}), "deal")
    assert rows == []
    assert "gray.safetensors: not trained yet" in sidecar(config, "deal")["missing"]


def test_weights_that_cannot_be_read_leave_an_empty_cell(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """The published file may not be what was expected: the table is made all the same, and says so."""
    wrong = Path(config.cache) / "drunet.pth"
    wrong.parent.mkdir(parents=True)
    torch.save({"m_tail.weight": torch.zeros(1)}, wrong)
    monkeypatch.setattr(registry, "locate", lambda name, config: wrong)
    assert run(config, "drunet") == []
    reason = sidecar(config, "drunet")["missing"]
    assert reason.startswith("weights drunet_gray cannot be used: ValueError: ") and "drunet.pth" in reason


@pytest.mark.parametrize(
    ("error", "empty"),
    [
        (RuntimeError("Error(s) in loading state_dict for Net"), True),
        (UnpicklingError("invalid load key"), True),
        (EOFError(), True),
        (torch.cuda.OutOfMemoryError("CUDA out of memory"), False),
        (AttributeError("a mistake of the method's"), False),
    ],
)
def test_what_set_up_may_stumble_on(double: Double, error: Exception, empty: bool) -> None:
    def setup(*arguments: object) -> None:
        raise error

    double.setup = setup
    with pytest.raises(evaluate.UnusableWeights if empty else type(error)):
        evaluate.set_up(double, "denoise_gray", 0.1, {"w": {"path": "w.pth"}}, torch.device("cpu"))


def test_a_method_of_the_processor_takes_no_gpu(
    config: Config, double: Double, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(evaluate, "select_device", lambda wanted: asked.append(wanted) or torch.device("cpu"))
    for gpu in (True, False):
        double.gpu = gpu
        run(config, "bm3d")
    assert asked == ["auto", "cpu"]
    plan = Plan(config.model_copy(update={"device": "cuda"}))
    assert [plan.gpu_of(name) for name in ("deal", "tv", "bm3d", "measurement")] == [1, 1, 0, 0]


@pytest.mark.parametrize("dtype", [torch.complex64, torch.bool, torch.int64])
def test_only_real_numbers_are_scored(config: Config, double: Double, dtype: torch.dtype) -> None:
    double.result = lambda y: y.to(dtype)
    with pytest.raises(UserError, match=rf"bm3d returned {dtype} for image .*, expected real numbers, float32"):
        run(config)


def test_an_estimate_with_a_graph_is_scored(config: Config, double: Double) -> None:
    double.result = lambda y: y.clone().requires_grad_()
    assert len(run(config)) > 0


def test_a_list_of_weights_made_for_fewer_settings_is_made_again(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nowhere(name: str, config: Config) -> Path:
        raise registry.MissingWeights("no network")

    monkeypatch.setattr(registry, "locate", nowhere)
    method = registry.create("dncnn", config)
    task = config.tasks.denoise_gray
    values = {"sigmas_255": [25]}, {"sigmas_255": [15, 25]}
    fewer, more = (
        config.model_copy(
            update={"tasks": config.tasks.model_copy(update={"denoise_gray": task.model_copy(update=value)})}
        )
        for value in values
    )
    evaluate.find_weights(fewer, "denoise_gray", method, 25 / 255)
    assert list(evaluate.find_weights(more, "denoise_gray", method, 15 / 255)) == ["dncnn_gray_15"]
    keys = {Plan(which).weights_key("denoise_gray", "dncnn") for which in (fewer, more)}
    assert len(keys) == 2


class Tunable(Double):
    """One hyperparameter, whose value is added to the measurement."""

    tuned_tasks = ("denoise_gray",)

    def hyperparameters_for(self, task: str, sigma: float) -> dict[str, Hyperparameter]:
        return {"shift": Hyperparameter(0.5, 0, 1)}

    def reconstruct(self, y: torch.Tensor, operator: object, sigma: float, *, shift: float) -> torch.Tensor:
        self.calls.append(shift)
        return y + shift


def test_hyperparameters_are_the_papers_or_tuned(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    method = Tunable()
    method.calls = []
    monkeypatch.setattr(registry, "create", lambda name, config, setting="": method)
    row = run(config)[0]
    assert json.loads(row["parameters"]) == {"shift": 0.5}
    assert set(method.calls) == {0.5}

    tuned = config.model_copy(update={"hyperparameters": "tuned"})
    with pytest.raises(UserError, match=r"tuning/denoise_gray/sigma25/bm3d\.json: not tuned yet"):
        run(tuned)
    path = Path(config.results) / "tuning" / "denoise_gray" / "sigma25" / "bm3d.json"
    path.parent.mkdir(parents=True)
    for content, complaint in (
        ("{", "holds no hyperparameters"),
        ('{"hyperparameters": {"other": 1}}', r"has values of \['other'\], bm3d needs \['shift'\]"),
    ):
        path.write_text(content)
        with pytest.raises(UserError, match=complaint):
            run(tuned)
    path.write_text('{"hyperparameters": {"shift": 0.25}}')
    method.calls.clear()
    assert json.loads(run(tuned)[0]["parameters"]) == {"shift": 0.25}
    assert set(method.calls) == {0.25}
    assert sidecar(tuned)["hyperparameters"] == {"shift": 0.25}
    path.write_text('{"hyperparameters": {"shift": 0.125}}')
    run(tuned)
    assert set(method.calls) == {0.25, 0.125}, "other values are other results"


def test_a_task_may_choose_its_hyperparameters(config: Config) -> None:
    section = config.tasks.denoise_gray.model_copy(update={"hyperparameters": "tuned"})
    tasks = config.tasks.model_copy(update={"denoise_gray": section})
    chosen = config.model_copy(update={"tasks": tasks})
    assert chosen.tuned("denoise_gray")
    assert not chosen.tuned("denoise_color")


@pytest.mark.parametrize("task", ["superres_color", "deblur_gray"])
def test_other_tasks_are_evaluated_and_scored_by_their_convention(config: Config, task: str) -> None:
    values = config.model_dump()
    values["tasks"]["superres_color"] |= {"dataset": "embedded_color", "kernels": [0, 2], "factors": [2]}
    values["tasks"]["deblur_gray"] |= {"dataset": "embedded_gray"}
    values["tasks"][task] |= {"crop": 32, "kernel_source": "generated", "subset": 1}
    small = Config.model_validate(values)
    setting = small.task(task).settings()[0]
    output = Path(config.results) / "evaluate" / task / setting / "truth.csv"
    evaluate.evaluate(small, task, setting, "truth", output)
    with output.open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert {row["psnr"] for row in rows} == {"inf"}
    assert len(rows) == (2 if task == "superres_color" else 1)
    assert rows[0]["image"].endswith("_k0") == (task == "superres_color")
    assert json.loads(output.with_suffix(".json").read_text())["convention"]["rounded"] == (task == "deblur_gray")


def test_a_task_that_a_method_does_not_serve(config: Config, double: Double) -> None:
    assert run(config, task="denoise_color") == []
    assert double.calls == []


def test_unknown_setting_is_refused(config: Config) -> None:
    with pytest.raises(UserError, match="unknown setting 'sigma24'; did you mean 'sigma25'"):
        evaluate.evaluate(config, "denoise_gray", "sigma24", "truth", Path(config.results) / "x.csv")


def test_cuda_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from bench.devices import select_device

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert select_device("auto").type == "cpu"
    with pytest.raises(UserError, match="torch finds no CUDA device"):
        select_device("cuda")


def test_a_gpu_that_torch_cannot_use_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A torch built without CUDA beside a driver: an evaluation is slow, a training would take weeks."""
    from bench import devices

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(devices, "cuda_devices", lambda: 1)
    assert devices.select_device("auto").type == "cpu"
    assert capsys.readouterr().err == f"warning: {devices.UNUSABLE}; the CPU computes\n"
    with pytest.raises(UserError, match=r"this torch cannot use it .*set device=cpu"):
        devices.select_device("auto", training=True)
    assert devices.select_device("cpu", training=True).type == "cpu"


def test_jobs_beside_each_other_take_a_gpu_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from bench import devices

    monkeypatch.setattr(devices.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    taken: list[int] = []
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    jobs: list[list[int]] = [[] for _ in range(4)]
    for job in [*jobs, jobs[0]]:
        monkeypatch.setattr(devices, "_claims", job)
        assert devices.select_device("cuda") == torch.device("cuda")
    assert taken == [0, 1, 2, 2], "the fourth shares one, and a job asks once"
    os.close(jobs[1].pop())  # it has ended
    monkeypatch.setattr(devices, "_claims", last := [])
    devices.select_device("auto")
    assert taken[4:] == [1]
    monkeypatch.setattr(devices, "_claims", [])
    monkeypatch.setenv("WORLD_SIZE", "2")
    devices.select_device("cuda")
    for lock in (*jobs[0], *jobs[2], *last):
        os.close(lock)
    assert taken[5:] == [], "processes that share a training have theirs by rank"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["config", "--config", "absent.yaml"], "error: absent.yaml: no such file"),
        (["config", "--set", "subset"], "error: 'subset': expected key=value"),
        (["config", "--set", "wieghts=x"], "error: --config: unknown key 'wieghts'; did you mean 'weights'?"),
        (["table", "table9"], "error: unknown table 'table9'; there are table1"),
        (["convert", "absent.pth", "out.safetensors"], "error: absent.pth: no such file"),
    ],
)  # fmt: skip
def test_verbs_end_in_one_line(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(Path(__file__).resolve().parents[1])
    assert main(arguments) == 2
    assert capsys.readouterr().err.startswith(complaint)


def test_debug_shows_the_traceback() -> None:
    with pytest.raises(UserError):
        main(["--debug", "config", "--set", "subset"])
