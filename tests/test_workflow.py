"""The workflow run for real, in a copy of the repository, on crops of embedded photographs."""

import csv
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from bench import rulegraph

ROOT = Path(__file__).resolve().parents[1]
PARTS = ["Snakefile", "config.yaml", "environment.yml", "profiles", "workflow", "baselines", "deal"]
TINY = {
    "results": "results/tiny",
    "device": "cpu",
    "weights": "released",
    "methods": ["truth", "measurement", "bm3d"],
    "tasks": {"denoise_gray": {"dataset": "embedded_gray", "crop": 40, "sigmas_255": [25]}},
    "tables": {"table1": {"tasks": ["denoise_gray"]}},
    "training": {
        "gray": {
            "datasets": ["embedded_train_gray"],
            "validation": "embedded_val_gray",
            "phases": [{"steps": 4, "lr": [5e-4, 1e-4]}],
            "batch": 1,
            "patch": 16,
            "outer": [2, 2],
            "algorithm": "fast",
            "cg_tol": 1e-2,
            "validate_every": 4,
            "validation_crop": 16,
            "validation_tol": 1e-2,
            "checkpoint_every_s": 0,
        }
    },
}
TABLE = "results/tiny/tables/table1.csv"
NOTHING = "Nothing to be done"


class Repository:
    """A copy of the repository, with a small configuration laid over config.yaml."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for part in PARTS:
            copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copyfile
            copy(ROOT / part, folder / part)
        (folder / "tiny.yaml").write_text(yaml.safe_dump(TINY))
        # Time to kill a job between two images.
        self.edit(
            "baselines/bm3d.py",
            "        estimates = []",
            "        __import__('time').sleep(0.5)\n        estimates = []",
        )
        self.environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        for name in ("DEAL_MIRROR", "PYTHONPATH"):
            self.environment.pop(name, None)

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "snakemake", "--cores", "2", *arguments]

    def snakemake(self, *arguments: str, tiny: bool = True) -> subprocess.CompletedProcess[str]:
        extra = ["--configfile", "tiny.yaml"] if tiny else []
        return subprocess.run(
            self.command(*arguments, *extra),
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
        )

    def ran(self, *arguments: str) -> str:
        done = self.snakemake(*arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def planned(self, *arguments: str) -> dict[str, int]:
        """Rule → number of jobs of a dry run of table1."""
        text = self.ran("table1", "-n", *arguments)
        if NOTHING in text:
            return {}
        table = text.split("Job stats:")[1].split("total")[0].splitlines()[3:]
        return {line.split()[0]: int(line.split()[1]) for line in table if line.strip()}

    def edit(self, path: str, before: str, after: str) -> str:
        """Replace text in a file; returns the old content, for putting it back."""
        content = (self.folder / path).read_text()
        assert before in content
        (self.folder / path).write_text(content.replace(before, after, 1))
        return content

    def tables(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in (self.folder / "results/tiny/tables").iterdir()}

    def killed(self, verb: str, watched: str, line: int) -> None:
        """Start Snakemake and SIGKILL the job `verb` once a file like `watched` has so many lines."""
        target = "table1" if verb.startswith("evaluate") else "results/tiny/training/gray.safetensors"
        command = self.command(target, "--configfile", "tiny.yaml")
        with (self.folder / "killed.log").open("w") as log:
            running = subprocess.Popen(command, cwd=self.folder, env=self.environment, stdout=log, stderr=log)
        while not any(path.read_bytes().count(b"\n") >= line for path in self.folder.glob(watched)):
            assert running.poll() is None, (self.folder / "killed.log").read_text()
            time.sleep(0.05)
        jobs = [pid for pid, line in descendants(running.pid).items() if f"bench {verb}" in line]
        assert jobs, "the job was not found"
        for job in jobs:
            os.kill(job, signal.SIGKILL)
        assert running.wait(timeout=120) != 0


def descendants(ancestor: int) -> dict[int, str]:
    """Process id → command line of all that `ancestor` started, directly or not, but for shells."""
    listed = subprocess.run(["ps", "-wweo", "pid=,ppid=,args="], capture_output=True, text=True, check=True)
    rows = [line.split(None, 2) for line in listed.stdout.splitlines()]
    family = {ancestor}
    while more := {int(pid) for pid, parent, *_ in rows if int(parent) in family} - family:
        family |= more
    lines = {int(pid): "".join(rest) for pid, _, *rest in rows if int(pid) in family - {ancestor}}
    return {pid: line for pid, line in lines.items() if "bash" not in line.split(" ")[0]}


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """A copy in which table1 has been made."""
    copy = Repository(tmp_path_factory.mktemp("copy"))
    copy.ran("table1")
    return copy


def test_table_is_made_and_a_second_run_does_nothing(repository: Repository) -> None:
    names = {"table1.csv", "table1_per_image.csv", "table1.tex", "table1.md", "table1.json"}
    assert names | {"table1_vs_paper.csv"} <= set(repository.tables())
    graph = (repository.folder / "results/tiny/rulegraph.dot").read_text()
    assert set(rulegraph.parse(graph)[0].values()) == {"make_table", "evaluate_method", "fetch_dataset"}
    assert NOTHING in repository.ran("table1")
    assert repository.planned() == {}


def test_oracles_are_where_they_must_be(repository: Repository) -> None:
    lines = (repository.folder / TABLE).read_text().splitlines()
    rows = {line.split(",")[2]: dict(zip(lines[0].split(","), line.split(","), strict=False)) for line in lines[1:]}
    assert rows["truth"]["psnr"] == "inf"
    assert abs(float(rows["measurement"]["psnr"]) - 20.172) < 0.5
    assert float(rows["bm3d"]["psnr"]) > float(rows["measurement"]["psnr"]) + 4


def test_comments_and_formatting_rerun_nothing(repository: Repository) -> None:
    edits = {
        "workflow/bench/metrics.py": ("    estimate, reference", "    # a remark\n    estimate, reference"),
        "baselines/bm3d.py": ('"""Block matching', '"""Matching of blocks'),
        "workflow/bench/config.py": ("import json\n", "import json\nimport os.path\n"),
    }
    old = {path: repository.edit(path, *change) for path, change in edits.items()}
    try:
        assert repository.planned() == {}
    finally:
        for path, content in old.items():
            (repository.folder / path).write_text(content)


@pytest.mark.parametrize(
    ("path", "before", "after", "jobs"),
    [
        ("baselines/bm3d.py", "BM3DProfile()", "BM3DProfile( ) or None", 1),
        ("baselines/oracles.py", "return truth", "return truth.clone()", 2),
        ("workflow/bench/metrics.py", "-10.0 * math", "-10 * math", 3),
        ("workflow/bench/stats.py", "RESAMPLES = 9999", "RESAMPLES = 999", 0),
    ],
)
def test_edits_of_imported_modules_rerun_what_they_touch(
    repository: Repository, path: str, before: str, after: str, jobs: int
) -> None:
    content = repository.edit(path, before, after)
    try:
        planned = repository.planned()
    finally:
        (repository.folder / path).write_text(content)
    assert planned.get("evaluate_method", 0) == jobs
    assert planned["make_table"] == 1
    assert "fetch_dataset" not in planned


def test_a_syntax_error_in_the_library_is_one_line(repository: Repository) -> None:
    content = repository.edit("baselines/bm3d.py", "def reconstruct(", "def reconstruct((")
    try:
        done = repository.snakemake("table1", "-n")
    finally:
        (repository.folder / "baselines/bm3d.py").write_text(content)
    assert done.returncode != 0
    assert "baselines/bm3d.py: line " in done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_only_what_depends_on_a_key_is_run_again(repository: Repository) -> None:
    assert repository.planned("--config", "tasks={denoise_color: {seed: 3}}") == {}
    more = repository.planned("--config", "tasks={denoise_gray: {sigmas_255: [15, 25]}}")
    assert more["evaluate_method"] == 3
    fewer = repository.planned("--config", "methods=[truth,bm3d]")
    assert "evaluate_method" not in fewer
    assert repository.planned("--config", "subset=1")["evaluate_method"] == 3
    elsewhere = repository.planned("--config", "results=results/other")
    assert "fetch_dataset" not in elsewhere, "the cache is shared"


def test_a_killed_evaluation_goes_on_and_the_tables_are_the_same_bytes(repository: Repository) -> None:
    before = repository.tables()
    results = repository.folder / "results/tiny"
    for name in (".state", "evaluate", "tables"):
        shutil.rmtree(results / name)
    state = "results/tiny/.state/evaluate/denoise_gray/sigma25/bm3d-*.jsonl"
    repository.killed("evaluate --task denoise_gray --setting sigma25 --method bm3d", state, 1)
    path = next(repository.folder.glob(state))
    kept = path.read_bytes().splitlines()
    assert 1 <= len(kept) < 3
    assert not (results / "evaluate/denoise_gray/sigma25/bm3d.csv").exists()
    repository.ran("table1")
    assert path.read_bytes().splitlines()[: len(kept)] == kept, "finished images were computed again"
    assert repository.tables() == before


def test_a_killed_snakemake_locks_out_nobody(repository: Repository) -> None:
    """Its jobs live on; the next run takes the dead one's lock away and waits for them."""
    before, results = repository.tables(), repository.folder / "results/tiny"
    for name in (".state", "evaluate", "tables"):
        shutil.rmtree(results / name)
    command = repository.command("table1", "--configfile", "tiny.yaml")
    with (repository.folder / "killed.log").open("w") as log:
        running = subprocess.Popen(command, cwd=repository.folder, env=repository.environment, stdout=log, stderr=log)
    while not list(results.glob(".state/evaluate/denoise_gray/sigma25/*.jsonl")):
        assert running.poll() is None, (repository.folder / "killed.log").read_text()
        time.sleep(0.05)
    running.kill()
    running.wait()
    assert list((repository.folder / ".snakemake/locks").glob("*.lock"))
    assert f"the run of process {running.pid} was killed" in repository.ran("table1")
    assert repository.tables() == before
    assert not (repository.folder / ".snakemake/holder.json").exists()


