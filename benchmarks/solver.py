"""Both solvers of DEAL on one machine: work and time to the same accuracy.

    python benchmarks/solver.py                            # all problems at 128 pixels, one photograph, CPU
    python benchmarks/solver.py --images 10 --draws 3      # ten photographs, three noise draws each
    python benchmarks/solver.py --height 481 --width 321 --problems denoise5 denoise15 denoise25
    python benchmarks/solver.py --height 640 --width 372 --problems mri8x15      # the raw size of fastMRI's knees
    python benchmarks/solver.py --size 320 --problems mri4 mri8x15 --device cuda
    python benchmarks/solver.py --starts --size 96 --images 5 --problems denoise15 denoise25 deblur superres2
    python benchmarks/solver.py --summary results/published/solver_cpu.csv       # the table of runs made before
    python benchmarks/solver.py --profile --weights color --size 1024 --problems denoise25 --max-outer 2

For every problem a tight solution is computed first (relative fixed-point residual 1e-6; left out if above 1e-5).
Then `reference` and `fast` run in turns; the distance of every outer iterate to the tight solution is plotted against
the time at which it was there. The ratio is taken at the accuracy asked for (--accuracy), or, where one of them never
gets there, as `reference` often does not, at the best that both reach. `reference` is the published algorithm on
PyTorch's convolutions, as its authors call them. Times are only comparable within one run of this script; on a
machine that does other work take --threads 1 --clock cpu. Both ends are then continued as tightly; where they do not
meet the tight solution, so that there is more than one fixed point, or none, the case is left out of the ratios and
counted.

Writes <output>.csv (one line a run), <output>_path.csv (one line an iterate) and <output>.png.
"""

import argparse
import copy
import csv
import itertools
import math
import platform
import statistics
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import psutil
import torch
from skimage import data
from skimage.color import rgb2gray

import deal
from deal.engine import engine
from deal.operators import MRI, Blur, Downsampling, Identity
from deal.solver import ConvergenceWarning

# Measured on real photographs; sigma and lambda are the paper's starting values, not tuned on these.
PROBLEMS = ("denoise5", "denoise15", "denoise25", "deblur", "superres2", "mri4", "mri8x15")
PHOTOGRAPHS = ("camera", "coins", "moon", "page", "astronaut", "chelsea", "coffee", "rocket", "brick", "gravel")
UNTUNED = PHOTOGRAPHS[:4]
"""Nothing in the solver was chosen on these; the others served to choose two constants."""
COLUMNS = (
    "problem",
    "image",
    "draw",
    "algorithm",
    "repeat",
    "seconds",
    "outer",
    "applications",
    "masks",
    "converged",
    "residual",
)
COLUMNS += ("distance", "seconds_to_accuracy", "accuracy", "psnr", "psnr_tight", "peak_bytes")
COLUMNS += ("same_point",)


