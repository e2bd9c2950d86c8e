"""One training step by the paper's recipe and by the fast one, on the same patches: seconds, and their ratio.

    python benchmarks/training.py                              # 2 patches of 48 × 48, CPU
    python benchmarks/training.py --batch 16 --patch 128 --device cuda      # the paper's batch

`paper`: the authors' algorithm on PyTorch's convolutions, K_out drawn from 15 to 60. `fast`: the fast solver with the
same K_out as a cap (both stop at a relative change of 1e-4). `short`: the fast solver, K_out from 2 to 5 and inexact
solves, as in workflow/config/train_cpu.yaml. The steps alternate; the loss tells whether they solve the same problem,
the cosine is between their gradients. Times are comparable within one run of this script only.
"""

import argparse
import statistics
import time
from dataclasses import replace

import numpy as np
import torch
from skimage import data as photographs

import deal
from deal.model import DEAL
from deal.training import TrainConfig, loss_backward

PAPER = TrainConfig()
FAST = replace(PAPER, algorithm="fast", cg_tol=1e-2)
SHORT = replace(FAST, cg_tol=0.1, cg_iterations=6, inner=2)


def patches(batch: int, side: int, seed: int, device) -> tuple[torch.Tensor, ...]:
    """Clean and noisy crops of the cameraman with their noise levels."""
    image, rng = photographs.camera().astype(np.float32) / 255, np.random.default_rng(seed)
    corners = rng.integers(0, image.shape[0] - side, (batch, 2))
    x = np.stack([image[None, r : r + side, c : c + side] for r, c in corners])
    sigma = (rng.uniform(0, 50, batch) / 255).astype(np.float32)
    y = x + sigma[:, None, None, None] * rng.standard_normal(x.shape, dtype=np.float32)
    return tuple(torch.from_numpy(v).to(device) for v in (x, y, sigma))


def step(model: DEAL, config: TrainConfig, batch, outer: int) -> tuple[float, float, torch.Tensor]:
    """Seconds, data term of the loss, and gradient of one step."""
    model.zero_grad()
    _wait()
    started = time.perf_counter()
    record = loss_backward(model, *batch, outer, config)
    _wait()
    seconds = time.perf_counter() - started
    return seconds, record.data, torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--patch", type=int, default=48)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int)
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    model = DEAL("gray")
    model.load_state_dict(deal.load("gray").state_dict())
    model.to(options.device)
    rng = np.random.default_rng(0)
    results: dict[str, list[tuple]] = {"paper": [], "fast": [], "short": []}
    for number in range(options.steps + 1):
        batch = patches(options.batch, options.patch, number, options.device)
        long, short = int(rng.integers(15, 61)), int(rng.integers(2, 6))
        runs = {"paper": (PAPER, long), "fast": (FAST, long), "short": (SHORT, short)}
        done = {name: step(model, config, batch, outer) for name, (config, outer) in runs.items()}
        if number == 0:
            continue  # warm-up
        for name, (seconds, loss, gradient) in done.items():
            cosine = torch.nn.functional.cosine_similarity(gradient, done["paper"][2], dim=0).item()
            results[name].append((seconds, loss, cosine))
            shown = f"{seconds:8.2f} s  loss {loss:.4f}  cosine {cosine:.3f}"
            print(f"step {number} {name:6} K_out {runs[name][1]:2}  {shown}", flush=True)
    paper = statistics.median(r[0] for r in results["paper"])
    for name in ("fast", "short"):
        print(f"{name}: {paper / statistics.median(r[0] for r in results[name]):.1f} times the steps of `paper`")


if __name__ == "__main__":
    main()
