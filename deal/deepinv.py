"""DEAL inside deepinv (https://deepinv.github.io): as a denoiser, as a reconstructor, with its physics as operators.

deepinv is an optional dependency (`pip install '.[deepinv]'`), imported when one of its classes is asked
for. Its linear physics have `A` and `A_adjoint` and so work in `DEAL.solve` as they are; `as_operator` helps those
whose images are complex, kept as two channels. Nothing here carries a gradient.
"""

import functools

import torch
from torch import Tensor, nn

from deal.defaults import MASK_SIGMA
from deal.model import DEAL
from deal.operators import Identity
from deal.weights import load


class RealPart:
    """A physics with complex images (B, 2, H, W) as an operator on real ones (B, 1, H, W): x ↦ A(x + 0i)."""

    def __init__(self, physics):
        self.physics = physics

    def A(self, x: Tensor) -> Tensor:
        """(B, 1, H, W) → what the physics returns."""
        return self.physics.A(torch.cat([x, torch.zeros_like(x)], dim=1))

    def A_adjoint(self, y: Tensor) -> Tensor:
        """Real part of Aᴴ y, (B, 1, H, W)."""
        return self.physics.A_adjoint(y)[:, :1]


def as_operator(physics, y: Tensor, channels: int):
    """What `DEAL.solve` takes for a physics: itself, or its real part where the model is gray and its images complex.

    Args:
        physics: object with `A` and `A_adjoint`.
        y: data of it.
        channels: of the model, 1 or 3.

    Raises:
        ValueError: the physics is not linear, or has other images than the model.
    """
    if not callable(getattr(physics, "A_adjoint", None)):
        raise ValueError(f"{type(physics).__name__} has no A_adjoint; DEAL needs a linear physics")
    found = physics.A_adjoint(y).shape[1]
    if found == 2 and channels == 1:
        return RealPart(physics)
    if found != channels:
        raise ValueError(f"the images of {type(physics).__name__} have {found} channels, those of the model {channels}")
    return physics


class DenoiserCore(nn.Module):
    """x, σ ↦ DEAL's estimate, whatever deepinv is; `denoiser` makes it a deepinv `Denoiser`.

    Args:
        model: as `denoiser`.
        options: as `DEAL.solve`.
    """

    def __init__(self, model: DEAL, **options):
        super().__init__()
        self.model, self.options = model, {"clip": False, **options}

    def forward(self, x: Tensor, sigma: float | Tensor, *args: object, **kwargs: object) -> Tensor:
        """Denoise (B, C, H, W) in [0, 1]; a gray model takes the channels one by one.

        Args:
            sigma: noise level, images in [0, 1]: a number, (1,), (B,) or (B, 1, 1, 1).
        """
        sigma = torch.as_tensor(sigma, dtype=x.dtype, device=x.device).reshape(-1).expand(len(x))
        if self.model.channels == 1 and x.shape[1] != 1:
            flat = x.reshape(-1, 1, *x.shape[-2:])
            solution = self.model.solve(flat, Identity(), sigma.repeat_interleave(x.shape[1]), **self.options)
            return solution.x.reshape(x.shape)
        return self.model.solve(x, Identity(), sigma, **self.options).x


class ReconstructorCore(nn.Module):
    """y, physics ↦ DEAL's estimate, whatever deepinv is; `reconstructor` makes it a deepinv `Reconstructor`."""

    def __init__(self, model: DEAL, lmbda: float | None, sigma: float | None, **options):
        super().__init__()
        self.model, self.lmbda, self.sigma, self.options = model, lmbda, sigma, options

    def forward(self, y: Tensor, physics, lmbda: float | None = None, sigma: float | None = None, **kwargs) -> Tensor:
        """Reconstruct (B, C, H, W) from y = A x + noise; `lmbda` and `sigma` as in `reconstructor`, for this call.

        Raises:
            ValueError: no `lmbda`, or no `sigma` to denoise with, is given, and the physics does not tell; or as
                `as_operator`.
        """
        lmbda = self.lmbda if lmbda is None else lmbda
        sigma = self.sigma if sigma is None else sigma
        denoising = type(physics).__name__ == "Denoising"
        if denoising and sigma is None:
            noise = physics.noise_model
            sigma = getattr(noise, "sigma", None)
            if sigma is None:
                raise ValueError(f"the noise model {type(noise).__name__} has no sigma; give sigma=, images in [0, 1]")
        elif not denoising and lmbda is None:
            raise ValueError(f"{type(physics).__name__} needs a λ; give lmbda (the paper: 0.28 to 5.5, by the noise)")
        sigma = MASK_SIGMA / 255 if sigma is None else sigma
        sigma = sigma.reshape(-1) if isinstance(sigma, Tensor) else sigma
        # the solver knows more of its own identity, and so is faster
        operator = as_operator(Identity() if denoising else physics, y, self.model.channels)
        # the fast algorithm wants a start near the solution, which it makes from what an operator knows of itself
        algorithm = "fast" if hasattr(operator, "approximate_normal_spectrum") else "reference"
        return self.model.solve(y, operator, sigma, lmbda, **{"algorithm": algorithm, **self.options}).x


def denoiser(model: DEAL | str = "gray", **options) -> nn.Module:
    """DEAL as a `deepinv.models.Denoiser`, for plug-and-play and everything else in deepinv that denoises.

    Args:
        model: a `deal.DEAL`, or what `deal.load` takes.
        options: as `DEAL.solve`: tol, algorithm, max_outer, …

    Raises:
        ImportError: deepinv is missing or cannot be imported, with the reason.
    """
    return _joined("Denoiser", DenoiserCore)(_loaded(model), **options)


def reconstructor(
    model: DEAL | str = "gray", lmbda: float | None = None, sigma: float | None = None, **options
) -> nn.Module:
    """DEAL as a `deepinv.models.Reconstructor`: called with (y, physics), for any linear physics.

    Args:
        model: a `deal.DEAL`, or what `deal.load` takes.
        lmbda: λ; None is for `deepinv.physics.Denoising` alone, where it is κ(σ).
        sigma: told to the mask, images in [0, 1]; None: for `Denoising` its noise model's, else 15/255.
        options: as `DEAL.solve`; the authors' algorithm by default, but for `Denoising`.

    Raises:
        ImportError: deepinv is missing or cannot be imported, with the reason.
    """
    return _joined("Reconstructor", ReconstructorCore)(_loaded(model), lmbda, sigma, **options)


def _loaded(model: DEAL | str) -> DEAL:
    return model if isinstance(model, DEAL) else load(model)


@functools.cache
def _joined(name: str, core: type[nn.Module]) -> type[nn.Module]:
    """The core as a subclass of deepinv's class `name`."""
    try:
        from deepinv import models
    except Exception as error:  # torchvision of another build, for one, raises RuntimeError
        raise ImportError(f"deepinv cannot be imported ({' '.join(str(error).split())[:200]})") from error
    return type(f"DEAL{name}", (core, getattr(models, name)), {"__doc__": core.__doc__, "__module__": __name__})
