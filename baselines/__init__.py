"""Baselines: one file a method, found by itself.

A method is a class with a literal `name` in a module of this package (or behind an entry point of the group
`deal_bench.methods`, whose name is the method's name). It becomes part of the benchmark when its name is
written in `methods` of config.yaml; `tests/test_methods.py` then tests it without being told.

    class Mean(Method):
        name = "mean"
        label = "Local mean"
        tasks = ("denoise_gray", "denoise_color")
        hyperparameters = {"radius": Hyperparameter(1, 0, 5)}

        def reconstruct(self, y, operator, sigma, *, radius):
            side = 2 * int(radius) + 1
            return torch.nn.functional.avg_pool2d(y, side, 1, int(radius), count_include_pad=False)

Modules here import torch and their own libraries; never `deal`, never `bench`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

import torch


class Operator(Protocol):
    """A linear forward operator; the names are those of deepinv's linear physics.

    Those of the benchmark's tasks also have `squared_norm` (a float, ‖A‖² or a bound of it) and `prox`:
    `prox(v, y, rho)` = argmin_x ½‖Ax − y‖² + ½ρ‖x − v‖², in closed form or by conjugate gradients.
    """

    def A(self, x: torch.Tensor) -> torch.Tensor:
        """H x, for x of shape (B, C, H, W)."""

    def A_adjoint(self, y: torch.Tensor) -> torch.Tensor:
        """Hᵀ y."""


@dataclass(frozen=True)
class Hyperparameter:
    """A number that may be tuned on validation images: default and bounds. Searched by factors, from a default > 0."""

    default: float
    low: float
    high: float


class Method:
    """One reconstruction method. Subclasses set the class attributes and write `reconstruct`."""

    name: ClassVar[str]
    """Lower-case identifier, used in config.yaml and in file names."""
    label: ClassVar[str]
    """What tables and figures call it."""
    tasks: ClassVar[tuple[str, ...]]
    """Names of the tasks it serves; `("*",)` for all."""
    hyperparameters: ClassVar[Mapping[str, Hyperparameter]] = {}
    """Keyword arguments of `reconstruct` that can be tuned."""
    tuned_tasks: ClassVar[tuple[str, ...]] = ("*",)
    """Tasks for which there is something to tune; read from the source, so a literal."""
    oracle: ClassVar[bool] = False
    """True: `reconstruct` also gets the keyword `truth`, the image that is looked for."""
    ranked: ClassVar[bool] = True
    """False: stands below the methods of a table and is not ranked, as oracles are."""
    remarks: ClassVar[Mapping[str, str]] = {}
    """Task → why its row can differ from the paper's although both are right; read from the source, so a literal."""
    gpu: ClassVar[bool] = True
    """False: computes on a processor even where there is a GPU, and so occupies none; a literal."""
    batches: ClassVar[bool] = False
    """True: `reconstruct` takes several images of one size at once, and none of them depends on the others."""
    clip: ClassVar[bool] = True
    """False: scored as it is, although the task clips estimates to [0, 1] before scoring."""
    setting: str = ""
    """The setting of the task that this instance is made for, as `single4_pd` of MRI; empty outside the benchmark."""
    validating: bool = False
    """True while hyperparameters are searched: authors' looser stopping rules for validation are used then."""

    def __init__(self) -> None:
        self.device = torch.device("cpu")
        self.info: dict[str, Any] = {}
        """What the last call reports of itself: `iterations` (int), `converged` (bool)."""

    def serves(self, task: str) -> bool:
        """Whether the method can do `task`."""
        return "*" in self.tasks or task in self.tasks

    def unavailable(self, task: str, sigma: float) -> str | None:
        """Why there is nothing to run for a served `task` at noise level `sigma` (in [0, 1]); None: there is."""
        return None

    def weights_for(self, task: str, sigma: float) -> tuple[str, ...]:
        """Names, in the data registry, of the weights for `task` at noise level `sigma` (in [0, 1])."""
        return ()

    def hyperparameters_for(self, task: str, sigma: float) -> Mapping[str, Hyperparameter]:
        """The hyperparameters with their defaults for `task` at noise level `sigma` (in the units of y)."""
        return self.hyperparameters

    def setup(self, task: str, sigma: float, weights: Mapping[str, Path], device: torch.device) -> None:
        """Prepare for many calls: load the weights (name → file), move to `device`. Not timed."""
        self.device = device

    def parameters(self) -> dict[str, Any]:
        """Settings worth a column beside the result, other than the hyperparameters (JSON values)."""
        return {}

    def reconstruct(self, y: torch.Tensor, operator: Operator, sigma: float, **hyperparameters: Any) -> torch.Tensor:
        """The estimate of x from y = A x + n.

        Args:
            y: Measurement, (B, C, H, W), float32 (MRI: complex64), on the device given to `setup`.
            operator: The forward operator A.
            sigma: Standard deviation of the noise, in the units of y.
            hyperparameters: One value for each name in `hyperparameters`.

        Returns:
            The estimate, (B, C, H', W'), real float32 for MRI too, finite. It need not be clipped.
        """
        raise TypeError(f"{type(self).__name__} does not define reconstruct")
