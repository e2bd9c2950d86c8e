"""What the workflow itself costs: planning, doing nothing, one table, graphs 10 and 100 times as large; and all of it.

    python benchmarks/pipeline.py plan                 seconds and jobs of `snakemake -n` as the experiment grows
    python benchmarks/pipeline.py small [TARGETS]      seconds of a run with nothing to do, and of one table made again
    python benchmarks/pipeline.py jobs RESULTS         time and memory of each rule, from the benchmark files of a run
    python benchmarks/pipeline.py predict ...          wall time and cost of the paper's experiment on 1, 8, 64 GPUs

Times are processor seconds of Snakemake and all that it starts, beside wall seconds: on a busy machine only the former
mean something. `predict` prints a model, not a measurement; its inputs are the lines it prints first.
"""

import argparse
import csv
import heapq
import json
import os
import resource
import subprocess
import sys
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "workflow")]
DEMO = ["--configfile", "workflow/config/demo.yaml"]


def snakemake(*arguments: str) -> tuple[float, float, str]:
    """Processor seconds, wall seconds and output of one call; it must end well."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    command = [sys.executable, "-m", "snakemake", "--cores", "2", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=os.environ)
    after, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter() - started
    if done.returncode:
        sys.exit(f"error: {' '.join(command)}\n{done.stderr[-2000:]}")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return cpu, wall, done.stdout + done.stderr


def grown(factor: int) -> dict:
    """The denoising tasks with `factor` times as many noise levels: as many more settings, hence jobs."""
    levels = [round(1 + 0.37 * k, 2) for k in range(3 * factor)]
    return {"tasks": {task: {"sigmas_255": levels} for task in ("denoise_gray", "denoise_color")}}


def plan(options: argparse.Namespace) -> None:
    """Dry runs of Table 1: images do not make jobs, settings and methods do."""
    print(f"{'Table 1':>28} {'jobs':>7} {'cpu s':>8} {'wall s':>8} {'ms a job':>9}")
    cases = [("as in config.yaml", {})]
    cases += [(f"settings x {factor}", grown(factor)) for factor in options.factors]
    cases += [("images x 100 (subset=6800)", {"subset": 6800})]
    for name, values in cases:
        words = [f"{key}={json.dumps(value)}" for key, value in values.items()]
        words = ["weights=released", "results=results/planned", *words]
        cpu, wall, text = snakemake("table1", "-n", "--quiet", "rules", "--config", *words)
        jobs = next((int(line.split()[1]) for line in text.splitlines() if line.startswith("total")), 0)
        print(f"{name:>28} {jobs:7d} {cpu:8.1f} {wall:8.1f} {1000 * cpu / max(jobs, 1):9.1f}", flush=True)


def small(options: argparse.Namespace) -> None:
    """On the demo's results, or those of any other configuration file."""
    files = ["--configfile", options.configfile] if options.configfile else DEMO
    cpu, wall, text = snakemake(*options.targets, *files)
    state = "nothing to do" if "Nothing to be done" in text else "jobs ran: call again for a run with nothing to do"
    print(f"run of {' '.join(options.targets)}: {cpu:.1f} s of processor, {wall:.1f} s ({state})")
    cpu, wall, _ = snakemake(options.targets[0], "--forcerun", "make_table", *files)
    print(f"{options.targets[0]} made again from saved results: {cpu:.1f} s of processor, {wall:.1f} s")


@dataclass
class Measured:
    """The jobs of one rule and method."""

    jobs: int = 0
    cpu_s: float = 0.0
    wall_s: float = 0.0
    rss_mb: float = 0.0


def measured(results: Path) -> dict[tuple[str, str], Measured]:
    """(rule, task and method) → what its jobs took, from Snakemake's benchmark files."""
    found: dict[tuple[str, str], Measured] = defaultdict(Measured)
    for path in sorted((results / "benchmarks").rglob("*.tsv")):
        rule, *between, _ = path.relative_to(results / "benchmarks").parts
        key = (rule, f"{between[0]} {path.stem}" if len(between) == 2 else "")
        with path.open(newline="") as handle:
            for row in csv.DictReader(handle, delimiter="\t"):
                entry, numbers = found[key], [row["cpu_time"], row["s"], row["max_rss"]]
                cpu, wall, rss = (float(n) if n not in ("NA", "-", "") else 0.0 for n in numbers)
                entry.jobs += 1
                entry.cpu_s, entry.wall_s = max(entry.cpu_s, cpu), max(entry.wall_s, wall)
                entry.rss_mb = max(entry.rss_mb, rss)
    if not found:
        sys.exit(f"error: no benchmark files below {results / 'benchmarks'}; run the workflow first")
    return found


