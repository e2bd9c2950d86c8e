"""DEAL: Deep Attentive Least Squares for image reconstruction.

>>> model = deal.load("gray")                                # doctest: +SKIP
>>> x = model.denoise(y, sigma=25 / 255)                     # doctest: +SKIP
>>> solution = model.solve(y, operator, sigma=15 / 255, lmbda=2.5)  # doctest: +SKIP
"""

from deal.model import DEAL
from deal.operators import MRI, Blur, Downsampling, Identity, LinearOperator, Operator
from deal.solver import ConvergenceWarning, Solution
from deal.weights import WeightsError, load, metadata, save

__all__ = [
    "DEAL",
    "MRI",
    "Blur",
    "ConvergenceWarning",
    "Downsampling",
    "Identity",
    "LinearOperator",
    "Operator",
    "Solution",
    "WeightsError",
    "load",
    "metadata",
    "save",
]
__version__ = "0.1.0"
