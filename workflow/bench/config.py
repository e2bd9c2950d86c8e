"""The models of config.yaml: every key, its type, its default (the paper's value) and its meaning.

`workflow/config.schema.json` and `docs/configuration.md` are generated from them (`python -m bench schema`,
`docs`); files are read by `bench.configfile`.
"""

import difflib
import functools
import hashlib
import json
import os
import re
from abc import abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import yaml
from pydantic import Field, model_validator

from bench.errors import UserError
from bench.figure_config import Figures
from bench.sections import Count, CountPair, Pair, Positive, Section

WEIGHTS = ("train", "released", "official")
SHIPPED = Path(__file__).parents[2] / "config.yaml"


@functools.cache
def _methods() -> tuple[str, ...]:
    """Those of config.yaml, the one place that lists them; without it, as where the package is installed alone, few."""
    if not SHIPPED.is_file():
        return "truth", "measurement", "deal"
    try:
        return tuple(yaml.safe_load(SHIPPED.read_text(encoding="utf-8"))["methods"])
    except (yaml.YAMLError, TypeError, KeyError) as error:
        raise UserError(
            f"{SHIPPED}: lists no methods ({type(error).__name__}); it is the list where no other is given"
        ) from None


class Phase(Section):
    """One phase of training; what is null is as in the training's own keys."""

    steps: int = Field(ge=1, description="Optimiser steps of this phase.")
    lr: Pair = Field(description="First and last step size; a cosine leads from one to the other.")
    warmup: int = Field(0, ge=0, description="Steps over which the step size first rises from zero.")
    batch: Count | None = Field(None, description="Patches per step in this phase.")
    patch: Count | None = Field(None, description="Side of the patches in this phase.")
    outer: CountPair | None = Field(None, description="Range of K_out in this phase.")


class Architecture(Section):
    """What is trained, `deal.model.Architecture`; the defaults are the published model."""

    filters: Count = Field(128, description="N_C, filters of the last layer of W and of W_mask.")
    kernel_size: Annotated[int, Field(ge=3, le=25)] = Field(
        9, description="Side of the kernels of W and of W_mask, an odd number."
    )
    non_decreasing: bool = Field(True, description="Whether φ1 and φ2 are kept non-decreasing.")


class TrainingData(Section):
    """Images of a training."""

    datasets: Annotated[list[str], Field(min_length=1)] = Field(
        description="Data sets whose images the training patches are cut from."
    )
    validation: str = Field(description="Data set on which the best checkpoint is chosen.")


class Schedule(Section):
    """How a model is trained, keys of `deal.training.TrainConfig`."""

    phases: Annotated[list[Phase], Field(min_length=1)] = Field(description="Training phases, in order.")
    batch: Count = Field(16, description="Patches per step, over all GPUs.")
    patch: Count = Field(128, description="Side of a training patch, in pixels.")
    sigma_max_255: Positive = Field(50.0, description="Highest noise level, in 0-255 units; each patch has its own.")
    sigma_power: Positive = Field(
        1.0, description="They are `sigma_max_255` uᵖ with u uniform on [0, 1]: 1, uniform; above, more low ones."
    )
    loss_power: float = Field(
        0.0,
        ge=0,
        le=4,
        description="Squared errors are weighed by (25 / max(σ, 3))ᵖ: 0, the paper; 1.3, all levels alike in dB.",
    )
    gamma: float = Field(1e-4, ge=0, description="Weight γ of the two regularising terms of the loss.")
    mask_every: Count = Field(
        1,
        description="Steps between two evaluations of the mask-change term, which then counts so many times.",
    )
    outer: CountPair = Field(
        [15, 60], description="K_out, the number of outer iterations of a step, is uniform on this range."
    )
    algorithm: Literal["reference", "fast"] = Field(
        "reference",
        description="`reference`: the authors' fixed-point iteration; `fast`: an accelerated one.",
    )
    cg_tol: Positive = Field(1e-4, description="Stopping value ε_in of conjugate gradients in training.")
    cg_iterations: Count = Field(50, description="Most conjugate-gradient iterations n_in of one update.")
    inner: Count = Field(
        12, description="Most conjugate-gradient iterations of an update before the last one (`fast` only)."
    )
    precision: Literal["float32", "bfloat16"] = Field("float32", description="Precision of the convolutions.")
    optimizer: Literal["adam", "muon"] = Field(
        "adam", description="`adam`, as the paper; `muon`: orthogonalised steps for the wide layers."
    )
    noise_lr: Positive = Field(
        1.0, description="Step size of κ(σ) and of the noise scaling, relative to the others': 1, the paper."
    )
    grad_clip: float = Field(
        0.0,
        ge=0,
        description="Largest gradient norm relative to its running mean; 0: gradients are not clipped.",
    )
    ema: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Decay of the weight average that is validated and kept; 0: the plain weights.",
    )
    validate_every: Count = Field(1000, description="Steps between two validations.")
    validation_sigmas_255: Annotated[list[Positive], Field(min_length=1)] = Field(
        [25.0], description="Noise levels of the validation, in 0-255 units."
    )
    validation_crop: Count | None = Field(
        None, description="Side of the centre crop of validation images; null: whole images."
    )
    validation_tol: Positive = Field(1e-4, description="Tolerance of the solver in validation.")
    checkpoint_every_s: float = Field(
        300.0, ge=0, description="Seconds between two saved states; a kill costs at most this."
    )
    seed: int = Field(0, ge=0, description="Seed of initialisation, patches, noise and K_out.")


