"""Training of DEAL (paper, Section 3.2): Jacobian-free gradients through the last update.

Legend: x clean patch, y noisy patch, d the last iterate without gradient, c = T(d), m the mask M(d), u = A(d)⁻¹ g.
A step runs the fixed-point iteration without gradient to d. With A(θ) c = y, a change of θ moves c by −A⁻¹ (∂A) c, so a
loss gradient g at c becomes −(∂A c)ᵀ u (eq. 15): c is represented by y − λ Wᵀ m² W c with c held fixed, and a hook
replaces g by u.
"""

import csv
import hashlib
import json
import math
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from deal import optimizer
from deal import weights as weights_io
from deal.model import DEAL, PUBLISHED, Architecture
from deal.operators import Identity
from deal.patches import PackedImages
from deal.solver import NormalEquations, Preconditioner, conjugate_gradients, full_float32, iterate
from deal.transfer import color_from_gray

LOG_FIELDS = ("step", "phase", "lr", "loss", "data", "mask_change", "tv2", "outer", "psnr", "validation")
LOG_FIELDS += ("lambda", "contraction", "seconds")
LOG_SIGMAS_255 = (5, 15, 25, 50)  # at which λ = κ(σ) is logged


@dataclass(frozen=True)
class Phase:
    """`steps` updates with a step size falling from lr[0] to lr[1] along a cosine; the rest overrides TrainConfig."""

    steps: int
    lr: tuple[float, float]
    warmup: int = 0
    batch: int | None = None
    patch: int | None = None
    outer: tuple[int, int] | None = None


@dataclass(frozen=True)
class TrainConfig:
    """Training settings; the defaults are the paper's for the gray model.

    Attributes:
        kind: "gray" or "color".
        phases: the schedule.
        batch, patch: patches a step (over all GPUs) and their side in pixels.
        sigma_max_255: noise levels lie in [0, sigma_max_255], 0-255 units.
        sigma_power: they are sigma_max_255 · uᵖ with u uniform on [0, 1]: 1 is the paper, more favours low ones.
        loss_power: a patch's squared error is weighed by (25 / max(σ, 3))ᵖ, σ in 0-255 units: 0 is the paper's loss, at
            about 1.3 every noise level counts alike in dB.
        gamma: weight of the mask-change and TV⁽²⁾ terms.
        mask_every: evaluate the mask-change term every so many steps, weighted by that number.
        outer: range of the number of updates K_out, drawn uniformly, ends included.
        algorithm: "reference" (the authors' CG for each mask) or "fast" (accelerated single loop).
        cg_tol, cg_iterations: inner CG: for "reference" the absolute tolerance on the squared residual, for "fast" the
            relative one of the last update and of the implicit solve; and the cap.
        inner: most CG iterations of an update before the last one ("fast" only).
        precision: "float32" or "bfloat16" (convolutions only).
        optimizer: "adam" or "muon".
        noise_lr: step size of κ(σ) and of the noise scaling, relative to the others': 1 is the paper. A knot of κ
            learns from the few patches near its noise level, and its values are as large as σ.
        grad_clip: largest gradient norm relative to its running mean; 0 switches clipping off.
        ema: decay of the weight average that is validated and kept; 0 keeps the plain weights.
        validate_every: steps between validations.
        validation_sigmas_255: noise levels of the validation; the mean PSNR over them picks the best weights.
        validation_crop: centre crop of the validation images in pixels; None takes them whole.
        validation_tol: tolerance of the solver in validation.
        checkpoint_every_s: seconds between checkpoints.
        seed: of weights, patches, noise and K_out.
        init: weights to start from ("gray", "color" or a path, as `deal.load` takes) instead of random ones; gray ones
            start a colour model through `deal.transfer`.
        architecture: what is trained.
    """

    kind: str = "gray"
    phases: tuple[Phase, ...] = (Phase(70_000, (5e-4, 4e-4)), Phase(10_000, (2e-4, 1e-7)))
    batch: int = 16
    patch: int = 128
    sigma_max_255: float = 50.0
    sigma_power: float = 1.0
    loss_power: float = 0.0
    gamma: float = 1e-4
    mask_every: int = 1
    outer: tuple[int, int] = (15, 60)
    algorithm: str = "reference"
    cg_tol: float = 1e-4
    cg_iterations: int = 50
    inner: int = 12
    precision: str = "float32"
    optimizer: str = "adam"
    noise_lr: float = 1.0
    grad_clip: float = 0.0
    ema: float = 0.0
    validate_every: int = 1000
    validation_sigmas_255: tuple[float, ...] = (25.0,)
    validation_crop: int | None = None
    validation_tol: float = 1e-4
    checkpoint_every_s: float = 300.0
    seed: int = 0
    init: str | None = None
    architecture: Architecture = PUBLISHED

    @classmethod
    def from_dict(cls, values: dict) -> "TrainConfig":
        """Build from plain data (JSON, YAML); unknown keys raise TypeError."""
        values = dict(values)
        if "phases" in values:
            values["phases"] = tuple(_tupled(Phase, dict(phase)) for phase in values["phases"])
        if isinstance(values.get("architecture"), dict):
            values["architecture"] = Architecture(**values["architecture"])
        return _tupled(cls, values)

    @property
    def steps(self) -> int:
        """Updates in all phases together."""
        return sum(phase.steps for phase in self.phases)

    def digest(self) -> str:
        """Short hash of everything that determines the result."""
        settings = {k: v for k, v in asdict(self).items() if k != "checkpoint_every_s"}
        if self.architecture == PUBLISHED:
            del settings["architecture"]  # states from before there was a choice stay valid
        if self.noise_lr == 1:
            del settings["noise_lr"]
        return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]

    def at(self, step: int) -> tuple[int, float, Phase]:
        """Phase number, step size and phase of update `step` (from 0)."""
        first = 0
        for number, phase in enumerate(self.phases):  # noqa: B007 (used after the loop)
            if step < first + phase.steps:
                break
            first += phase.steps
        progress = (step - first) / max(phase.steps - 1, 1)
        start, end = phase.lr
        lr = end + (start - end) * (1 + math.cos(math.pi * progress)) / 2
        return number, lr * min(1.0, (step - first + 1) / max(phase.warmup, 1)), phase


