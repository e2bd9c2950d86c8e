"""Numbers behind the theory of the paper's Section 4: kernel of W, λ_min(A), contraction, stability.

What is taken as the stability bound (18), derived here since only its existence is known to this project: with T_y(x) =
A(x)⁻¹Hᵀy, q a Lipschitz constant of T_y in x, q < 1, and x_i the fixed points for the data y_i,

    ‖x₁ − x₂‖ ≤ ‖T_y₁(x₁) − T_y₁(x₂)‖ + ‖A(x₂)⁻¹Hᵀ(y₁ − y₂)‖ ≤ q‖x₁ − x₂‖ + ‖H‖/λ_min ‖y₁ − y₂‖,

hence ‖x₁ − x₂‖ ≤ ‖H‖/((1 − q) λ_min) ‖y₁ − y₂‖. Here q and λ_min are measured at one reconstruction: a local bound.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from bench.config import Config
from bench.errors import UserError
from bench.figure_data import castle, comparison, filters, paths
from bench.figure_data.frozen import Frozen, Linearised
from bench.figure_data.problems import problem

PROBLEMS = {"denoising": ["deal"], "deblurring": ["deal"]}
MODELS = ("gray", "color")
SECTIONS = ("certificates",)
TOL = 1e-6
"""Relative fixed-point residual of all reconstructions here."""
MAX_OUTER = 200
PATH = 20
"""Most updates of the plain iteration that are watched."""
SMALLEST = 60
"""Smallest eigenvalues of WᵀW that are drawn."""
EPS_MASK = 0.01


def collect(config: Config) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Arrays for the drawing; in meta, `numbers`: rows of name, value and how it was obtained."""
    arrays, numbers, weights = {}, [], {}
    for kind in MODELS:
        found, rows, hashes = kernel_of_W(config, kind)
        arrays |= found
        numbers += rows
        weights |= hashes
    numbers += lower_bounds(config)
    found = problem(config, "denoising")
    (item,) = found.items
    run = paths.deal(found)
    facts = found.facts() | {"weights": config.weights}
    facts |= {f"zeros_{kind}": str((np.abs(arrays[f"smallest_{kind}"]) < filters.NEAR_ZERO).sum()) for kind in MODELS}
    meta = {"facts": facts, "weights": weights, "numbers": numbers, "missing": {}}
    section = config.figures.certificates
    region = patch(item.x[0, 0].numpy(), section.crop)
    y = item.y[..., region[0], region[1]].to(run.device)
    stability, rows, capped = around_fixed_point(
        run.ready.model, item.operator, y, run.sigma, section.perturbations_255
    )
    side = f"{y.shape[-2]}×{y.shape[-1]}"
    named = {row["name"]: row["value"] for row in rows}
    meta["numbers"] += [{**row, "how": f"{row['how']}; {item.image}, {side} pixels"} for row in rows]
    meta["facts"] |= {"side": side, "q": f"{named['q']:.3f}", "radius": f"{named['spectral radius']:.3f}"}
    meta["facts"] |= {"bound": f"is {named['bound']:.2f}" if named["q"] < 1 else "does not exist, since q ≥ 1"}
    meta["facts"] |= {"low": f"{named['lambda_min']:.4f}", "high": f"{named['lambda_max']:.2f}"}
    meta["facts"] |= {"worst": f"{named['largest measured']:.2f}", "lmbda": f"{named['lambda']:.2f}"}
    meta |= {"q": named["q"], "radius": named["spectral radius"], "bound": named["bound"]}
    meta |= {"settings": comparison.solver(config, found.task, algorithm="fast", tol=TOL, max_outer=MAX_OUTER)}
    meta |= {
        "capped": [f"{capped} of the reconstructions"] if capped else [],
        **comparison.shared(config, found, [run]),
    }
    meta["weights"] = meta["weights"] | weights
    return arrays | stability, meta


def kernel_of_W(config: Config, kind: str) -> tuple[dict[str, np.ndarray], list[dict[str, Any]], dict[str, str]]:
    """The smallest eigenvalues of the periodic WᵀW, and what W makes of constants with its zero padding."""
    model, weights = filters.model(config, kind)
    kernels = filters.effective_kernels(model)
    found = np.sort(filters.eigenvalues(kernels).ravel())
    largest = found[-1]
    side, reach = 73, kernels.shape[-1] // 2
    constant = torch.ones(1, kernels.shape[1], side, side, dtype=torch.float64)
    response = model.W.bind(model.W.squared_norm().rsqrt())(constant).square().sum(1).sqrt()[0]
    inside = response[reach:-reach, reach:-reach]
    what = "gray" if kind == "gray" else "colour"
    grid = f"Fourier transform of the effective kernels, {filters.GRID}×{filters.GRID} grid, float64"
    zeros = int((found < filters.NEAR_ZERO * largest).sum())
    rows = [
        row(f"{what}: zero eigenvalues of WᵀW", zeros, f"{grid}; below {filters.NEAR_ZERO:.0e} of the largest"),
        row(f"{what}: smallest eigenvalue", abs(found[0]), grid),
        row(f"{what}: second smallest eigenvalue", found[1], grid),
        row(f"{what}: largest eigenvalue, ‖W‖²", largest, f"{grid}; W is divided by √L, L the authors' estimate"),
        row(f"{what}: |W 1| inside", float(inside.max()), f"largest over the pixels {reach} from the border or more"),
        row(f"{what}: |W 1| at the border", float(response.max()), "largest over all pixels: the zero padding"),
    ]
    return {f"smallest_{kind}": found[:SMALLEST] / largest}, rows, weights