class Training(Schedule, TrainingData):
    """Training of one model; the keys after `validation` are those of `deal.training.TrainConfig`."""

    init: str | None = Field(
        None, description="Start from these weights (`gray`, `color` or a file); null: from random ones."
    )
    architecture: Architecture = Field(default_factory=Architecture, description="What is trained.")


class SolverOverride(Section):
    """What differs for one task; null: as the solver's own keys say."""

    algorithm: Literal["reference", "fast"] | None = Field(None, description="See `solver.algorithm`.")
    tol: Positive | None = Field(None, description="See `solver.tol`.")
    cg_tol: Positive | None = Field(None, description="See `solver.cg_tol`.")
    max_outer: Count | None = Field(None, description="See `solver.max_outer`.")
    max_cg: Annotated[int, Field(ge=2)] | None = Field(None, description="See `solver.max_cg`.")


class Solver(Section):
    """How DEAL solves its fixed-point problem; `tasks` overrides any of it for one task."""

    algorithm: Literal["reference", "fast"] = Field(
        "reference",
        description="`reference`: the authors' algorithm; `fast`: the same equation, far fewer operations.",
    )
    tol: Positive = Field(1e-5, description="Stop when an outer update changes x by less than this, relatively.")
    cg_tol: Positive = Field(
        1e-8, description="Stop conjugate gradients when the squared scaled residual is below this."
    )
    max_outer: Count = Field(1000, description="Most outer iterations; reaching it is reported, not hidden.")
    max_cg: Annotated[int, Field(ge=2)] = Field(
        1000, description="Most conjugate-gradient iterations of one update (`reference`), one of which only checks."
    )
    tasks: dict[str, SolverOverride] = Field(
        default_factory=lambda: {
            "denoise_gray": SolverOverride(cg_tol=1e-6),
            "denoise_color": SolverOverride(cg_tol=1e-6),
            "superres_color": SolverOverride(cg_tol=5e-7),
        },
        description="Task name → the keys of this section that differ for it.",
    )

    def for_task(self, task: str) -> dict[str, Any]:
        """The settings that hold for `task`, overrides applied."""
        own = self.model_dump(exclude={"tasks"})
        override = self.tasks.get(task)
        return own | (override.model_dump(exclude_none=True) if override else {})


class TaskSection(Section):
    """What every task has. Its settings are the points of a grid; one job is one task, setting and method."""

    seed: int = Field(0, ge=0, description="numpy seed set before every image, the same for all methods.")
    subset: Count | None = Field(None, description="Use only the first n images; null: all.")
    hyperparameters: Literal["tuned", "paper"] | None = Field(
        None, description="As the top-level key, for this task; null: as that says."
    )

    @abstractmethod
    def grid(self) -> dict[str, dict[str, Any]]:
        """Setting's name → what it varies, among it `sigma_255`, the noise level."""

    varied: ClassVar[tuple[str, ...]] = ()
    """Keys that list the values of the grid."""

    @property
    def noise_seed(self) -> int | str:
        """What result rows say of the noise: its seed, or that it comes with the data."""
        return self.seed

    def settings(self) -> list[str]:
        """Names of the settings: `sigma25`, `x2_sigma2.55`, `k17_sigma7.65`."""
        return list(self.grid())

    def parameters(self, setting: str) -> dict[str, Any]:
        """What is behind a setting's name; a UserError names an unknown one."""
        grid = self.grid()
        if setting not in grid:
            raise UserError(f"unknown setting '{setting}'{did_you_mean(setting, grid)}")
        return grid[setting]

    def sigma_255(self, setting: str) -> float:
        """The noise level of a setting, in 0-255 units."""
        return self.parameters(setting)["sigma_255"]

    def sigma(self, setting: str) -> float:
        """The noise level of a setting, in the units of y (images in [0, 1])."""
        return self.sigma_255(setting) / 255

    @abstractmethod
    def datasets(self) -> list[str]:
        """Data sets of the registry that the task reads."""

    def selection(self) -> dict[str, Any]:
        """Which items of a setting are used, beside the number of images."""
        return {}

    def part(self, setting: str) -> dict[str, Any]:
        """What the result of one setting depends on.

        Left out: the other settings, and how many images are used, so that a longer run keeps the rows it
        has; hyperparameters, which count by their values.
        """
        shared = self.model_dump(mode="json", exclude={*self.varied, "subset", "hyperparameters"})
        return {**self.parameters(setting), **shared}


