"""The key `figures` of the configuration: which figures are made, and of what.

A problem is one image of one setting of a task; several figures may show the same.
"""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from bench.sections import Count, Positive, Section

Window = Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=4, max_length=4)]
PUBLISHED_NOISE = "castle_noisy"
"""Data set of the registry: the noisy castle (test003 of BSD68, σ = 25) that the authors show."""
CASTLE = ("bsd68", "test003")
"""Data set and image that the keys of `figures.denoising` have as defaults; of another data set the first is shown."""
CASTLE_ZOOM = [55, 185, 70, 95]
BRAIN = "mri_brain"
"""Data set of the registry: the real acquisition."""
NAMES = ["fig01", "fig02", "fig03", "fig04", "fig05", "fig06", "fig07", "fig08", "fig09", "fig10", "fig11", "fig12"]
NAMES += ["fig13", "fig13_color", "fig14", "fig14_color", "fig15", "fig16"]
NAMES += ["robustness", "error_time", "certificates", "scatter", "paired", "brain", "training"]
ABLATION_SIZES = "ablation_sizes"
"""The figure of the target `ablations`, which no other target makes."""


class Problem(Section):
    """What is reconstructed; the images, their noise and the blur are those of the task."""

    task: ClassVar[str]
    setting: str = Field(description="One of the task's settings.")
    zoom: Window | None = Field(
        None, description="Region shown enlarged: top row, left column, height, width; null: where most happens."
    )


class OneImage(Problem):
    """A problem with one image."""

    image: str | None = Field(None, description="Its name in the result rows; null: the first.")


class Castle(OneImage):
    """Gray denoising (Figures 3, 4, 7, 8, 16)."""

    task: ClassVar[str] = "denoise_gray"
    setting: str = Field("sigma25", description="One of the task's settings.")
    image: str | None = Field(
        CASTLE[1],
        description="Its name in the result rows; null, or the castle's name where the data set has no such image: the "
        "first.",
    )
    noise: Literal["published", "task"] = Field(
        "published",
        description="`published`: the noisy castle of the authors where it can be had, else the task's; `task`: as in "
        "the tables.",
    )
    zoom: Window | None = Field(
        CASTLE_ZOOM,
        description="Region shown enlarged: top row, left column, height, width; null, or the castle's region for "
        "another image: where most happens.",
    )


class SuperresFigure(OneImage):
    """Colour super-resolution (Figures 5, 12)."""

    task: ClassVar[str] = "superres_color"
    setting: str = Field("x2_sigma2.55", description="One of the task's settings.")


class DeblurringFigure(Problem):
    """Gray deblurring (Figure 9 and the errors against time)."""

    task: ClassVar[str] = "deblur_gray"
    setting: str = Field("k27_sigma2.55", description="One of the task's settings.")
    images: Count | None = Field(None, description="First n images; null: all.")


class MriFigure(OneImage):
    """MRI (Figures 10, 11)."""

    task: ClassVar[str] = "mri"
    setting: str = Field("multi8_pd", description="One of the task's settings.")
    zoom: Window | None = Field(
        [80, 55, 80, 100],
        description="Region of the scored square shown enlarged: top row, left column, height, width; null: where "
        "most happens.",
    )


class BrainFigure(Problem):
    """A real acquisition without ground truth."""

    task: ClassVar[str] = "mri"
    source: Literal["acquisition", "phantom"] = Field(
        "acquisition",
        description="`acquisition`: the registry's `mri_brain`, a download of 2.6 MB; `phantom`: made up, of the size "
        "in `tasks.mri.phantom`.",
    )
    setting: str = Field(
        "multi8_pd", description="One of the task's settings, at whose default values each method's search begins."
    )
    held_out: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.1, description="Share of the measurements outside the central square that no method is given."
    )
    factors: Annotated[list[Positive], Field(min_length=1)] = Field(
        [1.0, 3.0, 10.0, 30.0, 100.0],
        description="The regularisation parameter is tried at so many times its default, which is meant for the less "
        "noise of the task.",
    )
    zoom: Window | None = Field(
        [95, 55, 60, 70],
        description="Region shown enlarged: top row, left column, height, width; null: where most happens.",
    )

    def datasets(self) -> list[str]:
        """What is read of the registry."""
        return [BRAIN] if self.source == "acquisition" else []


class Robustness(Section):
    """What wrong assumptions cost, on the settings of `denoising` and `deblurring`."""

    images: Count = Field(3, description="First n images of each task.")
    noise_factors: Annotated[list[Positive], Field(min_length=1)] = Field(
        [0.5, 0.7, 0.85, 1.0, 1.2, 1.5, 2.0],
        description="Methods are told so many times the true noise level.",
    )
    rotations_deg: Annotated[list[float], Field(min_length=1)] = Field(
        [0.0, 1.0, 2.0, 4.0, 8.0, 16.0],
        description="Methods are told the blur kernel turned by so many degrees.",
    )


class ErrorTime(Section):
    """Errors against time, on the first image of `deblurring`."""

    max_outer: Count = Field(100, description="Most updates of each of DEAL's algorithms.")


class Certificates(Section):
    """What the paper's Section 4 is about, measured on a patch of the image of `denoising`."""

    crop: Count = Field(48, description="Side of the patch in pixels, around the strongest structure.")
    perturbations_255: Annotated[list[Positive], Field(min_length=1)] = Field(
        [0.1, 0.5, 2.0, 8.0], description="Changes of the data, root mean square in 0-255 units."
    )


class Figures(Section):
    """Figures of the paper, and some beyond it."""

    names: list[str] = Field(NAMES, description="Those that the target `figures` makes.")
    methods: list[str] | None = Field(
        None, description="Shown where methods are compared; null: all of `methods` but the oracles."
    )
    denoising: Castle = Field(default_factory=Castle, description="The problem of Figures 3, 4, 7, 8 and 16.")
    superres: SuperresFigure = Field(default_factory=SuperresFigure, description="The problem of Figures 5 and 12.")
    deblurring: DeblurringFigure = Field(default_factory=DeblurringFigure, description="The problem of Figure 9.")
    mri: MriFigure = Field(default_factory=MriFigure, description="The problem of Figures 10 and 11.")
    brain: BrainFigure = Field(default_factory=BrainFigure, description="The real acquisition.")
    robustness: Robustness = Field(default_factory=Robustness, description="The sweep over wrong assumptions.")
    error_time: ErrorTime = Field(default_factory=ErrorTime, description="The errors against time.")
    certificates: Certificates = Field(default_factory=Certificates, description="Numbers behind the theory.")

    def part(self, sections: Any) -> dict[str, Any]:
        """What a figure that uses these sections depends on here."""
        return {name: getattr(self, name).model_dump(mode="json", exclude={"zoom"}) for name in sections}