def test_a_job_that_fails_loses_only_itself(repository: Repository) -> None:
    before, results = repository.tables(), repository.folder / "results/tiny"
    for name in (".state", "evaluate", "tables"):
        shutil.rmtree(results / name)
    broken = "raise RuntimeError('CUDA error: an illegal memory access was encountered')"
    line = "        estimates = []"
    content = repository.edit("baselines/bm3d.py", line, f"        {broken}\n{line}")
    done = repository.snakemake("table1")
    (repository.folder / "baselines/bm3d.py").write_text(content)
    assert done.returncode != 0
    assert "error: bm3d failed on image camera: RuntimeError: CUDA error" in done.stdout + done.stderr
    made = {path.stem for path in results.glob("evaluate/denoise_gray/sigma25/*.csv")}
    assert made == {"truth", "measurement"}
    text = repository.ran("table1")
    assert "--method bm3d" in text and "--method truth" not in text
    assert repository.tables() == before


def test_a_killed_training_goes_on(repository: Repository) -> None:
    folder = repository.folder / "results/tiny"
    repository.ran("results/tiny/training/gray.safetensors")
    whole = (folder / "training/gray.safetensors").read_bytes()
    shutil.rmtree(folder / ".state/training")
    (folder / "training/gray.safetensors").unlink()
    repository.killed("train --kind gray", "results/tiny/.state/training/gray-*/log.csv", 2)
    assert not (folder / "training/gray.safetensors").exists()
    assert list(folder.glob(".state/training/gray-*/state.pt")), "Snakemake took the training's state away"
    text = repository.ran("results/tiny/training/gray.safetensors")
    assert "0/4" not in text, "the training began again"
    assert (folder / "training/gray.safetensors").read_bytes() == whole
    sidecar = json.loads((folder / "training/gray.json").read_text())
    assert sidecar["training"]["phases"][0]["steps"] == 4


