"""Inside one denoised image: filter responses, masks, averages and weights of the data (Figures 7, 8 and 16)."""

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from bench.config import Config
from bench.figure_data import comparison, filters, paths
from bench.figure_data.frozen import Frozen
from bench.figure_data.problems import problem
from bench.figure_data.runs import Run

if TYPE_CHECKING:
    from deal import Solution

PROBLEMS = {"denoising": ["deal"]}
WINDOW = 41
"""Pixels a side of what Figure 8 shows around a pixel."""
REACH = 129
"""Pixels a side of the square on which averaging weights are computed."""
TOL = 1e-5
"""Relative fixed-point residual of the image that masks are computed of."""
MAX_OUTER = 100


def collect(config: Config) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """All that the three figures show, of the image x with x = T(x)."""
    found = problem(config, "denoising")
    (item,) = found.items
    run = paths.deal(found)
    solution = fixed_point(run, item)
    x = solution.x
    model, sigma, y = run.ready.model, run.sigma, item.y.to(run.device)
    frozen, noisy = (Frozen(model, item.operator, image, sigma) for image in (x, y))
    chosen = filters.choose_channels(filters.effective_kernels(model))
    channels = [chosen["vertical"], chosen["horizontal"]]
    if config.weights == "official":
        channels[0] = filters.PAPER_CHANNELS[0]
    pixels = pick_pixels(x[0, 0].cpu().numpy(), margin=WINDOW // 2)
    columns = averaging_weights(frozen, list(pixels.values()))
    response, mask = frozen.W(x)[0, channels], frozen.m[0, channels]
    arrays = {
        "noisy": y[0, 0],
        "x": x[0, 0],
        "kernels": torch.from_numpy(filters.effective_kernels(model)[channels, 0]),
        "response": response.square(),
        "mask": mask,
        "masked": (mask * response).square(),
        "averages": torch.stack([averages(noisy), averages(frozen)]),
        "columns": torch.stack(
            [u[0][window(u.shape, pixel, WINDOW)] for u, pixel in zip(columns, pixels.values(), strict=True)]
        ),
        "corners": torch.tensor([[part.start for part in window(x.shape, p, WINDOW)] for p in pixels.values()]),
        "sums": columns.sum((1, 2, 3)),
        "predicted": (columns * y).sum((1, 2, 3)),
        "reached": torch.stack([x[0, 0, row, column] for row, column in pixels.values()]),
    }
    arrays = {name: value.float().cpu().numpy() for name, value in arrays.items()}
    gap = float(np.abs(arrays["predicted"] - arrays["reached"]).max())
    meta = {
        "facts": found.facts()
        | {
            "channels": " and ".join(map(str, channels)),
            "lmbda": f"{frozen.lmbda:.2f}",
            "pixels": ", ".join(f"{what} at row {row}, column {column}" for what, (row, column) in pixels.items()),
            "gap": f"{gap:.0e}",
            "sums": ", ".join(f"{value:.3f}" for value in arrays["sums"]),
            "window": str(WINDOW),
            "reach": str(REACH),
        },
        "channels": channels,
        "pixels": {what: list(pixel) for what, pixel in pixels.items()},
        "window": WINDOW,
        "missing": {},
        "capped": [] if solution.converged.all() else [f"{run.label} on {item.image}"],
        "settings": comparison.solver(config, found.task, algorithm="fast", tol=TOL, max_outer=MAX_OUTER),
        **comparison.shared(config, found, [run]),
    }
    return arrays, meta


def fixed_point(run: Run, item: Any, tol: float = TOL) -> "Solution":
    """The unclipped reconstruction (1, C, H, W) to a relative residual of `tol`, from the kept estimate on."""
    start = torch.from_numpy(run.estimate(item).x)[None].to(run.device)
    y = item.y.to(run.device)
    sigma, lmbda = paths.levels(run, item)
    return run.ready.model.solve(
        y, item.operator, sigma, lmbda, tol=tol, x0=start, clip=False, algorithm="fast", max_outer=MAX_OUTER
    )


def averages(frozen: Frozen) -> Tensor:
    """Σ_c (W_c z)², the mean of m_c, and Σ_c (m_c ⊙ W_c z)² for the image z of `frozen`: (3, H, W)."""
    response = frozen.W(frozen.x)
    return torch.cat([response.square().sum(1), frozen.m.mean(1), (frozen.m * response).square().sum(1)])


def averaging_weights(frozen: Frozen, pixels: list[tuple[int, int]], tol: float = 1e-6, side: int = REACH) -> Tensor:
    """A⁻¹ e_n for each pixel n = (row, column) of a gray image that is denoised, (pixels, 1, H, W).

    A is symmetric, so this is the row of A⁻¹ whose inner product with y is the value of T(x) there. The weights die
    away; they are computed on the square of `side` pixels around n and are 0 outside. The inner product tells what
    that leaves out.
    """
    found = frozen.x.new_zeros(len(pixels), *frozen.x.shape[1:])
    for n, pixel in enumerate(pixels):
        rows, columns = window(frozen.x.shape, pixel, side)
        right = torch.zeros_like(frozen.x)
        right[..., pixel[0], pixel[1]] = 1
        part = frozen.cropped(rows, columns)
        found[n, :, rows, columns] = part.solve(right[..., rows, columns], tol)[0]
    return found


def window(shape: tuple[int, ...], pixel: tuple[int, int], side: int) -> tuple[slice, slice]:
    """Rows and columns of the square of `side` pixels around `pixel` of (…, H, W), shifted to stay inside."""
    found = []
    for place, size in zip(pixel, shape[-2:], strict=True):
        start = min(max(place - side // 2, 0), max(size - side, 0))
        found.append(slice(start, min(start + side, size)))
    return found[0], found[1]


def pick_pixels(image: np.ndarray, margin: int) -> dict[str, tuple[int, int]]:
    """The pixels (row, column) of the strongest vertical and horizontal structure and of the flattest region.

    By the structure tensor of (H, W), smoothed with standard deviation 2, for the flat one 6; not nearer to the border
    than `margin` where the image is large enough.
    """
    dy, dx = np.gradient(gaussian_filter(image.astype(float), 1))
    smooth = {name: gaussian_filter(value, 2) for name, value in (("xx", dx**2), ("yy", dy**2))}
    scores = {
        "vertical structure": smooth["xx"] - 2 * smooth["yy"],
        "horizontal structure": smooth["yy"] - 2 * smooth["xx"],
        "flat region": -gaussian_filter(dx**2 + dy**2, 6),
    }
    rows, columns = (min(margin, (size - 1) // 2) for size in image.shape)
    inside = (slice(rows, image.shape[0] - rows), slice(columns, image.shape[1] - columns))
    found = {}
    for what, score in scores.items():
        row, column = np.unravel_index(np.argmax(score[inside]), score[inside].shape)
        found[what] = int(row) + rows, int(column) + columns
    return found