def jobs(options: argparse.Namespace) -> None:
    """A Markdown table."""
    print("| rule | task, method | jobs | longest, s of processor | longest, s | largest memory, MB |")
    print("|---|---|---:|---:|---:|---:|")
    for (rule, what), m in measured(Path(options.results)).items():
        print(f"| {rule} | {what} | {m.jobs} | {m.cpu_s:.1f} | {m.wall_s:.0f} | {m.rss_mb:.0f} |")


def makespan(seconds: list[float], machines: int) -> float:
    """Longest job first, each to the machine that is free first: within 4/3 of the best schedule (Graham, 1969)."""
    free = [0.0] * machines
    for duration in sorted(seconds, reverse=True):
        heapq.heappush(free, heapq.heappop(free) + duration)
    return max(free)


def predict(options: argparse.Namespace) -> None:
    """The whole experiment: trainings, then the evaluations that need them, the others beside."""
    from bench import registry
    from bench.configfile import load

    config = load([ROOT / "config.yaml"])
    image_s = {"deal": options.deal_s, "measurement": 0.05, "truth": 0.05}
    ours, others = [], []
    for task in type(config.tasks).model_fields:
        images = {"deblur_gray": 3, "mri": 50, "superres_color": 4 * 68}.get(task, 68)
        for _ in config.task(task).settings():
            for name in config.methods:
                if registry.entry(name).serves(task):
                    duration = options.start_s + images * image_s.get(name, options.other_s)
                    (ours if name == "deal" else others).append(duration)
    steps = {kind: sum(p.steps for p in getattr(config.training, kind).phases) for kind in ("gray", "color")}
    step_s = {"gray": options.step_s, "color": options.color_step_s}
    training = {kind: count * step_s[kind] for kind, count in steps.items()}
    print("inputs (assumed, not measured here; give yours by the options):")
    print(f"  a training step of 16 patches 128x128 on one GPU: {step_s} s; steps: {steps}")
    print(
        f"  an image: DEAL {options.deal_s} s, another method {options.other_s} s; start of a job: {options.start_s} s"
    )
    print(f"  a GPU hour: {options.price} (currency of your bill)")
    print(f"jobs: {len(ours)} of DEAL, {len(others)} of others, 2 trainings")
    print("\n| GPUs | a training on one GPU each, h | trainings shared, h | GPU hours | cost |")
    print("|---:|---:|---:|---:|---:|")
    total = sum(ours) + sum(others) + sum(training.values())
    for gpus in (1, 8, 64):
        work = [*training.values(), *ours, *others]
        alone = max(makespan(list(training.values()), gpus) + makespan(ours, gpus), makespan(work, gpus))
        shared = sum(t / (min(gpus, 8) * options.efficiency if gpus > 1 else 1) for t in training.values())
        shared = shared + makespan([*ours, *others], gpus)
        cost = total / 3600 * options.price
        print(f"| {gpus} | {alone / 3600:.1f} | {shared / 3600:.1f} | {total / 3600:.1f} | {cost:.0f} |")
    slow = max(training, key=training.get)
    print(
        f"\ncritical path: pack_images, train_deal {slow} ({training[slow] / 3600:.1f} h), evaluate_method, make_table"
    )


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(required=True, metavar="verb")
    added = verbs.add_parser("plan")
    added.set_defaults(run=plan)
    added.add_argument("--factors", type=int, nargs="+", default=[10, 100])
    added = verbs.add_parser("small")
    added.set_defaults(run=small)
    added.add_argument("targets", nargs="*", default=["table1"])
    added.add_argument("--configfile")
    added = verbs.add_parser("jobs")
    added.set_defaults(run=jobs)
    added.add_argument("results")
    added = verbs.add_parser("predict")
    added.set_defaults(run=predict)
    added.add_argument("--step-s", type=float, required=True, help="seconds of a training step on one GPU")
    added.add_argument("--color-step-s", type=float, required=True, help="the same for colour")
    added.add_argument("--deal-s", type=float, required=True, help="seconds of DEAL for one image on one GPU")
    added.add_argument("--other-s", type=float, required=True, help="seconds of another method for one image")
    added.add_argument("--start-s", type=float, default=10.0, help="seconds until a job computes")
    added.add_argument("--price", type=float, default=2.0, help="of a GPU hour")
    added.add_argument("--efficiency", type=float, default=0.8, help="of a training on several GPUs of one machine")
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()