class ImageSection(TaskSection):
    """A task on the images of a data set."""

    dataset: str = Field(description="Test data set.")

    def datasets(self) -> list[str]:
        """The images."""
        return [self.dataset]


class Denoise(ImageSection):
    """A denoising task: y = x + n."""

    crop: Count | None = Field(description="Side of the square cut from the centre; null keeps whole images.")
    sigmas_255: Annotated[list[Positive], Field(min_length=1)] = Field(
        [5.0, 15.0, 25.0], description="Noise standard deviations in 0-255 units; each is one setting."
    )
    varied: ClassVar[tuple[str, ...]] = ("sigmas_255",)

    def grid(self) -> dict[str, dict[str, Any]]:
        """`sigma25`, `sigma2.55`."""
        return {f"sigma{sigma:g}": {"sigma_255": sigma} for sigma in self.sigmas_255}


class Superres(ImageSection):
    """Super-resolution: y = every s-th pixel of the blurred image, plus noise; each image once a kernel."""

    crop: Count | None = Field(
        256,
        description="Side of the square cut from the centre, then shortened to a multiple of s; null: whole images.",
    )
    factors: Annotated[list[Count], Field(min_length=1)] = Field([2, 3], description="Factors s.")
    sigmas_255: Annotated[list[Positive], Field(min_length=1)] = Field(
        [2.55, 7.65, 12.75], description="Noise standard deviations in 0-255 units."
    )
    kernels: Annotated[list[Annotated[int, Field(ge=0, le=3)]], Field(min_length=1)] = Field(
        [0, 1, 2, 3],
        description="Gaussian kernels, standard deviations 0.7, 1.2, 1.6, 2.0 pixels; results are averaged.",
    )
    kernel_source: Literal["dpir_kernels", "generated"] = Field(
        "dpir_kernels",
        description="`dpir_kernels`: DPIR's kernels_12.mat; `generated`: the same by formula, nothing to download.",
    )
    varied: ClassVar[tuple[str, ...]] = ("factors", "sigmas_255", "kernels")

    def grid(self) -> dict[str, dict[str, Any]]:
        """`x2_sigma2.55`."""
        pairs = [(factor, sigma) for factor in self.factors for sigma in self.sigmas_255]
        return {f"x{factor}_sigma{sigma:g}": {"factor": factor, "sigma_255": sigma} for factor, sigma in pairs}

    def selection(self) -> dict[str, Any]:
        """The kernels."""
        return {"kernels": self.kernels}

    def datasets(self) -> list[str]:
        """The images, and the kernels unless they are computed."""
        return [self.dataset, *([self.kernel_source] if self.kernel_source != "generated" else [])]


LEVIN_SIZES = (19, 17, 15, 27, 13, 21, 23, 23)
"""Sides of the eight motion-blur kernels of Levin et al. (2009), in the order of Levin09.mat."""