@dataclass
class StepRecord:
    """Parts of the loss of one step, as numbers, and its K_out."""

    loss: float
    data: float
    mask_change: float
    tv2: float
    outer: int


def loss_backward(
    model: DEAL, x: Tensor, y: Tensor, sigma: Tensor, outer: int, config: TrainConfig, with_mask_change: bool = True
) -> StepRecord:
    """Add the gradient of the three-part loss to the parameters of `model`.

    loss = 1/B Σ w(σ) ‖x_K − x‖² + γ/N ‖M(x_K) − M(x_{K−1})‖²/B + γ TV⁽²⁾(splines), the squared error summed over
    pixels and w = 1 in the paper.

    Args:
        x, y: clean and noisy patches (B, C, H, W).
        sigma: noise levels (B,), images in [0, 1].
        outer: K_out, the number of updates, the last one with gradient.
    """
    dtype = torch.bfloat16 if config.precision == "bfloat16" else None
    norm, lmbda = model.W.squared_norm(), model.lmbda(sigma)
    with torch.no_grad():
        plain = config.algorithm == "reference" and dtype is None
        system = NormalEquations(model, Identity(), sigma, lmbda.detach(), dtype, norm.detach(), plain)
        d = iterate(system, y, outer - 1, config.algorithm, config.cg_tol, config.cg_iterations, config.inner)

    mask_filters, W = model.W_mask.bind(dtype=dtype), model.W.bind(norm.rsqrt(), dtype)
    m = model.mask(d, sigma, mask_filters)
    solve_linear = _linear_solver(system, m.detach().to(W.dtype).square(), y.shape, config)
    with torch.no_grad():
        c = solve_linear(y, d)
    regular = lmbda[:, None, None, None] * W.adjoint(W(c) * m.square().to(W.dtype)).to(y.dtype)
    # The value of c, the derivative of y − λ Wᵀ m² W c.
    output = c - (regular - regular.detach())
    output.register_hook(lambda g: solve_linear(g, g))

    data = ((output - x).square().sum((1, 2, 3)) * _loss_weights(sigma, config.loss_power)).sum() / len(x)
    tv2 = sum(s.second_order_variation() for s in (model.phi1, model.phi2, model.phi3, model.kappa, model.scaling))
    loss = data + config.gamma * tv2
    change = torch.zeros(())
    if with_mask_change and config.gamma > 0:
        change = (model.mask(output, sigma, mask_filters) - m).square().sum() / (m.shape[1] * len(x))
        loss = loss + config.gamma * config.mask_every * change
    loss.backward()
    return StepRecord(loss.item(), data.item(), change.item(), tv2.item(), outer)


