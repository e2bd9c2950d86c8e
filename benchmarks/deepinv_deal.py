"""DEAL as the deepinv library has it, and this one: time to the same accuracy, with the same weights and data.

    pip install --no-deps deepinv natsort einops
    python benchmarks/deepinv_deal.py --size 64 --threads 1 --clock cpu --photographs camera coins
    python benchmarks/deepinv_deal.py --summary results/published/solver_deepinv_cpu.csv     # of runs made before

`deepinv.models.DEAL` reads the weights of this project from a checkpoint in the authors' layout and is called as it
comes, with its own caps and tolerances; only its clipping is off. Problems, tight solutions and clocks are those of
benchmarks/solver.py. Both are measured twice: the whole call, and the time to one accuracy, the first of 1e-4, 2e-4,
5e-4, 1e-3, … that both reach, from the iterates that its mask is asked for. Where deepinv's end, continued tightly, is
another fixed point, the case is left out of the means.

Writes <output>.csv, one line a case.
"""

import argparse
import csv
import itertools
import math
import statistics
import sys
import tempfile
import warnings
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import solver as shared
import torch

import deal
from deal.solver import ConvergenceWarning
from deal.weights import write_official

sys.path.append(str(Path(__file__).parents[1] / "tests"))
import deepinv_real  # its stand-in for torchvision, where that is of another build than torch

ACCURACIES = [m * 10.0**-e for e in (4, 3, 2, 1) for m in (1, 2, 5)]
PROBLEMS = ("denoise5", "denoise15", "denoise25", "deblur", "superres2")


@dataclass
class Side:
    """What one of the two took: work, seconds of the call and to the common accuracy, relative distance at the end."""

    masks: int
    applications: int
    seconds: float
    seconds_to_accuracy: float
    distance: float


@dataclass
class Case:
    """One problem, solved by both."""

    problem: str
    image: str
    accuracy: float
    same_point: bool
    deepinv: Side
    here: Side

    def ratio(self, key: str) -> float:
        """deepinv's time over ours."""
        return getattr(self.deepinv, key) / getattr(self.here, key)

    def row(self) -> dict[str, object]:
        """For the CSV."""
        flat = asdict(self)
        sides = {f"{side}_{key}": value for side in ("deepinv", "here") for key, value in flat.pop(side).items()}
        return flat | sides


def read(path: Path) -> list[Case]:
    """The cases of a CSV that this script wrote."""
    with path.open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    sides = [
        [Side(*(float(row[f"{side}_{f.name}"]) for f in fields(Side))) for side in ("deepinv", "here")] for row in rows
    ]
    heads = [(row["problem"], row["image"], float(row["accuracy"]), row["same_point"] == "True") for row in rows]
    return [Case(*head, *both) for head, both in zip(heads, sides, strict=True)]


class Watched:
    """Counts what deepinv's model computes, and records the iterates that it makes masks of."""

    def __init__(self, network):
        self.record, self.masks, self.applications = shared.Record(), 0, 0
        self._inner, self._mask, self._filters = network.model, network.model.cal_mask, network.model.W1.forward
        self._inner.cal_mask, self._inner.W1.forward = self._seen, self._counted

    def _seen(self, x):
        if self.masks:  # the first one is the start
            self.record(self.masks, x)
        self.masks += 1
        return self._mask(x)

    def _counted(self, x):
        self.applications += 1
        return self._filters(x)

    def end(self) -> None:
        del self._inner.cal_mask, self._inner.W1.forward


def theirs(checkpoint: Path, y, operator, sigma: float, lmbda: float | None):
    """deepinv's estimate, and what was watched."""
    import deepinv

    network = deepinv.models.DEAL(
        pretrained=str(checkpoint), sigma_denoiser=sigma, lambda_reg=lmbda or 0.0, clamp_output=False, device="cpu"
    ).eval()
    physics = None if lmbda is None else deepinv.physics.LinearPhysics(A=operator.A, A_adjoint=operator.A_adjoint)
    watched = Watched(network)
    with torch.no_grad():
        x = network(y, sigma) if physics is None else network(y, physics)
    watched.record(watched.masks, x)
    watched.end()
    return x, watched


