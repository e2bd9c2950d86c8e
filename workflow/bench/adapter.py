"""DEAL as a method of the benchmark."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

import deal
from baselines import Method, Operator
from bench.config import Solver

KINDS = {"denoise_gray": "gray", "denoise_color": "color"}


class Deal(Method):
    """x = argmin ‖Hx − y‖² + λ‖M(x) W x‖², solved as the section `solver` of the configuration says.

    For denoising σ is the noise's and λ = κ(σ).
    """

    name = "deal"
    label = "DEAL"
    tasks = ("denoise_gray", "denoise_color")

    def __init__(self, solver: Solver) -> None:
        super().__init__()
        self.solver = solver
        self.options: dict[str, Any] = {}
        self.model: deal.DEAL | None = None

    def weights_for(self, task: str, sigma: float) -> tuple[str, ...]:
        """`deal_gray` or `deal_color`."""
        return (f"deal_{KINDS[task]}",)

    def setup(self, task: str, sigma: float, weights: Mapping[str, Path], device: torch.device) -> None:
        """Load the model."""
        super().setup(task, sigma, weights, device)
        self.options = self.solver.for_task(task)
        self.model = deal.load(weights[f"deal_{KINDS[task]}"], device=device)

    def parameters(self) -> dict[str, Any]:
        """The solver's settings."""
        return self.options

    def reconstruct(self, y: torch.Tensor, operator: Operator, sigma: float) -> torch.Tensor:
        """The solver's fixed point; `info` holds its outer iterations and whether it converged."""
        if self.model is None:
            raise RuntimeError("setup has not been called")
        solution = self.model.solve(y, operator, sigma=sigma, **self.options)
        self.info = {"iterations": solution.outer_iterations, "converged": bool(solution.converged.all())}
        return solution.x