class Deblur(ImageSection):
    """Deblurring: y = circular blur of x by a motion kernel, plus noise."""

    crop: Count | None = Field(None, description="Side of the square cut from the centre; null: whole images.")
    kernels: Annotated[list[Annotated[int, Field(ge=0, le=7)]], Field(min_length=1)] = Field(
        [1, 3], description="Kernels of Levin et al. (2009), counted from 0; 1 has 17×17 pixels, 3 has 27×27."
    )
    sigmas_255: Annotated[list[Positive], Field(min_length=1)] = Field(
        [2.55, 7.65], description="Noise standard deviations in 0-255 units."
    )
    measurement: Literal["published", "float"] = Field(
        "published",
        description="`published`: clipped and rounded to 8 bits, equal to the authors' files pixel by pixel; `float`: "
        "neither. Both round the blurred image down to 8 bits before the noise is added, as DPIR does.",
    )
    kernel_source: Literal["dpir_kernels", "generated"] = Field(
        "dpir_kernels",
        description="`dpir_kernels`: DPIR's file Levin09.mat; `generated`: random camera shakes of the same sizes, "
        "nothing to download.",
    )
    varied: ClassVar[tuple[str, ...]] = ("kernels", "sigmas_255")

    def grid(self) -> dict[str, dict[str, Any]]:
        """`k17_sigma2.55`; the second kernel of 23 pixels is called `k23b`."""
        names = {kernel: f"k{LEVIN_SIZES[kernel]}{'b' if kernel == 7 else ''}" for kernel in self.kernels}
        pairs = [(kernel, sigma) for kernel in self.kernels for sigma in self.sigmas_255]
        return {f"{names[kernel]}_sigma{sigma:g}": {"kernel": kernel, "sigma_255": sigma} for kernel, sigma in pairs}

    def datasets(self) -> list[str]:
        """The images, and the kernels unless they are computed."""
        return [self.dataset, *([self.kernel_source] if self.kernel_source != "generated" else [])]


class Sampling(Section):
    """Random columns of k-space."""

    acceleration: Annotated[float, Field(ge=1)] = Field(description="One column in so many is measured, on average.")
    center_fraction: Annotated[float, Field(gt=0, le=1)] = Field(
        description="Part of the columns, those around zero frequency, that is always measured."
    )


class Phantom(Section):
    """Volumes of the phantom."""

    height: Annotated[int, Field(ge=16)] = Field(320, description="Rows of a slice.")
    width: Annotated[int, Field(ge=16)] = Field(320, description="Columns of a slice.")
    coils: Count = Field(8, description="Receiver coils.")
    slices: Count = Field(2, description="Slices of a volume; the middle one is used.")
    seed: int = Field(0, ge=0, description="numpy seed of the first volume; one more for each following one.")


STORED_NOISE = "stored"
"""Instead of a seed: the noise comes with the data."""


class Mri(TaskSection):
    """MRI: y = (F S x + n) · mask, with coil sensitivities S and the orthonormal FFT F."""

    source: Literal["zenodo", "fastmri", "phantom"] = Field(
        "zenodo",
        description="`zenodo`: record 8302121, preprocessed by the authors; `fastmri`: raw multi-coil knee files in "
        "`path`; `phantom`: made up, in fastMRI's file layout.",
    )
    path: str | None = Field(
        None,
        description="fastmri: the folder of `multicoil_val/*.h5`; zenodo: the unpacked record, or null to download it.",
    )
    samplings: Annotated[dict[str, Sampling], Field(min_length=1)] = Field(
        default_factory=lambda: {
            "single4": Sampling(acceleration=4.0, center_fraction=0.08),
            "multi8": Sampling(acceleration=8.0, center_fraction=0.04),
        },
        description="Name → columns measured. Names begin with `single` (one coil, S = 1) or `multi`; a sampling and "
        "a contrast make a setting.",
    )
    contrasts: Annotated[list[Literal["pd", "pdfs"]], Field(min_length=1)] = Field(
        ["pd", "pdfs"], description="Proton density, without and with fat suppression."
    )
    noise_std: Positive = Field(
        0.002,
        description="Standard deviation of the noise in the real and in the imaginary part of y; x has maximum 1.",
    )
    validation: int = Field(10, ge=0, description="Volumes of each contrast, the first by name, for tuning.")
    test: Count = Field(50, description="Volumes of each contrast, the next by name, for the tables.")
    split: Literal["test", "validation"] = Field("test", description="Which of them are reconstructed.")
    exclude: list[str] = Field(
        ["file1000007", "file1000903"], description="Volumes of fastMRI left out: too noisy to serve as truth."
    )
    calibration_width: Annotated[int, Field(ge=8)] = Field(
        24, description="Side of the central k-space from which ESPIRiT estimates the sensitivities (raw files)."
    )
    phantom: Phantom = Field(default_factory=Phantom, description="Volumes of the source `phantom`.")
    hyperparameters: Literal["tuned", "paper"] | None = Field(
        "tuned",
        description="As the top-level key, for this task. The paper does not print what its search found for MRI; "
        "`paper` takes each method's starting point.",
    )
    varied: ClassVar[tuple[str, ...]] = ("samplings", "contrasts")

    @model_validator(mode="after")
    def _samplings_are_named(self) -> "Mri":
        for name in self.samplings:
            if not re.fullmatch(r"(single|multi)[a-z0-9]*", name):
                raise ValueError(f"tasks.mri.samplings: '{name}' does not begin with single or multi")
        return self

    def grid(self) -> dict[str, dict[str, Any]]:
        """`single4_pd`."""
        sigma = {"sigma_255": 255 * self.noise_std}
        return {
            f"{name}_{contrast}": {"sampling": name, "contrast": contrast, **sampling.model_dump(), **sigma}
            for name, sampling in self.samplings.items()
            for contrast in self.contrasts
        }

    def sigma(self, setting: str) -> float:
        """The noise in each part of y."""
        self.parameters(setting)
        return self.noise_std

    def datasets(self) -> list[str]:
        """None: prepared samples take their place."""
        return []

    @property
    def noise_seed(self) -> int | str:
        """The record on Zenodo holds its measurements."""
        return STORED_NOISE if self.source == "zenodo" else self.seed

    @property
    def data_name(self) -> str:
        """What result rows call the data."""
        return f"mri_{self.source}"

    def part(self, setting: str) -> dict[str, Any]:
        """What made the samples is left out: these count by what they hold."""
        drawn = () if self.source == "zenodo" else ("seed",)
        kept = self.model_dump(mode="json", include={"source", "split", "noise_std", *drawn})
        return {**self.parameters(setting), **kept}

    def preparation(self) -> dict[str, Any]:
        """What the prepared samples depend on."""
        unused = {"seed", "subset", "hyperparameters", "split", *(() if self.source == "phantom" else ("phantom",))}
        unused |= {"exclude", "calibration_width"} if self.source == "zenodo" else {"noise_std"}
        return self.model_dump(mode="json", exclude=unused)

    def samples(self, cache: str | os.PathLike[str]) -> str:
        """The file that lists the prepared samples; another preparation has another name."""
        return f"{os.fspath(cache)}/mri/{self.source}-{digest(self.preparation())}.json"