def _loss_weights(sigma: Tensor, power: float) -> Tensor:
    """Weights (B,) of the squared errors of patches with noise levels `sigma`, 1 at 25/255."""
    return (25 / (255 * sigma).clamp(min=3)) ** power


def _linear_solver(system: NormalEquations, m2: Tensor, shape: torch.Size, config: TrainConfig) -> Callable:
    """`solve(b, start)` for A(d) u = b with the mask held fixed."""

    apply = system.at(m2)
    if config.algorithm == "reference":
        shrink = 1 / (1 + system.lmbda)

        def solve_reference(b: Tensor, start: Tensor) -> Tensor:
            with torch.no_grad():
                scaled = lambda p: shrink * apply(p)  # noqa: E731
                return conjugate_gradients(scaled, shrink * b, start, config.cg_tol, config.cg_iterations)[0]

        return solve_reference
    with torch.no_grad():
        P = Preconditioner(system, shape).update(m2)

    def solve_fast(b: Tensor, start: Tensor) -> Tensor:
        with torch.no_grad():
            start = P(b) if start is b else start
            return conjugate_gradients(apply, b, start, config.cg_tol, config.cg_iterations, True, P)[0]

    return solve_fast


def validate(
    model: DEAL, images: Sequence[np.ndarray], sigmas_255: Sequence[float], tol: float, crop: int | None = None
) -> list[float]:
    """Mean PSNR (dB, output clipped to [0, 1]) over `images` (C, H, W) in [0, 1], per noise level; seed 0 noise."""
    device = next(model.parameters()).device
    means = []
    for sigma in sigmas_255:
        psnrs = []
        for image in images:
            if crop:
                top, left = (image.shape[1] - crop) // 2, (image.shape[2] - crop) // 2
                image = image[:, max(top, 0) :, max(left, 0) :][:, :crop, :crop]
            noise = np.random.RandomState(0).normal(0, sigma / 255, image.shape)
            y = torch.from_numpy(image + noise.astype(np.float32))[None].to(device)
            estimate = model.denoise(y, sigma / 255, tol=tol, max_outer=100)
            error = (estimate[0].cpu().double() - torch.from_numpy(image).double()).square().mean()
            psnrs.append(-10 * math.log10(max(error.item(), 1e-12)))
        means.append(float(np.mean(psnrs)))
    return means