def test_ablations_are_trained_evaluated_and_tabled(repository: Repository) -> None:
    schedule = {key: v for key, v in TINY["training"]["gray"].items() if key not in ("datasets", "validation")}
    schedule |= {"phases": [{"steps": 2, "lr": [5e-4, 1e-4]}], "validate_every": 2}
    variants = {"narrow": {"filters": 4}, "free": {"filters": 4, "kernel_size": 5, "non_decreasing": False}}
    overlay = {
        "results": "results/ablated",
        "subset": 1,
        "tasks": {"denoise_gray": {"crop": 32}},
        "solver": {"algorithm": "fast", "tol": 1e-2, "max_outer": 40},
        "ablations": {"names": list(variants), "variants": variants, "schedule": schedule},
    }
    (repository.folder / "ablated.yaml").write_text(yaml.safe_dump(overlay))
    run = ["ablations", "--configfile", "tiny.yaml", "ablated.yaml"]
    done = repository.snakemake(*run, tiny=False)
    assert done.returncode == 0, done.stdout + done.stderr
    folder = repository.folder / "results/ablated"
    with (folder / "tables/ablations.csv").open(newline="") as handle:
        narrow, free = csv.DictReader(handle)
    assert list(narrow.values())[:5] == ["narrow", "4", "9", "non-decreasing", "11506"]
    assert list(free.values())[:5] == ["free", "4", "5", "free", "3890"]
    for row in (narrow, free):
        assert 5 < float(row["psnr_sigma25"]) < 50 and row["missing"] == ""
        assert row["reconstructions"] == "1" and int(row["updates_most"]) >= 1
        training = json.loads((folder / f"ablations/{row['variant']}/training/gray.json").read_text())["training"]
        assert training["architecture"]["filters"] == 4 and training["phases"][0]["steps"] == 2
    text = (folder / "tables/ablations.md").read_text()
    assert "by one schedule: 2 steps from random weights, seed 0." in text and "Caution: the" not in text
    weights = json.loads((folder / "tables/ablations.json").read_text())["provenance"]["weights"]
    assert {name for entry in weights for name in entry} == {"deal_gray of narrow", "deal_gray of free"}
    assert (folder / "figures/ablation_sizes.png").is_file()
    again = repository.snakemake(*run, tiny=False)
    assert NOTHING in again.stdout + again.stderr
    # Another schedule: whoever asked for the table would train anew. The report only shows what is there.
    shorter = ["--config", "ablations={schedule: {phases: [{steps: 1, lr: [1e-4, 1e-4]}]}}"]
    planned = repository.snakemake("ablations", "-n", *run[1:], *shorter, tiny=False).stdout
    assert "rule train_ablation" in planned
    planned = repository.snakemake("report", "-n", *run[1:], *shorter, tiny=False).stdout
    assert "rule make_report" in planned and "train_ablation" not in planned
    assert "figures/ablation_sizes.png --config" in planned