class Tasks(Section):
    denoise_gray: Denoise = Field(
        default_factory=lambda: Denoise(dataset="bsd68", crop=None),
        description="Gray denoising (Table 1, left).",
    )
    denoise_color: Denoise = Field(
        default_factory=lambda: Denoise(dataset="cbsd68", crop=256),
        description="Colour denoising (Table 1, right).",
    )
    superres_color: Superres = Field(
        default_factory=lambda: Superres(dataset="cbsd68"), description="Colour super-resolution (Table 2)."
    )
    deblur_gray: Deblur = Field(
        default_factory=lambda: Deblur(dataset="set3_gray"), description="Gray deblurring (Table 5)."
    )
    mri: Mri = Field(default_factory=Mri, description="Magnetic resonance imaging (Tables 3 and 4).")


class Validation(Section):
    """Images on which the hyperparameters for one task are chosen; none of them may be a test image."""

    dataset: str = Field(description="Data set of the registry.")
    subset: Count | None = Field(None, description="Use only the first n images; null: all.")
    crop: Count | None = Field(
        None, description="Side of the square cut from the centre; null: as for the test images."
    )


class Tuning(Section):
    """The search for hyperparameters: same budget and same images for every method."""

    search: Literal["grid", "budget"] = Field(
        "grid",
        description="`grid`: the authors' coarse-to-fine search, one or two parameters; `budget`: parabolas along one "
        "parameter after the other, a fraction of the evaluations.",
    )
    evaluations: Count = Field(
        100, description="Most points evaluated for one setting and method, each on all validation images."
    )
    gamma: Annotated[float, Field(gt=1)] = Field(3.0, description="First ratio γ of neighbouring points.")
    gamma_stop: Annotated[float, Field(gt=1)] = Field(1.1, description="The search ends once γ is at most this.")
    tasks: dict[str, Validation] = Field(
        default_factory=lambda: {
            "denoise_gray": Validation(dataset="set12"),
            "denoise_color": Validation(dataset="set3c"),
            "superres_color": Validation(dataset="set3c"),
            "deblur_gray": Validation(dataset="set9_gray"),
        },
        description="Task name → its validation images.",
    )


class Table(Section):
    """A table: one column a setting of its tasks, one row a method."""

    caption: str = Field(description="Its title.")
    tasks: Annotated[list[str], Field(min_length=1)] = Field(description="Tasks shown, left to right.")
    methods: list[str] | None = Field(
        None, description="Rows, top to bottom; null: those of `methods` that serve one of its tasks."
    )
    tolerance: Positive = Field(0.05, description="Largest difference to the paper, in dB, that counts as a match.")


