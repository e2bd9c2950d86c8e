"""Optimisers of the training: Adam, as the paper, or Muon for the wide layers (not in the paper; fewer steps).

Muon (Jordan et al., 2024) replaces the averaged gradient of a layer, seen as a matrix (outputs, all the rest), by the
nearest matrix with equal singular values, so that rare directions learn as fast as frequent ones. The step is scaled
to the size of Adam's, and the same step sizes serve both.
"""

import torch
from torch import Tensor, nn

_ADAM_RMS = 0.2  # size of an element of Adam's step in practice, relative to the step size
_BETAS = (0.9, 0.999)
_EPS = 1e-8


class Muon(torch.optim.Optimizer):
    """Muon for kernels with at least 8 outputs, Adam for first layers and splines.

    Args:
        model: a module.
        lr: step size.
        noise_lr: step size of the functions of the noise level, relative to `lr`.
        momentum: decay of the gradient average of Muon.
    """

    def __init__(self, model: nn.Module, lr: float, noise_lr: float = 1.0, momentum: float = 0.95):
        rest, *functions = _groups(model, noise_lr)
        wide = [p for p in rest["params"] if p.ndim == 4 and p.shape[0] >= 8 and p.shape[1] > 3]
        ids = {id(p) for p in wide}
        narrow = {"params": [p for p in rest["params"] if id(p) not in ids], "muon": False}
        groups = [{"params": wide, "muon": True}, narrow, *({**group, "muon": False} for group in functions)]
        super().__init__(groups, {"lr": lr, "momentum": momentum, "relative": 1.0})

    @torch.no_grad()
    def step(self, closure=None) -> None:
        """One update of every parameter that has a gradient."""
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    (self._muon if group["muon"] else self._adam)(p, group)

    def _muon(self, p: Tensor, group: dict) -> None:
        average = self.state[p].setdefault("average", torch.zeros_like(p))
        average.lerp_(p.grad, 1 - group["momentum"])
        direction = p.grad.lerp(average, group["momentum"]).flatten(1)
        scale = _ADAM_RMS * max(direction.shape) ** 0.5
        p.add_(orthogonalise(direction).view_as(p), alpha=-group["lr"] * scale)

    def _adam(self, p: Tensor, group: dict) -> None:
        state = self.state[p]
        if not state:
            state.update(step=0, first=torch.zeros_like(p), second=torch.zeros_like(p))
        state["step"] += 1
        state["first"].lerp_(p.grad, 1 - _BETAS[0])
        state["second"].lerp_(p.grad.square(), 1 - _BETAS[1])
        first, second = (state[k] / (1 - b ** state["step"]) for k, b in zip(("first", "second"), _BETAS, strict=True))
        p.addcdiv_(first, second.sqrt_().add_(_EPS), value=-group["lr"])


def orthogonalise(matrix: Tensor, steps: int = 5) -> Tensor:
    """The matrix with its singular values pushed towards 1, by a quintic Newton-Schulz iteration; any 2-D shape."""
    a, b, c = 3.4445, -4.7750, 2.0315
    wide = matrix.shape[0] <= matrix.shape[1]
    x = matrix if wide else matrix.T
    x = x / x.norm().clamp(min=1e-12)
    for _ in range(steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x if wide else x.T


def make(name: str, model: nn.Module, lr: float, noise_lr: float = 1.0) -> torch.optim.Optimizer:
    """The optimiser called `name`, its κ(σ) and noise scaling in a group apart unless `noise_lr` is 1.

    Raises:
        ValueError: for an unknown name.
    """
    if name == "adam":
        return torch.optim.Adam(_groups(model, noise_lr), lr=lr, betas=_BETAS, eps=_EPS)
    if name == "muon":
        return Muon(model, lr, noise_lr)
    raise ValueError(f"optimizer must be 'adam' or 'muon', not {name!r}")


def set_lr(optim: torch.optim.Optimizer, lr: float) -> None:
    """Give every group its step size: `lr` times the group's share."""
    for group in optim.param_groups:
        group["lr"] = lr * group.get("relative", 1.0)


def _groups(model: nn.Module, noise_lr: float) -> list[dict]:
    """All parameters, or the functions of the noise level apart from the others."""
    if noise_lr == 1:
        return [{"params": list(model.parameters())}]
    functions = {id(p) for spline in (model.kappa, model.scaling) for p in spline.parameters()}
    split = {inside: [p for p in model.parameters() if (id(p) in functions) == inside] for inside in (False, True)}
    return [{"params": split[False]}, {"params": split[True], "relative": noise_lr}]
