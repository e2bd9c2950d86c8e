"""Figure 11: the solution path of MRI."""

from bench.figures.paths import draw

__all__ = ["ALT", "CAPTION", "TITLE", "draw"]

TITLE = "Solution path of MRI"
CAPTION = """DEAL's iterates xₖ on {images} ({dataset}), {setting}, from x₀ = 0, with their PSNR; below them the
mean over the channels of the mask M(xₖ). Bottom: PSNR, and relative change ‖xₖ − xₖ₋₁‖/‖xₖ₋₁‖ of the k-th
update; dotted: the tolerance. The solve {end}.{notes}"""
ALT = """Iterates of DEAL becoming a sharp image while their masks come to show its edges; curves of PSNR rising and
of the relative change falling over {updates} updates."""