class TimingTable(Section):
    """A table of reconstruction times."""

    caption: str = Field(description="Its title.")
    tasks: Annotated[list[str], Field(min_length=1)] = Field(description="Tasks shown, left to right.")
    methods: list[str] | None = Field(
        None, description="Rows, top to bottom; null: those of `methods` that serve one of its tasks, but no oracles."
    )


class Timing(Section):
    """How times are measured (Table 4)."""

    warmup: int = Field(1, ge=0, description="Unmeasured calls before the first measured one of every image shape.")
    repeats: Count = Field(3, description="Measured calls for each image.")
    images: Count | None = Field(10, description="First n images of each setting; null: all.")


class Tables(Section):
    table1: Table = Field(
        default_factory=lambda: Table(caption="Denoising", tasks=["denoise_gray", "denoise_color"]),
        description="Table 1: PSNR of denoising.",
    )
    table2: Table = Field(
        default_factory=lambda: Table(caption="Colour super-resolution", tasks=["superres_color"]),
        description="Table 2: PSNR of super-resolution.",
    )
    table3: Table = Field(
        default_factory=lambda: Table(caption="MRI", tasks=["mri"]), description="Table 3: PSNR of MRI."
    )
    table4: TimingTable = Field(
        default_factory=lambda: TimingTable(caption="MRI, seconds per reconstruction", tasks=["mri"]),
        description="Table 4: times of MRI.",
    )
    table5: Table = Field(
        default_factory=lambda: Table(caption="Gray deblurring", tasks=["deblur_gray"]),
        description="Table 5: PSNR of deblurring.",
    )


class Report(Section):
    training: bool | None = Field(
        None,
        description="Whether the report shows DEAL's training, and waits for it; null: where `weights` is `train`.",
    )


class Trainings(Section):
    gray: Training = Field(
        default_factory=lambda: Training(
            datasets=["bsds500_color"],
            validation="set12",
            phases=[Phase(steps=70000, lr=[5e-4, 4e-4]), Phase(steps=10000, lr=[2e-4, 1e-7])],
        ),
        description="The gray model. Colour images are converted to gray as MATLAB's rgb2gray does.",
    )
    color: Training = Field(
        default_factory=lambda: Training(
            datasets=["bsds500_color"],
            validation="set3c",
            phases=[Phase(steps=40000, lr=[5e-4, 4e-4]), Phase(steps=5000, lr=[2e-4, 1e-7])],
        ),
        description="The colour model.",
    )


class Ablations(Section):
    """Gray models of other architectures, trained alike and compared in `denoise_gray` (target `ablations`)."""

    caption: str = Field("Ablations of the gray model", description="Title of the table.")
    names: Annotated[list[str], Field(min_length=1)] = Field(
        ["filters_32", "filters_64", "filters_128", "unconstrained_splines", "kernel_5", "kernel_7"],
        description="Variants that are trained, one a row of the table, from top to bottom.",
    )
    variants: dict[str, Architecture] = Field(
        default_factory=lambda: {
            "filters_32": Architecture(filters=32),
            "filters_64": Architecture(filters=64),
            "filters_128": Architecture(),
            "unconstrained_splines": Architecture(non_decreasing=False),
            "kernel_5": Architecture(kernel_size=5),
            "kernel_7": Architecture(kernel_size=7),
        },
        description="Variant's name → its architecture.",
    )
    schedule: Schedule | None = Field(
        None, description="How all of them are trained, from random weights; null: by the schedule of `training.gray`."
    )


