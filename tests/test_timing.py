"""Times: what is measured and what is not, and a table that never mixes two machines."""

import csv
import hashlib
import json
import time
from functools import partial
from pathlib import Path

import pytest
import torch

from baselines import Method
from bench import evaluate, layouts, registry, tasks, timing, timing_table
from bench.config import Config
from bench.errors import UserError
from bench.items import Item
from bench.provenance import verify
from deal.operators import Identity


class Sleeper(Method):
    """Takes a known time, and much longer where that must not count."""

    name = "deal"
    label = "Sleeper"
    tasks = ("denoise_gray",)
    setup_calls = 0

    def __init__(self) -> None:
        super().__init__()
        self.shapes: list[tuple[int, ...]] = []

    def setup(self, *arguments: object) -> None:
        self.setup_calls += 1
        time.sleep(0.2)

    def reconstruct(self, y: torch.Tensor, operator: object, sigma: float) -> torch.Tensor:
        new = tuple(y.shape) not in self.shapes
        self.shapes.append(tuple(y.shape))
        time.sleep(0.2 if new else 0.01)
        self.info = {"iterations": 7}
        return y


@pytest.fixture
def config(tmp_path: Path) -> Config:
    values = Config().model_dump() | {"results": str(tmp_path / "results"), "cache": str(tmp_path / "cache")}
    values["tasks"]["denoise_gray"] |= {"dataset": "embedded_gray", "crop": 24, "sigmas_255": [25.0]}
    values |= {"device": "cpu", "timing": {"warmup": 1, "repeats": 3, "images": 3}}
    return Config.model_validate(values)


@pytest.fixture
def sleeper(monkeypatch: pytest.MonkeyPatch) -> Sleeper:
    """Takes the place of DEAL, on images of two shapes that take long to make."""
    method = Sleeper()
    monkeypatch.setattr(registry, "create", lambda name, config, setting="": method)
    monkeypatch.setattr(evaluate, "find_weights", lambda *arguments: {})
    monkeypatch.setattr(timing, "find_hyperparameters", lambda *arguments: {})

    def make(name: str, side: int) -> Item:
        time.sleep(0.05)
        x = torch.zeros(1, 1, side, 8)
        return Item(name, x, x, Identity(), 0.1)

    sizes = {"a": 8, "b": 8, "c": 16, "d": 8}
    items = [(name, partial(make, name, side)) for name, side in sizes.items()]
    kind = type("Kind", (), {})()
    kind.items = lambda section, setting, cache, subset: items[:subset]
    kind.data = lambda section, cache: {"dataset": "made_up", "digest": "0"}
    monkeypatch.setattr(tasks, "get", lambda name: kind)
    return method


def run(config: Config, task: str = "denoise_gray") -> tuple[list[dict[str, str]], dict]:
    output = Path(config.results) / "timing" / task / "sigma25" / "deal.csv"
    timing.measure(config, task, "sigma25", "deal", output)
    assert verify(output) is None
    with output.open(newline="") as handle:
        return list(csv.DictReader(handle)), json.loads(output.with_suffix(".json").read_text())


def test_warm_up_set_up_and_loading_do_not_count(config: Config, sleeper: Sleeper) -> None:
    rows, sidecar = run(config)
    assert [(row["image"], row["repeat"]) for row in rows] == [(i, r) for i in "abc" for r in "123"]
    assert all(0.01 <= float(row["seconds"]) < 0.2 for row in rows), rows
    assert {row["iterations"] for row in rows} == {"7"}
    assert sleeper.setup_calls == 1
    # one unmeasured call for each new shape: (8, 8) and (16, 8)
    assert len(sleeper.shapes) == 9 + 2
    assert sidecar["timing"] == {"warmup": 1, "repeats": 3, "images": 3}
    assert sidecar["machine"]["threads"] == torch.get_num_threads()
    assert sidecar["config"]["solver"] == config.solver.for_task("denoise_gray")
    assert sidecar["machine"]["device"] and sidecar["machine"]["torch"] == torch.__version__