@torch.no_grad()
@full_float32()  # differences of 1e-3 would drown in TF32
def contraction(model: DEAL, image: np.ndarray, sigma_255: float, crop: int = 64, steps: int = 4) -> float:
    """Estimated local factor q of ‖T(x + δ) − T(x)‖ ≤ q‖δ‖ at the reconstruction of a noisy centre crop.

    A power iteration on finite differences of T, so that δ turns into the slowest direction; below 1 the fixed point
    attracts (paper, Section 4). `image` is (C, H, W) in [0, 1].
    """
    device = next(model.parameters()).device
    top, left = ((n - min(n, crop)) // 2 for n in image.shape[1:])
    clean = torch.from_numpy(image[:, top : top + crop, left : left + crop])[None].to(device)
    noise = np.random.RandomState(0).normal(0, sigma_255 / 255, clean.shape).astype(np.float32)
    y, sigma = clean + torch.from_numpy(noise).to(device), torch.full((1,), sigma_255 / 255, device=device)
    system = NormalEquations(model, Identity(), sigma, model.lmbda(sigma))

    def T(x: Tensor) -> Tensor:
        m2 = system.mask_squared(x)
        P = Preconditioner(system, y.shape).update(m2)
        return conjugate_gradients(system.at(m2), y, x, 1e-6, 100, True, P)[0]

    x = model.denoise(y, sigma, tol=1e-4, max_outer=60, clip=False)
    Tx, size = T(x), 1e-3 * x.norm()
    delta, q = torch.randn(x.shape, generator=torch.Generator().manual_seed(0)).to(x), math.nan
    for _ in range(steps):
        delta *= size / delta.norm()
        change = T(x + delta) - Tx
        q, delta = float(change.norm() / size), change
    return q


def make_batch(data: PackedImages, config: TrainConfig, step: int, rank: int, world: int):
    """Patches x, y, noise levels and K_out of one step: a pure function of (seed, step, rank)."""
    _, _, phase = config.at(step)
    shared = np.random.default_rng([config.seed, step])
    low, high = phase.outer or config.outer
    outer = int(shared.integers(low, high + 1))
    rng = np.random.default_rng([config.seed, step, rank + 1])
    count = (phase.batch or config.batch) // world
    x = data.sample(rng, count, phase.patch or config.patch).astype(np.float32) / 255
    sigma = (config.sigma_max_255 * rng.uniform(0, 1, count) ** config.sigma_power / 255).astype(np.float32)
    y = x + sigma[:, None, None, None] * rng.standard_normal(x.shape, dtype=np.float32)
    return torch.from_numpy(x), torch.from_numpy(y), torch.from_numpy(sigma), outer


def _time_is_up(started: float, minutes: float | None, device, world: int) -> bool:
    """Whether to stop, the same for all processes: the first one's clock decides."""
    if minutes is None:
        return False
    up = time.monotonic() - started >= 60 * minutes
    if world > 1:
        decision = torch.tensor(float(up), device=device)
        torch.distributed.broadcast(decision, 0)
        up = bool(decision)
    return up


def train(
    config: TrainConfig,
    train_file: str | os.PathLike[str],
    validation: Sequence[np.ndarray],
    output: str | os.PathLike[str],
    state_dir: str | os.PathLike[str],
    device: str | torch.device = "cpu",
    minutes: float | None = None,
    metadata: dict | None = None,
    progress: bool = True,
    tensorboard: bool = False,
) -> bool:
    """Train, or resume from `state_dir`, and write the best weights to `output`.

    Args:
        train_file: packed images (`deal.patches.pack`).
        validation: images (C, H, W) in [0, 1].
        output: safetensors file, written when the schedule is complete (or the time is up) from the best validation.
        state_dir: holds the checkpoint `state.pt`, the best weights so far and `log.csv`; a killed run that is started
            again with the same configuration goes on from there to the same sequence of losses.
        minutes: stop after so many minutes; the next call resumes.

    Returns:
        True when the schedule is complete.

    Raises:
        ValueError: `state_dir` belongs to another configuration or to other training images, channel counts disagree,
            a batch cannot be shared evenly by the processes, or `metadata` has a key that `deal.save` writes itself.

    With `torchrun` each process takes its share of the batch and gradients are averaged.
    """
    rank, world = _init_distributed(device)
    for batch in {config.batch, *(phase.batch for phase in config.phases if phase.batch)}:
        if batch % world:
            raise ValueError(f"a batch of {batch} patches cannot be shared evenly by {world} processes")
    data = PackedImages(train_file)
    torch.manual_seed(config.seed)
    model = config.architecture.build(config.kind)
    if data.channels != model.channels:
        raise ValueError(f"{train_file}: {data.channels}-channel images cannot train the {config.kind} model")
    if config.init:
        start = weights_io.load(config.init)
        if start.architecture != config.architecture:
            raise ValueError(f"init: {config.init} has {start.architecture}, to be trained are {config.architecture}")
        model.load_state_dict((color_from_gray(start) if config.kind != start.kind else start).state_dict())
    weights_io.metadata_block(model, metadata)  # what it refuses is refused now, not after days
    model.to(device)
    images = {"training images": weights_io.sha256(train_file), "validation images": _digest(validation)}
    run = _Run(config, model, Path(state_dir), rank, images)
    run.resume()
    started, writer = time.monotonic(), _tensorboard(state_dir, run.step) if tensorboard and rank == 0 else None
    saved = started
    bar = tqdm(total=config.steps, initial=run.step, unit="step", disable=not progress or rank > 0)
    with ThreadPoolExecutor(1) as loader:
        upcoming = loader.submit(make_batch, data, config, run.step, rank, world) if run.step < config.steps else None
        while run.step < config.steps and not _time_is_up(started, minutes, device, world):
            x, y, sigma, outer = (v.to(device) if isinstance(v, Tensor) else v for v in upcoming.result())
            if run.step + 1 < config.steps:
                upcoming = loader.submit(make_batch, data, config, run.step + 1, rank, world)
            record = run.update(x, y, sigma, outer, world)
            due = run.step % config.validate_every == 0 or run.step == config.steps
            row = run.log(record, *(run.validate(validation) if due and rank == 0 else (None, None)))
            if writer:
                for key in ("loss", "lr", "tv2", "psnr"):
                    if row[key] != "":
                        writer.add_scalar(key, float(row[key]), run.step)
            bar.update()
            bar.set_postfix(loss=f"{record.loss:.3g}", best=f"{run.best_psnr:.2f} dB")
            if time.monotonic() - saved > config.checkpoint_every_s or due:
                run.save()
                saved = time.monotonic()
    bar.close()
    run.save()
    if rank == 0 and run.best_weights.is_file():
        block = {
            "training": asdict(config),
            "steps": run.best_step,
            "validation_psnr": run.best_psnr,
            "training_data": data.metadata,
            "training_file_sha256": images["training images"],
            **({"initial": weights_io.describe(config.init)} if config.init else {}),
            **(metadata or {}),
        }
        weights_io.save(weights_io.load(run.best_weights), output, block)
    return run.step >= config.steps


def _digest(images: Sequence[np.ndarray]) -> str:
    """sha256 of arrays."""
    found = hashlib.sha256()
    for image in images:
        found.update(f"{image.dtype} {image.shape} ".encode())
        found.update(np.ascontiguousarray(image))
    return found.hexdigest()


class _Run:
    """Everything that a checkpoint restores; `images` are the sha256 of what must stay the same, by name."""

    def __init__(
        self, config: TrainConfig, model: DEAL, state_dir: Path, rank: int, images: dict[str, str] | None = None
    ):
        self.config, self.model, self.dir, self.rank, self.images = config, model, state_dir, rank, images or {}
        self.optimizer = optimizer.make(config.optimizer, model, config.phases[0].lr[0], config.noise_lr)
        self.average = {k: v.detach().clone() for k, v in model.state_dict().items()} if config.ema else {}
        self.step, self.best_psnr, self.best_step, self.gradient_scale = 0, -math.inf, 0, 0.0
        self.rows: list[dict] = []
        self.best_weights = state_dir / "best.safetensors"
        self._since = time.monotonic()

    def resume(self) -> None:
        """Restore the last checkpoint, if there is one."""
        self.dir.mkdir(parents=True, exist_ok=True)
        path = self.dir / "state.pt"
        if not path.is_file():
            return
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # any unreadable checkpoint is the same fault to the user
            raise ValueError(
                f"{path}: unreadable checkpoint ({type(error).__name__}); remove it to start again"
            ) from None
        if state["config"] != self.config.digest():
            raise ValueError(f"{path}: belongs to another training configuration; remove it to start again")
        for what, now in self.images.items():
            begun = state.get("images", {}).get(what, now)  # states from before it was kept stay valid
            if begun != now:
                raise ValueError(
                    f"{path}: begun with other {what}, sha256 {begun[:12]}, not {now[:12]}; bring those back, or give "
                    "another state folder"
                )
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        device = next(self.model.parameters()).device
        self.average = {k: v.to(device) for k, v in state["average"].items()}
        self.step, self.best_step, self.best_psnr = state["step"], state["best_step"], state["best_psnr"]
        self.gradient_scale = state["gradient_scale"]
        log = self.dir / "log.csv"
        if log.is_file():
            with log.open(newline="") as handle:
                self.rows = [row for row in csv.DictReader(handle) if int(row["step"]) <= self.step]
            if not self.rank:  # one of the processes that share a training writes
                self._write_log()

    def save(self) -> None:
        """Write the checkpoint atomically."""
        if self.rank:
            return
        state = {
            "config": self.config.digest(),
            "images": self.images,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": self.average,
            "step": self.step,
            "best_step": self.best_step,
            "best_psnr": self.best_psnr,
            "gradient_scale": self.gradient_scale,
        }
        partial = self.dir / "state.pt.part"
        torch.save(state, partial)
        weights_io.replace(partial, self.dir / "state.pt")
        self._write_log()

    def update(self, x: Tensor, y: Tensor, sigma: Tensor, outer: int, world: int) -> StepRecord:
        """One optimisation step."""
        _, lr, _ = self.config.at(self.step)
        optimizer.set_lr(self.optimizer, lr)
        self.optimizer.zero_grad(set_to_none=True)
        with_mask = self.step % self.config.mask_every == 0
        record = loss_backward(self.model, x, y, sigma, outer, self.config, with_mask)
        gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
        if world > 1:
            for gradient in gradients:
                torch.distributed.all_reduce(gradient)
                gradient /= world
        size = torch.stack([g.norm() for g in gradients]).norm().item()
        if math.isfinite(size):
            limit = self.config.grad_clip * self.gradient_scale
            if limit and size > limit:
                for gradient in gradients:
                    gradient *= limit / size
            clipped = min(size, limit) if limit else size
            self.gradient_scale = 0.98 * self.gradient_scale + 0.02 * clipped if self.gradient_scale else size
            self.optimizer.step()
        decay = min(self.config.ema, (1 + self.step) / (10 + self.step))
        for name, value in self.model.state_dict().items():
            if name in self.average:
                self.average[name].lerp_(value, 1 - decay)
        self.step += 1
        return record

    def validate(self, images: Sequence[np.ndarray]) -> tuple[list[float], float]:
        """PSNR per noise level of the averaged (or plain) weights, and a contraction factor; the best are kept."""
        model = self.config.architecture.build(self.config.kind).to(next(self.model.parameters()).device)
        model.load_state_dict(self.average or self.model.state_dict())
        config = self.config
        scores = validate(model, images, config.validation_sigmas_255, config.validation_tol, config.validation_crop)
        if np.mean(scores) > self.best_psnr:
            self.best_psnr, self.best_step = float(np.mean(scores)), self.step
            weights_io.save(model, self.best_weights, {"steps": self.step, "validation_psnr": self.best_psnr})
        return scores, contraction(model, images[0], config.validation_sigmas_255[-1])

    def log(self, record: StepRecord, scores: list[float] | None, factor: float | None) -> dict:
        """Add a row to the log."""
        number, lr, _ = self.config.at(self.step - 1)
        with torch.no_grad():
            strengths = self.model.kappa.at(torch.tensor(LOG_SIGMAS_255, device=self.model.kappa.coefficients.device))
        now = time.monotonic()
        row = {
            "step": self.step,
            "phase": number,
            "lr": f"{lr:.6g}",
            "loss": f"{record.loss:.9g}",
            "data": f"{record.data:.9g}",
            "mask_change": f"{record.mask_change:.6g}",
            "tv2": f"{record.tv2:.6g}",
            "outer": record.outer,
            "psnr": "" if scores is None else f"{np.mean(scores):.4f}",
            "validation": "" if scores is None else " ".join(f"{s:.4f}" for s in scores),
            "lambda": " ".join(f"{s:.4f}" for s in strengths[:, 0].tolist()),
            "contraction": "" if factor is None else f"{factor:.4f}",
            "seconds": f"{now - self._since:.3f}",
        }
        self._since = now
        self.rows.append(row)
        return row

    def _write_log(self) -> None:
        partial = self.dir / "log.csv.part"
        with partial.open("w", newline="") as handle:
            writer = csv.DictWriter(handle, LOG_FIELDS)
            writer.writeheader()
            writer.writerows(self.rows)
        partial.replace(self.dir / "log.csv")


def _init_distributed(device: str | torch.device) -> tuple[int, int]:
    """Rank and size under `torchrun`; (0, 1) otherwise."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world > 1 and not torch.distributed.is_initialized():
        cuda = torch.device(device).type == "cuda"
        if cuda:
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        torch.distributed.init_process_group("nccl" if cuda else "gloo")
    return int(os.environ.get("RANK", "0")), world


def _tensorboard(state_dir, step: int):
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(Path(state_dir) / "tensorboard"), purge_step=step)


def _tupled(cls, values: dict):
    return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})