class Config(Section):
    """Everything that decides a result."""

    results: str = Field("results", description="Folder of everything that is made.")
    cache: str = Field("data", description="Folder of downloaded data and weights.")
    mirror: str | None = Field(
        None,
        description="Folder or URL looked up first for every download, as `<mirror>/<host>/<path>`; "
        "null: the environment variable DEAL_MIRROR, if set.",
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="Where torch computes; `auto`: CUDA if there is a device, else the CPU."
    )
    weights: str = Field(
        "train",
        description="DEAL's weights. `train`: from scratch, as the paper; `released`: shipped with this; "
        "`official`: the authors' checkpoints, downloaded and converted; anything else: a folder with "
        "`gray.safetensors` and `color.safetensors`, or the authors' `deal_gray.pth` and `deal_color.pth`.",
    )
    subset: Count | None = Field(
        None,
        description="First n images of every task (wins over a task's `subset`); null: as they say.",
    )
    methods: Annotated[list[str], Field(min_length=1)] = Field(
        default_factory=lambda: list(_methods()), description="Methods that are run, by name."
    )
    batch: Count = Field(
        1,
        description="Images of one size that are reconstructed at once, by the methods that can, to keep a GPU busy; "
        "halved where memory does not suffice. Changes no more than the last digits of float32.",
    )
    hyperparameters: Literal["tuned", "paper"] = Field(
        "paper",
        description="Values of what can be tuned (λ, σ, …). `paper`: those of the paper where it names them, else the "
        "methods' defaults; `tuned`: the best on validation images, found by the rule `tune`.",
    )
    tasks: Tasks = Field(default_factory=Tasks, description="What is reconstructed from what.")
    tuning: Tuning = Field(default_factory=Tuning, description="How hyperparameters are tuned (target `tune`).")
    solver: Solver = Field(default_factory=Solver, description="DEAL's solver at test time.")
    training: Trainings = Field(default_factory=Trainings, description="DEAL's training.")
    train_gpus: Count = Field(
        1, description="GPUs that share a training, each its part of every batch (torchrun); ignored on a CPU."
    )
    timing: Timing = Field(default_factory=Timing, description="How times are measured.")
    tables: Tables = Field(default_factory=Tables, description="What the tables show.")
    figures: Figures = Field(default_factory=Figures, description="What the figures show.")
    report: Report = Field(default_factory=Report, description="What the report shows besides tables and figures.")
    ablations: Ablations = Field(default_factory=Ablations, description="Other architectures; not part of `all`.")

    @model_validator(mode="after")
    def _names_agree(self) -> "Config":
        known = list(type(self.tasks).model_fields)
        tables = {f"tables.{name}": getattr(self.tables, name) for name in type(self.tables).model_fields}
        listed = {f"{where}.tasks": table.tasks for where, table in tables.items()}
        for where, names in {"solver.tasks": self.solver.tasks, "tuning.tasks": self.tuning.tasks, **listed}.items():
            for name in names:
                if name not in known:
                    raise ValueError(f"{where}: unknown task '{name}'{did_you_mean(name, known)}")
        if "mri" in self.tuning.tasks:
            raise ValueError(
                "tuning.tasks.mri: MRI is tuned on validation volumes of its own; remove this, and say how many in "
                "tasks.mri.validation"
            )
        listed |= {"methods": self.methods, "figures.names": self.figures.names}
        listed |= {f"{where}.methods": table.methods for where, table in tables.items() if table.methods}
        listed |= {"figures.methods": self.figures.methods} if self.figures.methods else {}
        for where, names in listed.items():
            if twice := [name for number, name in enumerate(names) if name in names[:number]]:
                raise ValueError(f"{where}: '{twice[0]}' is named twice; name it once")
        for where, table in tables.items():
            for name in table.methods or ():
                if name not in self.methods:
                    raise ValueError(f"{where}.methods: '{name}' is not one of `methods`")
        for name in self.figures.methods or ():
            if name not in self.methods:
                raise ValueError(f"figures.methods: '{name}' is not one of `methods`")
        trainings = {f"training.{channels}": getattr(self.training, channels) for channels in ("gray", "color")}
        schedules = {**trainings, **({"ablations.schedule": s} if (s := self.ablations.schedule) else {})}
        for where, schedule in schedules.items():
            for outer in [schedule.outer, *(phase.outer for phase in schedule.phases if phase.outer)]:
                if outer[0] > outer[1]:
                    raise ValueError(f"{where}: outer is {outer}, the first number is the larger")
        self._check_architectures({f"{where}.architecture": t.architecture for where, t in trainings.items()})
        if self.weights not in WEIGHTS and not Path(self.weights).is_dir():
            raise ValueError(
                f"weights is '{self.weights}', expected {', '.join(WEIGHTS)} or a folder that exists"
                f"{did_you_mean(self.weights, WEIGHTS)}"
            )
        return self

    def _check_architectures(self, built: dict[str, Architecture]) -> None:
        """A ValueError for kernels without a centre, and for variants that are not there or cannot name a folder."""
        variants = self.ablations.variants
        for where, found in {**built, **{f"ablations.variants.{name}": v for name, v in variants.items()}}.items():
            if found.kernel_size % 2 == 0:
                raise ValueError(f"{where}: kernel_size is {found.kernel_size}, expected an odd number")
        for name in variants:
            if not re.fullmatch("[a-z][a-z0-9_]*", name):
                raise ValueError(f"ablations.variants: '{name}' is not lower-case letters, digits and _")
        for name in self.ablations.names:
            if name not in variants:
                raise ValueError(f"ablations.names: unknown variant '{name}'{did_you_mean(name, variants)}")
        if len(set(self.ablations.names)) < len(self.ablations.names):
            raise ValueError("ablations.names: a variant is named twice")

    def task(self, name: str) -> TaskSection:
        """The section of one task; a UserError names an unknown one."""
        known = list(type(self.tasks).model_fields)
        if name not in known:
            raise UserError(f"unknown task '{name}'{did_you_mean(name, known)}")
        return getattr(self.tasks, name)

    def subset_of(self, task: str) -> int | None:
        """How many images of `task` are used; None: all."""
        return self.subset if self.subset is not None else self.task(task).subset

    def tuned(self, task: str) -> bool:
        """Whether `task` is run with tuned hyperparameters."""
        return (self.task(task).hyperparameters or self.hyperparameters) == "tuned"

    def for_tuning(self, task: str) -> "Config":
        """The same with the validation images of `task` in place of its test images."""
        if isinstance(section := self.task(task), Mri):
            section = section.model_copy(update={"split": "validation", "subset": None})
            return self.model_copy(update={"subset": None, "tasks": self.tasks.model_copy(update={task: section})})
        if (images := self.tuning.tasks.get(task)) is None:
            raise UserError(f"tuning.tasks.{task} is missing: it names the validation images of {task}")
        changes: dict[str, Any] = {"dataset": images.dataset, "subset": images.subset}
        section = section.model_copy(update=changes | ({"crop": images.crop} if images.crop else {}))
        return self.model_copy(update={"subset": None, "tasks": self.tasks.model_copy(update={task: section})})

    def ablated(self, variant: str) -> "Config":
        """The same with one variant of `ablations` as the gray model, trained into a folder of its own.

        All variants start from random weights: those that `training.gray.init` names fit one architecture.
        """
        if variant not in self.ablations.variants:
            raise UserError(f"ablations: unknown variant '{variant}'{did_you_mean(variant, self.ablations.variants)}")
        schedule = self.ablations.schedule or self.training.gray
        changes: dict[str, Any] = {name: getattr(schedule, name) for name in Schedule.model_fields}
        changes |= {"init": None, "architecture": self.ablations.variants[variant]}
        gray = self.training.gray.model_copy(update=changes)
        changes = {"results": f"{self.results}/ablations/{variant}", "weights": "train"}
        changes["training"] = self.training.model_copy(update={"gray": gray})
        return self.model_copy(update=changes)

    def shows_training(self) -> bool:
        """Whether the report is to wait for DEAL's training."""
        return self.weights == "train" if self.report.training is None else self.report.training

    def mirror_in_use(self) -> str | None:
        """The key `mirror`, or the environment's DEAL_MIRROR when the key is null."""
        return self.mirror if self.mirror is not None else os.environ.get("DEAL_MIRROR") or None

    def digest(self) -> str:
        """Digest of all keys."""
        return digest(self.model_dump(mode="json"))