def photograph(name: str, height: int, width: int) -> torch.Tensor:
    """The centre of one of scikit-image's pictures, gray, (1, 1, height, width) in [0, 1]; mirrored where too small."""
    image = getattr(data, name)()
    image = rgb2gray(image) if image.ndim == 3 else image / 255
    missing = [max(0, wanted - found) for wanted, found in zip((height, width), image.shape, strict=True)]
    image = np.pad(image, [(n // 2, n - n // 2) for n in missing], mode="symmetric")
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    return torch.from_numpy(image[top : top + height, left : left + width].astype(np.float32))[None, None]


def gaussian(side: int, width: float) -> torch.Tensor:
    offsets = torch.arange(side) - side // 2
    bell = torch.exp(-offsets.square() / (2 * width**2))
    kernel = bell[:, None] * bell
    return kernel / kernel.sum()


def shaken(side: int) -> torch.Tensor:
    """A motion kernel: a seeded random path, (side, side)."""
    rng = np.random.default_rng(3)
    steps = np.cumsum(rng.normal(0, 1, (400, 2)), axis=0)
    steps = (steps - steps.min(0)) / (steps.max(0) - steps.min(0)) * (side - 3) + 1
    kernel = np.zeros((side, side), np.float32)
    np.add.at(kernel, tuple(steps.round().astype(int).T), 1)
    return torch.from_numpy(kernel / kernel.sum())


def lines(width: int, acceleration: int, centre: float) -> torch.Tensor:
    """Random Cartesian lines with a full centre, zero frequency first, (1, 1, 1, width)."""
    low = round(width * centre)
    kept = np.random.default_rng(1).random(width) < (width / acceleration - low) / (width - low)
    start = (width - low + 1) // 2
    kept[start : start + low] = True
    return torch.from_numpy(np.fft.ifftshift(kept).astype(np.float32))[None, None, None]


def coils(height: int, width: int, count: int) -> torch.Tensor:
    """Smooth sensitivity maps with a unit sum of squares, (1, count, height, width)."""
    rows, columns = np.meshgrid(np.arange(height) / height - 0.5, np.arange(width) / width - 0.5, indexing="ij")
    angles = 2 * np.pi * np.arange(count)[:, None, None] / count
    distance = (rows - 0.6 * np.sin(angles)) ** 2 + (columns - 0.6 * np.cos(angles)) ** 2
    maps = np.exp(-2 * distance + 1j * (angles + 2 * rows * np.cos(angles) + 2 * columns * np.sin(angles)))
    return torch.from_numpy((maps / np.sqrt((abs(maps) ** 2).sum(0))).astype(np.complex64))[None]


def problem(name: str, image: str, height: int, width: int, seed: int, channels: int = 1):
    """Truth, data, operator, σ of the mask and λ (None: that of denoising); a gray picture in all `channels`."""
    x, generator = photograph(image, height, width).repeat(1, channels, 1, 1), torch.Generator().manual_seed(seed)
    if name.startswith("denoise"):
        sigma = int(name.removeprefix("denoise")) / 255
        return x, x + sigma * torch.randn(x.shape, generator=generator), Identity(), sigma, None
    if name.startswith("mri"):
        mask = lines(width, 4, 0.08) if name == "mri4" else lines(width, 8, 0.04)
        operator = MRI(mask.expand(1, 1, height, width), None if name == "mri4" else coils(height, width, 15))
        y = operator.A(x)
        noise = torch.view_as_complex(torch.randn((*y.shape, 2), generator=generator))
        return x, y + 0.002 * mask * noise, operator, 15 / 255, 0.05
    blur = name == "deblur"
    operator = Blur(shaken(17)) if blur else Downsampling(gaussian(25, 1.2), 2, x.shape[-2:])
    y = operator.A(x)
    y = y + 2.55 / 255 * torch.randn(y.shape, generator=generator)
    return x, y, operator, 15 / 255, 0.5 if blur else 0.28


class Record:
    """Iterates with the time at which they were there; the time spent here does not count."""

    def __init__(self):
        self.points, self.spent = [], 0.0
        self.started = _clock()

    def __call__(self, outer: int, x: torch.Tensor) -> None:
        now = _clock()
        self.points.append((now - self.started - self.spent, x.cpu()))
        self.spent += _clock() - now

    def distances(self, solution: torch.Tensor) -> list[tuple[float, float]]:
        return [(t, float((x - solution).norm() / solution.norm())) for t, x in self.points]


CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
clock = time.perf_counter


def _clock() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return clock()


class PeakMemory:
    """Largest growth of the process's resident memory within the block, sampled every few milliseconds; or CUDA's."""

    def __init__(self, device):
        self._cuda = torch.device(device).type == "cuda"

    def __enter__(self):
        self.bytes, self._stop = 0, threading.Event()
        if self._cuda:
            torch.cuda.reset_peak_memory_stats()
            return self
        self._process = psutil.Process()
        self._start = self._process.memory_info().rss
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def _watch(self):
        while not self._stop.wait(0.005):
            self.bytes = max(self.bytes, self._process.memory_info().rss - self._start)

    def __exit__(self, *_):
        self._stop.set()
        if self._cuda:
            self.bytes = torch.cuda.max_memory_allocated()
        else:
            self._thread.join()


def tight(model, y, operator, sigma, lmbda, start=None) -> torch.Tensor | None:
    """The fixed point that `fast` goes to from `start` (None: its own), in double precision at the end.

    In MRI rounding in single precision ends near a residual of 1e-5. None where 400 updates did not bring the
    residual below 1e-5: there is nothing to compare with.
    """
    x = model.solve(y, operator, sigma, lmbda, tol=1e-4, x0=start, clip=False, max_outer=200).x
    double = copy.deepcopy(model).double()
    solution = double.solve(y, operator, sigma, lmbda, tol=1e-6, x0=x.double(), clip=False, max_outer=200)
    print(f"  tight solution: residual {solution.residual.item():.1e}", flush=True)
    return solution.x.to(x.dtype) if solution.residual.item() <= 1e-5 else None


def first_time(path, accuracy: float) -> float:
    return next((t for t, distance in path if distance <= accuracy), math.nan)


def share_of_peak(model, height: int, width: int, device) -> tuple[float, float]:
    """GFLOP/s of a plain 128 → 128 convolution of 3×3, and of Wᵀ(m² ⊙ W ·) as if by convolutions."""
    x = torch.rand(1, 128, height, width, device=device).contiguous(memory_format=torch.channels_last)
    kernel = torch.rand(128, 128, 3, 3, device=device).contiguous(memory_format=torch.channels_last)
    image, sigma = torch.rand(1, model.channels, height, width, device=device), torch.full((1,), 0.1, device=device)
    plain = _rate(lambda: torch.nn.functional.conv2d(x, kernel, padding=1), 2 * 128 * 128 * 9 * height * width)
    fast = engine(model, sigma, model.W.squared_norm())
    weight = fast.weight(fast.mask_squared(image))
    work = 4 * height * width * sum(w.numel() for w in model.W.weights)
    return plain, _rate(lambda: fast.gram(image, weight), work)


def _rate(call, operations: int) -> float:
    call()
    times = []
    for _ in range(7):
        started = _clock()
        call()
        times.append(_clock() - started)
    return operations / statistics.median(times) / 1e9


def profile(model, name: str, options) -> None:
    """Print what one solve by `fast` takes: updates, memory, and the operations that most of its time goes to."""
    _, y, operator, sigma, lmbda = problem(name, PHOTOGRAPHS[0], *options.shape, 0, model.channels)
    y, operator = y.to(options.device), _moved(operator, options.device)
    arguments = {"tol": options.accuracy, "max_outer": options.max_outer}
    with PeakMemory(options.device) as memory:
        out = model.solve(y, operator, sigma, lmbda, **arguments)
    print(
        f"{name}: {out.outer_iterations} updates, {out.applications} applications, residual {out.residual.item():.1e}, "
        f"{memory.bytes / 2**20:.0f} MiB"
    )
    with torch.profiler.profile() as seen:
        model.solve(y, operator, sigma, lmbda, **arguments)
    on = "self_device_time_total" if y.is_cuda else "self_cpu_time_total"
    spent = {event.key: getattr(event, on) for event in seen.key_averages()}
    for key, time_us in sorted(spent.items(), key=lambda item: -item[1])[:8]:
        print(f"  {time_us / sum(spent.values()):6.1%}  {key}")


def starts(model, name: str, image: str, options) -> None:
    """Print whether `fast` comes to one fixed point from its own start and from 0, where the paper starts."""
    x, y, operator, sigma, lmbda = problem(name, image, *options.shape, 0, model.channels)
    x, y, operator = x.to(options.device), y.to(options.device), _moved(operator, options.device)
    ends = [
        model.solve(y, operator, sigma, lmbda, tol=options.accuracy / 10, clip=False, max_outer=300, x0=start).x
        for start in (None, torch.zeros_like(x))
    ]
    apart = float((ends[0] - ends[1]).norm() / ends[0].norm())
    print(f"{name:10} {image:10} {apart:.1e} apart, PSNR {_psnr(ends[0], x):.3f} and from 0 {_psnr(ends[1], x):.3f} dB")


def compare(model, name: str, image: str, draw: int, options) -> tuple[list[dict], list]:
    """Both algorithms on one problem: a row each and repeat, and their paths."""
    x, y, operator, sigma, lmbda = problem(name, image, *options.shape, draw, model.channels)
    x, y, operator = x.to(options.device), y.to(options.device), _moved(operator, options.device)
    print(f"{name}, {image}, draw {draw}, {options.shape[0]}×{options.shape[1]}", flush=True)
    solution = tight(model, y, operator, sigma, lmbda)
    if solution is None:
        print("  no tight solution: left out", flush=True)
        return [], []
    solution = solution.cpu()
    best = _psnr(solution.to(x), x)
    rows, paths, ends = [], [], {}
    for repeat in range(options.repeats):
        for algorithm, tol in (("reference", 1e-5), ("fast", options.accuracy / 10)):
            path = Record()
            cap = {"max_outer": options.max_outer} if algorithm == "reference" else {}
            started = _clock()
            with PeakMemory(options.device) as memory:
                out = model.solve(
                    y, operator, sigma, lmbda, tol=tol, algorithm=algorithm, callback=path, clip=False, **cap
                )
            seconds = _clock() - started - path.spent
            ends[algorithm] = out.x
            distances = path.distances(solution)
            paths += [(name, image, draw, algorithm, repeat, t, d) for t, d in distances]
            rows.append(
                {
                    "problem": name,
                    "image": image,
                    "draw": draw,
                    "algorithm": algorithm,
                    "repeat": repeat,
                    "seconds": seconds,
                    "outer": out.outer_iterations,
                    "applications": out.applications,
                    "masks": out.masks,
                    "converged": bool(out.converged.all()),
                    "residual": float(out.residual.max()),
                    "distance": min(d for _, d in distances),
                    "psnr": _psnr(out.x, x),
                    "psnr_tight": best,
                    "peak_bytes": memory.bytes,
                    "path": distances,
                }
            )
    # where the mask can decide either way there are several fixed points: times to different ones do not compare
    led_to = [tight(model, y, operator, sigma, lmbda, end) for end in ends.values()]
    same = all(
        z is not None and float((z.cpu() - solution).norm() / solution.norm()) <= options.accuracy for z in led_to
    )
    for row in rows:
        row["same_point"] = same
    reached = {a: min(r["distance"] for r in rows if r["algorithm"] == a) for a in ("reference", "fast")}
    for row in rows:
        row["accuracy"] = max(options.accuracy, *reached.values())  # one that both reach
        row["seconds_to_accuracy"] = first_time(row.pop("path"), row["accuracy"])
        print("  " + "  ".join(f"{k} {_short(row[k])}" for k in COLUMNS[3:] if row[k] != ""), flush=True)
    return rows, paths


def _psnr(found: torch.Tensor, x: torch.Tensor) -> float:
    return -10 * math.log10(float((found.clamp(0, 1) - x).square().mean()))


def _moved(operator, device):
    for key, value in vars(operator).items():
        if isinstance(value, torch.Tensor):
            setattr(operator, key, value.to(device))
    return operator


def _short(value) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def speedups(rows: list[dict]) -> dict[str, list[float]]:
    """Problem → for each image and draw the median time of `reference` over that of `fast`, at the same accuracy."""
    times: dict[tuple, dict[str, list[float]]] = {}
    for row in rows:
        if not row["same_point"]:
            continue
        case = times.setdefault((row["problem"], row["image"], row["draw"]), {"reference": [], "fast": []})
        case[row["algorithm"]].append(row["seconds_to_accuracy"])
    found: dict[str, list[float]] = {}
    for (name, *_), case in times.items():
        found.setdefault(name, []).append(statistics.median(case["reference"]) / statistics.median(case["fast"]))
    return found


def summary(rows: list[dict]) -> str:
    """A Markdown table of the runs, and what to know of all of them."""
    found = speedups(rows)
    lines = ["| problem | cases compared | `reference`: updates, applications (medians) | `fast` | times less time |"]
    lines.append("|---|---|---|---|---|")
    for name in dict.fromkeys(row["problem"] for row in rows):
        of = [row for row in rows if row["problem"] == name]
        cases = len({(row["image"], row["draw"]) for row in of})
        work = [
            ", ".join(
                f"{statistics.median(r[what] for r in of if r['algorithm'] == algorithm and r['same_point']):g}"
                for what in ("outer", "applications")
            )
            if name in found
            else ""
            for algorithm in ("reference", "fast")
        ]
        lines.append(
            f"| {name} | {len(found.get(name, ()))} of {cases} | {work[0]} | {work[1]} | {_spread(found.get(name))} |"
        )
    lines.append(f"| all | | | | {_spread(list(itertools.chain(*found.values())))} |")
    ratios = list(itertools.chain(*found.values()))
    fast, reference = ([row for row in rows if row["algorithm"] == a] for a in ("fast", "reference"))
    worst = max((abs(row["psnr"] - row["psnr_tight"]) for row in fast if row["same_point"]), default=math.nan)
    untuned = list(itertools.chain(*speedups([row for row in rows if row["image"] in UNTUNED]).values()))
    compared = [row["accuracy"] for row in fast if row["same_point"]]
    within = [
        f"compared, both within {limit:g}: "
        + _spread(list(itertools.chain(*speedups([row for row in rows if row["accuracy"] <= limit]).values())))
        + f", {sum(accuracy <= limit for accuracy in compared)} cases"
        for limit in (1e-4, 1e-3)
    ]
    whole = [slow["seconds"] / quick["seconds"] for slow, quick in zip(reference, fast, strict=True)]
    return "\n".join(
        [
            *lines,
            f"left out, not one fixed point: {sum(not row['same_point'] for row in fast)} of {len(fast)}",
            f"compared, below 8: {sum(ratio < 8 for ratio in ratios)} of {len(ratios)}",
            f"photographs that nothing was tuned on: {_spread(untuned)}, {len(untuned)} cases",
            f"converged: fast {sum(row['converged'] for row in fast)}, reference "
            f"{sum(row['converged'] for row in reference)} of {len(reference)}",
            f"compared, PSNR of `fast` against the tight solution: at most {worst:.4f} dB apart",
            *within,
            f"compared, worst accuracy: {max(compared, default=math.nan):.0e}",
            f"farthest end of `fast`: {max(row['distance'] for row in fast):.0e}",
            f"all, whole calls, whatever they led to: {_spread(whole)}",
        ]
    )


def _spread(ratios: list[float] | None) -> str:
    """Geometric mean (least to most)."""
    return f"{statistics.geometric_mean(ratios):.1f} ({min(ratios):.1f} to {max(ratios):.1f})" if ratios else "–"


def read(path: Path) -> list[dict]:
    """The runs of a CSV that this script wrote."""
    with path.open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    for row in rows:
        row |= {key: row[key] == "True" for key in ("converged", "same_point")}
        row |= {key: float(row[key]) for key in ("outer", "applications", "psnr", "psnr_tight")}
        row |= {key: float(row[key]) for key in ("seconds", "seconds_to_accuracy", "accuracy", "distance")}
    return rows


def plot(paths, output: Path, title: str) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    names = list(dict.fromkeys(p[0] for p in paths))
    columns = min(4, len(names))
    figure, axes = plt.subplots(
        -(-len(names) // columns), columns, figsize=(3.1 * columns, 2.6 * -(-len(names) // columns)), squeeze=False
    )
    for axis, name in zip(axes.flat, names, strict=False):
        for algorithm, color in (("reference", "#D55E00"), ("fast", "#0072B2")):
            runs = list(dict.fromkeys(p[:5] for p in paths if p[0] == name and p[3] == algorithm))
            for number, run in enumerate(runs):
                found = [p[5:] for p in paths if p[:5] == run]
                label = algorithm if number == 0 else None
                axis.loglog(*zip(*found, strict=True), color=color, label=label, lw=1.2, alpha=0.8)
        axis.set_title(name, fontsize=9)
        axis.set_xlabel("time (s)", fontsize=8)
        axis.set_ylabel("relative distance", fontsize=8)
        axis.grid(alpha=0.3)
    axes.flat[0].legend(fontsize=8)
    for axis in axes.flat[len(names) :]:
        axis.set_visible(False)
    figure.suptitle(title, fontsize=10)
    figure.tight_layout()
    figure.savefig(output, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", nargs="+", default=PROBLEMS, choices=PROBLEMS)
    parser.add_argument("--size", type=int, default=128, help="side of the image in pixels")
    parser.add_argument("--height", type=int, help="instead of --size")
    parser.add_argument("--width", type=int, help="instead of --size")
    parser.add_argument("--accuracy", type=float, default=1e-4, help="relative distance to the tight solution")
    parser.add_argument("--images", type=int, default=1, choices=range(1, len(PHOTOGRAPHS) + 1), metavar="N")
    parser.add_argument("--photographs", nargs="+", choices=PHOTOGRAPHS, help="instead of --images")
    parser.add_argument("--draws", type=int, default=1, help="noise draws of each image")
    parser.add_argument("--first-draw", type=int, default=0, help="its number, to go on from draws made before")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="cpu: processor time, for a busy machine")
    parser.add_argument("--max-outer", type=int, default=60, help="cap of `reference`, with --profile of `fast`")
    parser.add_argument("--summary", type=Path, nargs="+", metavar="CSV", help="only: the table of these runs")
    parser.add_argument("--profile", action="store_true", help="only: what one solve by `fast` takes, and for what")
    parser.add_argument("--starts", action="store_true", help="only: whether two starts lead to one fixed point")
    parser.add_argument("--weights", default="gray")
    parser.add_argument("--output", type=Path, default=Path("results/benchmarks/solver"))
    options = parser.parse_args()
    if options.summary:
        print(summary([row for path in options.summary for row in read(path)]))
        return
    options.photographs = options.photographs or PHOTOGRAPHS[: options.images]
    options.shape = options.height or options.size, options.width or options.size
    global clock
    clock = CLOCKS[options.clock]
    if options.threads:
        torch.set_num_threads(options.threads)
    warnings.simplefilter("ignore", ConvergenceWarning)
    device = torch.device(options.device)
    hardware = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or "CPU"
    model = deal.load(options.weights, device=device).requires_grad_(False)
    plain, ours = share_of_peak(model, *options.shape, device)
    print(
        f"float32: plain 3×3 convolution {plain:.0f} GFLOP/s; WᵀM²W at the rate of convolutions of {ours:.0f} GFLOP/s"
    )
    if options.profile:
        for name in options.problems:
            profile(model, name, options)
        return
    if options.starts:
        for image, name in itertools.product(options.photographs, options.problems):
            starts(model, name, image, options)
        return
    rows, paths = [], []
    options.output.parent.mkdir(parents=True, exist_ok=True)
    cases = itertools.product(
        options.photographs, range(options.first_draw, options.first_draw + options.draws), options.problems
    )
    for image, draw, name in cases:
        more, more_paths = compare(model, name, image, draw, options)
        rows, paths = rows + more, paths + more_paths
        _write(options.output.with_suffix(".csv"), COLUMNS, [[r[c] for c in COLUMNS] for r in rows])
        _write(
            options.output.with_name(options.output.name + "_path.csv"),
            ("problem", "image", "draw", "algorithm", "repeat", "seconds", "distance"),
            paths,
        )
        plot(paths, options.output.with_suffix(".png"), f"{options.shape[0]}×{options.shape[1]}, {hardware}")
    print(summary(rows))


def _write(path: Path, header, rows) -> None:
    with path.open("w", newline="") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


if __name__ == "__main__":
    main()
