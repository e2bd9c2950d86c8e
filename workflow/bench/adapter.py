"""DEAL as a method of the benchmark."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

import deal
from baselines import Hyperparameter, Method, Operator
from bench.config import Solver
from bench.errors import UserError
from bench.registry import deal_kind
from deal.defaults import MASK_SIGMA, MRI_LAMBDA, paper_lambda, script_lambda


class Deal(Method):
    """x = argmin ‖Hx − y‖² + λ‖M(x, σ) W x‖², solved as the section `solver` of the configuration says.

    For denoising σ is the noise's and λ = κ(σ). Otherwise both can be tuned; the paper's σ is 15/255, its λ a table.
    """

    name = "deal"
    label = "DEAL"
    tasks = ("denoise_gray", "denoise_color", "superres_color", "deblur_gray", "mri")
    tuned_tasks = ("superres_color", "deblur_gray", "mri")

    def __init__(self, solver: Solver) -> None:
        super().__init__()
        self.solver = solver
        self.options: dict[str, Any] = {}
        self.clip_estimate = True
        self.model: deal.DEAL | None = None

    def weights_for(self, task: str, sigma: float) -> tuple[str, ...]:
        """`deal_gray` or `deal_color`."""
        return (f"deal_{deal_kind(task)}",)

    def hyperparameters_for(self, task: str, sigma: float) -> Mapping[str, Hyperparameter]:
        """λ and σ; between the paper's noise levels its λ are interpolated, on logarithmic scales."""
        if task.startswith("denoise"):
            return {}
        problem = task.partition("_")[0]
        default = MRI_LAMBDA if problem == "mri" else paper_lambda(problem, 255 * sigma)[0]
        return {
            "lmbda": Hyperparameter(default, 1e-5, 100.0),
            "sigma_255": Hyperparameter(MASK_SIGMA, 0.5, 50.0),
        }

    def setup(self, task: str, sigma: float, weights: Mapping[str, Path], device: torch.device) -> None:
        """Load the model, a UserError where its file is damaged; MRI alone is not clipped."""
        super().setup(task, sigma, weights, device)
        self.options = self.solver.for_task(task)
        self.clip_estimate = task != "mri"
        try:
            self.model = deal.load(weights[f"deal_{deal_kind(task)}"], device=device)
        except deal.WeightsError as error:  # the user's own choice, which no empty cell is to hide
            raise UserError(str(error)) from None

    def parameters(self) -> dict[str, Any]:
        """The solver's settings."""
        return self.options

    def reconstruct(
        self,
        y: torch.Tensor,
        operator: Operator,
        sigma: float,
        *,
        lmbda: float | None = None,
        sigma_255: float | None = None,
    ) -> torch.Tensor:
        """The solver's fixed point; `info` holds its outer iterations and whether it converged."""
        if self.model is None:
            raise RuntimeError("setup has not been called")
        level = sigma if sigma_255 is None else sigma_255 / 255
        solution = self.model.solve(y, operator, level, lmbda, clip=self.clip_estimate, **self.options)
        self.info = {"iterations": solution.outer_iterations, "converged": bool(solution.converged.all())}
        return solution.x


class DealScript(Deal):
    """DEAL with λ as in the authors' script for super-resolution, which is not what the paper prints. An extra."""

    name = "deal_script"
    label = "DEAL (script's λ)"
    tasks = ("superres_color",)
    tuned_tasks = ()

    def hyperparameters_for(self, task: str, sigma: float) -> Mapping[str, Hyperparameter]:
        """None: λ is given by the noise, σ is the paper's."""
        return {}

    def setup(self, task: str, sigma: float, weights: Mapping[str, Path], device: torch.device) -> None:
        """Load the model, and fix λ and σ."""
        super().setup(task, sigma, weights, device)
        self.fixed = {"lmbda": script_lambda(255 * sigma), "sigma_255": MASK_SIGMA}

    def parameters(self) -> dict[str, Any]:
        """The solver's settings, λ and σ."""
        return self.options | self.fixed

    def reconstruct(self, y: torch.Tensor, operator: Operator, sigma: float, **_: Any) -> torch.Tensor:
        """As DEAL's."""
        return super().reconstruct(y, operator, sigma, **self.fixed)