def did_you_mean(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean '{near[0]}'?" if near else f"; known: {', '.join(known)}"


def digest(value: Any) -> str:
    """Sixteen hex digits that change when the JSON of `value` does (key order does not count)."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def is_deal(method: str) -> bool:
    """Whether a method is DEAL or a variant of it, which has its solver and its weights: `deal`, `deal_…`."""
    return method.split("_")[0] == "deal"


def evaluation_part(config: Config, task: str, setting: str, method: str) -> dict[str, Any]:
    """What one evaluation depends on, and nothing else: other tasks, settings and methods do not count.

    Tuned hyperparameters are an input of the job.
    """
    part = {"task": task, "setting": setting, "method": method, **config.task(task).part(setting)}
    if is_deal(method):
        part["solver"] = config.solver.for_task(task)
    return part


def tuning_part(config: Config, task: str, setting: str, method: str) -> dict[str, Any]:
    """What one tuning depends on; the test images only inasmuch as none may be among the validation images."""
    validation = config.for_tuning(task)
    own = {"subset": validation.task(task).subset, "selection": validation.task(task).selection()}
    search = config.tuning.model_dump(mode="json", exclude={"tasks"})
    return {
        **evaluation_part(validation, task, setting, method),
        **own,
        "tuning": search,
        "test": config.task(task).datasets(),
    }


def training_part(config: Config, channels: str) -> dict[str, Any]:
    """What the training of one model depends on."""
    training: Training = getattr(config.training, channels)
    unchanged = training.architecture == Architecture()  # left out: what was trained before there was a choice stays
    return training.model_dump(mode="json", exclude={"checkpoint_every_s", *(["architecture"] if unchanged else [])})


def schema() -> str:
    """The JSON schema of config.yaml, for editors."""
    return json.dumps(Config.model_json_schema(), indent=2, ensure_ascii=False) + "\n"