def test_typos_are_refused_in_one_line(repository: Repository) -> None:
    for setting, complaint in [
        ("wieghts=released", "error: --config: unknown key 'wieghts'; did you mean 'weights'?"),
        (
            "tasks={denoise_gray: {sigma: 5}}",
            "unknown key 'tasks.denoise_gray.sigma'; did you mean 'sigmas_255'?",
        ),
        ("methods=[bmd3]", "error: methods: unknown method 'bmd3'; did you mean 'bm3d'?"),
        ("methods=[bm3d, bm3d]", "error: configuration: methods: 'bm3d' is named twice; name it once"),
        ("figures={names: [fig99]}", "error: figures.names: unknown figure 'fig99'; did you mean 'fig09'?"),
        ("tasks={mri: {source: fastmri}}", "error: tasks.mri.path is null, expected the folder of fastMRI's"),
        ("subset=many", "error: --config: subset is 'many', expected a whole number"),
    ]:
        done = repository.snakemake("table1", "--config", setting, "results=results/typo")
        text = done.stdout + done.stderr
        assert done.returncode != 0
        assert complaint in text
        assert "Traceback" not in text
        assert sum("error" in line.lower() for line in text.splitlines()) == 1
    assert not (repository.folder / "results/typo").exists()


def test_a_mistake_in_a_file_names_the_file(repository: Repository) -> None:
    (repository.folder / "wrong.yaml").write_text("solver: {tol: small}\n")
    done = repository.snakemake("table1", "--configfile", "wrong.yaml", tiny=False)
    assert done.returncode != 0
    assert "error: wrong.yaml: solver.tol is 'small', expected a number" in done.stderr