def lower_bounds(config: Config) -> list[dict[str, Any]]:
    """min over frequencies of |Ĥ|² + λ ε_M² Ŵᴴ Ŵ, below λ_min(A) for every mask if boundaries are periodic."""
    rows = []
    for name in ("denoising", "deblurring"):
        found = problem(config, name, images=None if name == "denoising" else 1)
        item, run = found.items[0], paths.deal(found)
        model = run.ready.model
        lmbda = run.values.get("lmbda") or float(model.lmbda(torch.tensor([run.sigma], device=run.device)))
        kernels = filters.effective_kernels(model)
        height, width = item.x.shape[-2:]
        hat = np.zeros((height, width))
        for some in np.array_split(kernels[:, 0], 16):
            hat += (np.abs(np.fft.fft2(some, s=(height, width))) ** 2).sum(0)
        spectrum = item.operator.normal_spectrum(item.x.shape)
        if spectrum is None:
            raise UserError(f"figures.{name}: the FFT does not diagonalise this operator")
        value = float((spectrum.double().numpy() + lmbda * EPS_MASK**2 * hat[:, : width // 2 + 1]).min())
        how = f"min of |Ĥ|² + λ ε_M² |Ŵ|² over the frequencies, λ = {lmbda:.3g}, ε_M = {EPS_MASK}, periodic boundaries"
        rows.append(row(f"{name}: lower bound of λ_min(A)", value, f"{how}; {item.image}, {height}×{width} pixels"))
    return rows


def around_fixed_point(
    model: Any, operator: Any, y: Tensor, sigma: float, sizes_255: list[float]
) -> tuple[dict[str, np.ndarray], list[dict[str, Any]], int]:
    """λ_min, contraction and stability at the reconstruction of y (1, C, H, W) by denoising.

    Returns arrays, certificates, and how many of the reconstructions stopped at their cap.

    Args:
        sizes_255: perturbations of y, root mean square in 0-255 units.
    """
    capped = 0

    def solve(data: Tensor, start: Tensor | None = None) -> Tensor:
        nonlocal capped
        options = {"algorithm": "fast", "tol": TOL, "max_outer": MAX_OUTER}
        solution = model.solve(data, operator, sigma, x0=start, clip=False, **options)
        capped += not solution.converged.all()
        return solution.x

    x = solve(y)
    at = Linearised(model, operator, x, sigma)
    low, high = at.extreme_eigenvalues()
    q, radius, direction = at.contraction()
    ratios = changes(model, operator, y, sigma)
    kinds = {
        "noise": torch.from_numpy(np.random.default_rng(0).standard_normal(y.shape)).to(y),
        "constant": torch.ones_like(y),
        "most amplified": at.apply(direction),  # A v moves T(x) by v, which J stretches most
    }
    measured = np.empty((len(kinds), len(sizes_255)))
    for i, delta in enumerate(tqdm(kinds.values(), "stability", unit="direction")):
        for j, size in enumerate(sizes_255):
            step = delta * (size / 255 / delta.square().mean().sqrt())
            measured[i, j] = float((solve(y + step, x) - x).norm() / step.norm())
    bound = 1 / ((1 - q) * low) if q < 1 else float("inf")
    rows = [
        row("lambda", at.lmbda, "κ(σ)"),
        row("lambda_min", low, "smallest eigenvalue of A at the reconstruction, Lanczos"),
        row("lambda_max", high, "largest eigenvalue of A, Lanczos"),
        row("q", q, "‖J‖₂ of the fixed-point map at the reconstruction, Lanczos: its local Lipschitz constant"),
        row("spectral radius", radius, "of J: the rate at which the plain iteration converges in the end"),
        row("last ratio", float(ratios[-1]), f"‖x_k+1 − x_k‖/‖x_k − x_k−1‖ of the plain iteration, k = {len(ratios)}"),
        row("bound", bound if q < 1 else None, "‖H‖/((1 − q) λ_min) with ‖H‖ = 1, local; taken as the paper's (18)"),
        row("largest measured", float(measured.max()), "‖x₁ − x₂‖/‖y₁ − y₂‖ over the perturbations tried"),
    ]
    arrays = {
        "ratios": ratios,
        "measured": measured,
        "sizes_255": np.array(sizes_255),
        "directions": np.array([*kinds]),
    }
    return arrays, rows, capped


def changes(model: Any, operator: Any, y: Tensor, sigma: float, steps: int = PATH) -> np.ndarray:
    """‖x_k+1 − x_k‖/‖x_k − x_k−1‖ of the plain iteration from x_0 = 0, k = 1, 2, ….

    At most `steps` updates; it ends where a change is no longer above the rounding of the image.
    """
    x, found = torch.zeros_like(y), []
    right = operator.A_adjoint(y)
    for _ in range(steps):
        at = Frozen(model, operator, x, sigma)
        step = at.solve(right - at.apply(x), 1e-3)  # T(x) − x itself, so that its relative error is small
        x = x + step
        found.append(float(step.norm()))
        if found[-1] < 100 * torch.finfo(x.dtype).eps * float(x.norm()):
            break
    return np.array(found[1:]) / np.array(found[:-1])


def patch(image: np.ndarray, side: int) -> tuple[slice, slice]:
    """Rows and columns of the square of `side` pixels of (H, W) around its strongest structure."""
    pixel = castle.pick_pixels(image, side // 2)["vertical structure"]
    return castle.window(image.shape, pixel, side)


def row(name: str, value: Any, how: str) -> dict[str, Any]:
    """One certificate."""
    return {"name": name, "value": value, "how": how}