def test_the_device_is_waited_for(config: Config, sleeper: Sleeper, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[int] = []
    monkeypatch.setattr(evaluate, "synchronise", lambda device: waited.append(len(sleeper.shapes)))
    run(config)
    assert waited == [n for call in range(11) for n in (call, call + 1)], "before and after every call"


def test_subset_limits_the_images(config: Config, sleeper: Sleeper) -> None:
    rows, _ = run(config.model_copy(update={"subset": 1}))
    assert {row["image"] for row in rows} == {"a"}


def test_failures_and_unserved_tasks(config: Config, sleeper: Sleeper, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, sidecar = run(config, "denoise_color")
    assert rows == [] and sidecar["missing"] == "Sleeper does not serve the task denoise_color"
    monkeypatch.setattr(sleeper, "reconstruct", lambda *arguments: 1 / 0)
    with pytest.raises(UserError, match="deal failed on image a: ZeroDivisionError: division by zero"):
        run(config)


# The table

MACHINE = {"device": "GPU A", "processor": "CPU", "cores": 8, "threads": 4, "driver": "1", "torch": "2"}
PD = "single-coil/acceleration=4/PD"


class Made:
    """Writes timing files below a folder."""

    def __init__(self, root: Path) -> None:
        self.root, self.paths = root, []

    def put(self, setting: str, method: str, seconds: dict[str, list[float]], missing: str | None = None,
            parameters: dict | None = None, **machine):  # fmt: skip
        path = self.root / "timing" / "mri" / setting / f"{method}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = [
            {"task": "mri", "setting": setting, "dataset": "mri_zenodo", "image": i, "method": method}
            | {"repeat": r, "seconds": s, "iterations": 3}
            for i, values in seconds.items()
            for r, s in enumerate(values, 1)
        ]
        with path.open("w", newline="") as handle:
            writer = csv.DictWriter(handle, timing_table.COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        output = {"name": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
        about = {"machine": MACHINE | machine, "timing": {"warmup": 1, "repeats": 3, "images": 2}}
        about["parameters"] = parameters
        path.with_suffix(".json").write_text(json.dumps({"missing": missing, "output": output, **about}))
        self.paths.append(path)
        return path

    def build(self, layout: dict) -> timing_table.TimingTable:
        return timing_table.build(layout, timing_table.Timing.read(self.paths))


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return Made(tmp_path)


LAYOUT = {
    "table": "table4",
    "caption": "MRI, seconds",
    "columns": [
        {"task": "mri", "setting": "single4_pd", "group": "4-fold", "label": "PD", "paper": PD, "dataset": "mri_zenodo"}
    ],
    "methods": [
        {"name": "wcrr", "label": "WCRR", "paper": "WCRR"},
        {"name": "deal", "label": "DEAL", "paper": "DEAL"},
        {"name": "tv", "label": "TV", "paper": "TV"},
    ],
}


def full(made: Made) -> timing_table.TimingTable:
    solver = {"algorithm": "reference", "tol": 1e-4}
    made.put("single4_pd", "deal", {"a": [2.0, 2.2, 9.0], "b": [4.0, 4.1, 4.3]}, parameters=solver)
    made.put("single4_pd", "wcrr", {"a": [1.0], "b": [1.1]})
    made.put("single4_pd", "tv", {}, missing="TV has no weights & no luck")
    return made.build(LAYOUT)


def test_median_quartiles_and_mean(made: Made) -> None:
    full(made)
    found = timing_table.Timing.read(made.paths)["mri", "single4_pd", "deal"]
    assert found.mean == pytest.approx((2.2 + 4.1) / 2)
    assert found.spread == pytest.approx((2.65, 4.25))  # of 2.0 2.2 4.0 4.1 4.3 9.0
    text = " ".join(timing_table.render_markdown(made.build(LAYOUT)).split())
    assert "4.05 (2.65–4.25)" in text
    assert "GPU A (driver 1), host CPU, 4 of 8 threads, torch 2" in text
    assert "¹ TV has no weights & no luck" in text
    assert "- DEAL: algorithm reference, tol 0.0001." in text
    assert "WCRR:" not in text


def test_paper_stands_beside_with_its_hardware_and_ratios(made: Made) -> None:
    table = full(made)
    rows = {(row["method"], row["setting"]): row for row in table.comparison}
    assert len(rows) == 16
    wcrr = rows["WCRR", PD]
    assert (wcrr["paper"], wcrr["verdict"]) == ("12", "other hardware")
    assert wcrr["paper_ratio"] == pytest.approx(12 / 14)
    assert wcrr["our_ratio"] == pytest.approx(1.05 / 3.15)
    assert rows["SAFI", PD]["reason"] == "not in config.yaml's methods"
    text = timing_table.render_comparison_markdown(table)
    assert "Tesla V100-SXM2-32GB" in text and "GPU A" in text
    assert timing_table.render_comparison_csv(table).count("\n") == 17


def test_times_on_other_data_are_not_compared(made: Made) -> None:
    made.put("single4_pd", "deal", {"a": [1.0]})
    other = {**LAYOUT, "columns": [{**LAYOUT["columns"][0], "dataset": "mri_else"}]}
    table = made.build(other)
    row = next(row for row in table.comparison if row["method"] == "DEAL" and row["setting"] == PD)
    assert (row["verdict"], row["reason"]) == ("missing", "measured on mri_zenodo, not on the paper's mri_else")
    assert "ours" not in row
    assert "Caution: 4-fold was measured on mri_zenodo" in timing_table.render_markdown(table)


def test_a_cell_without_a_file_is_told_from_one_that_cannot_be(made: Made) -> None:
    made.put("single4_pd", "deal", {"a": [1.0]})
    shown = [
        {**method, "tasks": ["mri"] if method["name"] == "deal" else ["denoise_gray"]} for method in LAYOUT["methods"]
    ]
    column = {**LAYOUT["columns"][0], "setting": "multi8_pd"}
    table = made.build({**LAYOUT, "methods": shown, "columns": [column]})
    found = {method["label"]: table.missing(method, column) for method in shown}
    assert found["DEAL"] == "not measured: there is no file of times"
    assert found["WCRR"] == "WCRR does not serve the task mri"


def test_all_forms_are_rendered_and_latex_is_escaped(made: Made) -> None:
    table = full(made)
    for suffix, render in timing_table.RENDERERS.items():
        assert render(table).endswith("\n"), suffix
        assert render(table) == render(made.build(LAYOUT))
    assert r"no weights \& no luck" in timing_table.render_latex(table)
    assert json.loads(timing_table.render_sidecar(table))["machine"] == MACHINE
    from bench.render import RENDERERS

    assert list(timing_table.RENDERERS) == list(RENDERERS), "publishing copies the same files of every table"


@pytest.mark.parametrize(("key", "value"), [("device", "GPU B"), ("threads", 2), ("torch", "3")])
def test_two_machines_are_refused(made: Made, key: str, value: object) -> None:
    made.put("single4_pd", "deal", {"a": [1.0]})
    made.put("single4_pd", "wcrr", {"a": [1.0]}, **{key: value})
    with pytest.raises(UserError) as caught:
        made.build(LAYOUT)
    assert f"{key} is {MACHINE[key]} for mri/single4_pd/deal and {value} for mri/single4_pd/wcrr" in str(caught.value)


def test_a_cell_without_times_does_not_choose_the_machine(made: Made) -> None:
    made.put("single4_pd", "deal", {"a": [1.0]})
    made.put("single4_pd", "wcrr", {}, missing="no weights", device="GPU B")
    assert made.build(LAYOUT).machine == MACHINE


def test_damaged_files_are_refused(made: Made) -> None:
    path = made.put("single4_pd", "deal", {"a": [1.0]})
    path.write_text(path.read_text().replace("1.0", "0.5"))
    with pytest.raises(UserError, match=r"deal\.csv: sha256 .*; run its job again"):
        timing_table.Timing.read([path])
    path.unlink()
    with pytest.raises(UserError, match=r"deal\.csv: no such file; run its job again"):
        timing_table.Timing.read([path])


def test_layout_of_table_4() -> None:
    config = Config()
    layout = layouts.timing_layout(config, "table4")
    papers = {row["setting"] for row in timing_table.paper_values("table4")}
    assert {column["paper"] for column in layout["columns"]} == papers
    names = [method["name"] for method in layout["methods"]]
    assert "deal" in names and not {"truth", "measurement", "bm3d"} & set(names)
    expected = {("mri", c["setting"], m) for c in layout["columns"] for m in names}
    assert set(layouts.results(config, "table4")) == expected