def test_training_does_not_begin_on_a_cpu_by_accident(repository: Repository) -> None:
    done = repository.snakemake("table1", "--config", "results=results/paper", tiny=False)
    text = done.stdout + done.stderr
    assert done.returncode != 0
    lines = [line for line in text.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    for choice in ("weights=released", "weights=official", "device=cpu"):
        assert choice in lines[0]
    assert "Traceback" not in text
    assert not (repository.folder / "results/paper").exists()
    assert not list((repository.folder / ".snakemake/locks").glob("*")), "the folder stayed locked"


def test_dry_run_of_the_paper_is_quick(repository: Repository) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = repository.snakemake("-n", tiny=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0
    assert "train_deal" in done.stdout + done.stderr
    assert "train_ablation" not in done.stdout + done.stderr, "ablations are not part of `all`"
    # Processor time, so that other work on the machine does not count.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 10


@pytest.mark.parametrize("target", ["figures", "report"])
def test_quick_downloads_no_mri_data_and_searches_nothing(repository: Repository, target: str) -> None:
    done = repository.snakemake(target, "-n", "--configfile", "workflow/config/quick.yaml", tiny=False)
    text = done.stdout + done.stderr
    assert done.returncode == 0, text
    assert "rule prepare_mri" in text and "data/mri/phantom-" in text
    assert "zenodo" not in text and "tune_method" not in text and "train_deal" not in text


def test_a_figure_that_cannot_be_is_refused_before_any_job(repository: Repository) -> None:
    fewer = ["--config", "tasks={denoise_gray: {sigmas_255: [5, 15]}}"]
    done = repository.snakemake("figures", "-n", *fewer)
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.returncode != 0 and "Traceback" not in done.stderr
    assert lines == [
        "error: figures.denoising.setting: unknown setting 'sigma25'; tasks.denoise_gray has sigma5, sigma15"
    ]
    assert repository.planned(*fewer)["make_table"] == 1


def test_missing_weights_leave_a_reason_in_the_table(repository: Repository) -> None:
    content = "import shutil, pathlib; shutil.rmtree('deal/released'); pathlib.Path('deal/released').mkdir()"
    subprocess.run([sys.executable, "-c", content], cwd=repository.folder, check=True)
    repository.ran("table1", "--config", "methods=[measurement,deal]", "results=results/absent")
    tables = repository.folder / "results/absent/tables"
    assert "not shipped with this installation" in (tables / "table1.md").read_text()


BLEND = """
from typing import ClassVar

import torch

from baselines import Hyperparameter, Method


class Blend(Method):
    name = "blend"
    label = "Blend"
    tasks = ("denoise_gray", "denoise_color")
    hyperparameters: ClassVar = {"weight": Hyperparameter(0.9, 0.01, 1.0)}
    tuned_tasks = ("denoise_gray",)

    def reconstruct(self, y, operator, sigma, *, weight):
        return weight * y + (1 - weight) * torch.nn.functional.avg_pool2d(y, 3, 1, 1, count_include_pad=False)
"""


def test_tuned_hyperparameters_reach_the_table(repository: Repository) -> None:
    (repository.folder / "baselines" / "blend.py").write_text(BLEND)
    validation = "{dataset: embedded_val_gray, crop: 32}"
    tuning = f"tuning={{search: budget, evaluations: 9, tasks: {{denoise_gray: {validation}}}}}"
    run = ["--config", "methods=[measurement,blend]", "results=results/tuned", "hyperparameters=tuned", tuning]
    try:
        assert repository.planned(*run)["tune_method"] == 1
        repository.ran("table1", "tune", *run)
        assert repository.planned(*run) == {}
        more = repository.planned(*run[:-1], tuning.replace("9", "8"))
    finally:
        (repository.folder / "baselines" / "blend.py").unlink()
    assert (more["tune_method"], more["evaluate_method"]) == (1, 1)
    folder = repository.folder / "results/tuned/tuning/denoise_gray/sigma25"
    assert {path.name for path in folder.iterdir()} == {f"blend.{kind}" for kind in ("csv", "json", "png", "pdf")}
    chosen = json.loads((folder / "blend.json").read_text())["hyperparameters"]
    assert 0.01 <= chosen["weight"] < 0.9
    rows = (repository.folder / "results/tuned/evaluate/denoise_gray/sigma25/blend.csv").read_text().splitlines()
    assert len(rows) > 1 and all(f'{{""weight"":{chosen["weight"]}}}' in row for row in rows[1:])


def test_lint_and_format_are_clean() -> None:
    linted = subprocess.run([sys.executable, "-m", "snakemake", "--lint"], cwd=ROOT, capture_output=True, text=True)
    assert linted.returncode == 0, linted.stdout + linted.stderr
    formatted = subprocess.run(
        [sys.executable, "-m", "snakefmt", "--check", "Snakefile", "workflow/rules"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert formatted.returncode == 0, formatted.stderr
