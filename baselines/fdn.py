"""FDN: Fourier deconvolution network (Kruse, Rother, Schmidt, ICCV 2017), for non-blind deblurring.

The published code pads the image, tapers its edges and corrects the padded frame at every stage, since it assumes
nothing of the boundary. Here the blur is circular and known to be, so the Fourier-domain update is exact as it is.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from baselines import Method, Operator
from baselines.networks import fdn

NARROW = (1.0, 3.0)  # noise levels (0-255 units) of the specialised model
WIDE = (0.1, 12.75)  # and of the general one


class FDN(Method):
    """Ten Fourier-domain updates with learned filters and CNN-predicted numerators."""

    name = "fdn"
    label = "FDN"
    tasks = ("deblur_gray",)
    remarks: ClassVar = {
        "deblur_gray": "a circular boundary known to the method; "
        "the paper quotes a row that was made "
        "from measurements not rounded to 8 bits"
    }

    def __init__(self) -> None:
        super().__init__()
        self.stages: list[fdn.Stage] = []

    def unavailable(self, task: str, sigma: float) -> str | None:
        """Trained for a range of noise levels."""
        if WIDE[0] <= sigma * 255 <= WIDE[1]:
            return None
        return f"trained for noise levels {WIDE[0]:g} to {WIDE[1]:g}, not {sigma * 255:g}"

    def weights_for(self, task: str, sigma: float) -> tuple[str, ...]:
        """The model with the narrower range of noise levels that σ is in."""
        return ("fdn_low",) if NARROW[0] <= sigma * 255 <= NARROW[1] else ("fdn",)

    def setup(self, task: str, sigma: float, weights: Mapping[str, Path], device: torch.device) -> None:
        """Load the ten stages."""
        super().setup(task, sigma, weights, device)
        (name,) = self.weights_for(task, sigma)
        self.stages = [stage.to(device) for stage in fdn.load(weights[name])]

    def reconstruct(self, y: Tensor, operator: Operator, sigma: float) -> Tensor:
        """The image after the last stage; the blur is read from `operator.kernel` (h, w)."""
        kernel = getattr(operator, "kernel", None)
        if kernel is None:
            raise ValueError("FDN needs an operator with a blur kernel")
        if not self.stages:
            raise RuntimeError("setup has not been called")
        blur = fdn.transfer(torch.as_tensor(kernel).to(y), *y.shape[-2:])
        x = y
        for stage in self.stages:
            x = stage(x, y, blur, sigma * 255)
        self.info = {"iterations": len(self.stages)}
        return x