def compare(model, checkpoint: Path, name: str, image: str, size: int) -> Case | None:
    """Both on one problem; None where there is no tight solution."""
    _, y, operator, sigma, lmbda = shared.problem(name, image, size, size, 0)
    print(f"{name}, {image}, {size}×{size}", flush=True)
    solution = shared.tight(model, y, operator, sigma, lmbda)
    if solution is None:
        return None
    found, watched = theirs(checkpoint, y, operator, sigma, lmbda)
    continued = shared.tight(model, y, operator, sigma, lmbda, found)
    same = continued is not None and float((continued - solution).norm() / solution.norm()) <= ACCURACIES[0]
    record = shared.Record()
    out = model.solve(y, operator, sigma, lmbda, tol=ACCURACIES[0] / 10, clip=False, callback=record)
    paths = [watched.record.distances(solution), record.distances(solution)]
    reached = max(min(distance for _, distance in path) for path in paths)
    accuracy = next((accuracy for accuracy in ACCURACIES if accuracy >= reached), math.inf)
    sides = [
        Side(of.masks, of.applications, path[-1][0], shared.first_time(path, accuracy), path[-1][1])
        for of, path in zip((watched, out), paths, strict=True)
    ]
    return Case(name, image, accuracy, same, *sides)


def summary(cases: list[Case]) -> str:
    """A Markdown table: medians of the work, geometric means (least to most) of the ratios."""
    lines = ["| problem | cases compared | deepinv: masks, applications, distance | here | call | to one accuracy |"]
    lines.append("|---|---|---|---|---|---|")
    for name in (*dict.fromkeys(case.problem for case in cases), None):
        of = [case for case in cases if name in (None, case.problem)]
        used = [case for case in of if case.same_point]
        cells = [name or "all", f"{len(used)} of {len(of)}"]
        for sides in ([case.deepinv for case in used], [case.here for case in used]):
            medians = [
                statistics.median(getattr(side, key) for side in sides) if sides else math.nan
                for key in ("masks", "applications", "distance")
            ]
            cells.append("{:g}, {:g}, {:.1e}".format(*medians))
        for key in ("seconds", "seconds_to_accuracy"):
            ratios = [case.ratio(key) for case in used]
            spread = f" ({min(ratios):.0f} to {max(ratios):.0f})" if len(ratios) > 1 else ""
            cells.append(f"{statistics.geometric_mean(ratios):.0f}{spread}" if ratios else "–")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", nargs="+", default=PROBLEMS, choices=PROBLEMS)
    parser.add_argument("--photographs", nargs="+", default=shared.UNTUNED, choices=shared.PHOTOGRAPHS)
    parser.add_argument("--size", type=int, default=128, help="side of the image in pixels")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--clock", choices=shared.CLOCKS, default="wall", help="cpu: processor time")
    parser.add_argument("--output", type=Path, default=Path("results/benchmarks/deepinv_deal"))
    parser.add_argument("--summary", type=Path, metavar="CSV", help="only: the table of these runs")
    options = parser.parse_args()
    if options.summary:
        print(summary(read(options.summary)))
        return
    shared.clock = shared.CLOCKS[options.clock]
    if options.threads:
        torch.set_num_threads(options.threads)
    warnings.simplefilter("ignore", ConvergenceWarning)
    replaced = deepinv_real.imported()
    import deepinv

    print(f"deepinv {deepinv.__version__}{f', with {replaced}' if replaced else ''}, torch {torch.__version__}")
    model = deal.load("gray")
    cases = []
    options.output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder) / "deal_gray.pth"
        write_official(model, checkpoint)
        for image, name in itertools.product(options.photographs, options.problems):
            case = compare(model, checkpoint, name, image, options.size)
            if case is None:
                print("  no tight solution: left out", flush=True)
                continue
            print("  " + "  ".join(f"{key} {value}" for key, value in case.row().items()), flush=True)
            cases.append(case)
            with options.output.with_suffix(".csv").open("w", newline="") as handle:
                writer = csv.DictWriter(handle, list(case.row()), lineterminator="\n")
                writer.writeheader()
                writer.writerows(case.row() for case in cases)
    print(summary(cases))


if __name__ == "__main__":
    main()
