"""DEAL as the deepinv library has it, and this one: time to the same accuracy, with the same weights and data.

    pip install --no-deps deepinv natsort einops
    python benchmarks/deepinv_deal.py --size 64 --threads 1 --clock cpu --photographs camera coins

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
class Case:
    """One problem by both: work, seconds of the call, seconds to `accuracy`, relative distance at the end."""

    problem: str
    image: str
    accuracy: float
    same_point: bool
    deepinv_masks: int
    deepinv_applications: int
    deepinv_seconds: float
    deepinv_seconds_to_accuracy: float
    deepinv_distance: float
    masks: int
    applications: int
    seconds: float
    seconds_to_accuracy: float
    distance: float

    @property
    def call_ratio(self) -> float:
        return self.deepinv_seconds / self.seconds

    @property
    def ratio(self) -> float:
        return self.deepinv_seconds_to_accuracy / self.seconds_to_accuracy


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


def compare(model, checkpoint: Path, name: str, image: str, options) -> Case | None:
    """Both on one problem; None where there is no tight solution."""
    x, y, operator, sigma, lmbda = shared.problem(name, image, options.size, options.size, 0)
    print(f"{name}, {image}, {options.size}×{options.size}", flush=True)
    solution = shared.tight(model, y, operator, sigma, lmbda)
    if solution is None:
        return None
    found, watched = theirs(checkpoint, y, operator, sigma, lmbda)
    their_path = watched.record.distances(solution)
    continued = shared.tight(model, y, operator, sigma, lmbda, found)
    same = continued is not None and float((continued - solution).norm() / solution.norm()) <= ACCURACIES[0]
    path = shared.Record()
    out = model.solve(y, operator, sigma, lmbda, tol=ACCURACIES[0] / 10, clip=False, callback=path)
    our_path = path.distances(solution)
    reached = max(min(d for _, d in their_path), min(d for _, d in our_path))
    accuracy = next((accuracy for accuracy in ACCURACIES if accuracy >= reached), math.inf)
    case = Case(
        name, image, accuracy, same,
        watched.masks, watched.applications, their_path[-1][0], shared.first_time(their_path, accuracy), their_path[-1][1],
        out.masks, out.applications, our_path[-1][0], shared.first_time(our_path, accuracy), our_path[-1][1],
    )  # fmt: skip
    print("  " + "  ".join(f"{key} {shared._short(value)}" for key, value in asdict(case).items()), flush=True)
    print(f"  call {case.call_ratio:.0f} times less, to the same accuracy {case.ratio:.0f} times", flush=True)
    return case


def summary(cases: list[Case]) -> str:
    """A Markdown table: medians of the work, geometric means of the ratios."""
    lines = ["| problem | cases compared | deepinv: masks, applications, distance | here | whole call | to one accuracy |"]
    lines.append("|---|---|---|---|---|---|")
    for name in (*dict.fromkeys(case.problem for case in cases), None):
        of = [case for case in cases if name in (None, case.problem)]
        used = [case for case in of if case.same_point]
        if not used:
            lines.append(f"| {name} | 0 of {len(of)} | | | | |")
            continue
        work = [
            ", ".join(f"{statistics.median(getattr(case, key) for case in used):.3g}" for key in keys)
            for keys in (
                ("deepinv_masks", "deepinv_applications", "deepinv_distance"),
                ("masks", "applications", "distance"),
            )
        ]
        ratios = [
            f"{statistics.geometric_mean(values):.0f} ({min(values):.0f} to {max(values):.0f})"
            for values in ([case.call_ratio for case in used], [case.ratio for case in used])
        ]
        lines.append(f"| {name or 'all'} | {len(used)} of {len(of)} | {' | '.join(work + ratios)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", nargs="+", default=PROBLEMS, choices=PROBLEMS)
    parser.add_argument("--photographs", nargs="+", default=shared.UNTUNED, choices=shared.PHOTOGRAPHS)
    parser.add_argument("--size", type=int, default=128, help="side of the image in pixels")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--clock", choices=shared.CLOCKS, default="wall", help="cpu: processor time, for a busy machine")
    parser.add_argument("--output", type=Path, default=Path("results/benchmarks/deepinv_deal"))
    options = parser.parse_args()
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
            if case := compare(model, checkpoint, name, image, options):
                cases.append(case)
                with options.output.with_suffix(".csv").open("w", newline="") as handle:
                    writer = csv.DictWriter(handle, [field.name for field in fields(Case)])
                    writer.writeheader()
                    writer.writerows(map(asdict, cases))
    print(summary(cases))


if __name__ == "__main__":
    main()
