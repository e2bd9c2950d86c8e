"""Small made-up data of figures, in the format that their own collection writes; and what was drawn as text."""

from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.figure import Figure

FACTS = {
    "images": "smooth",
    "dataset": "made up",
    "setting": "noise σ = 25",
    "notes": "",
    "end": "converged after 12 updates (residual 9.0e-05)",
    "updates": "12",
}


def image(height: int = 64, width: int = 96) -> np.ndarray:
    """A smooth image with an edge, (1, H, W) in half precision."""
    rows, columns = np.mgrid[0:height, 0:width]
    base = 0.5 + 0.3 * np.sin(rows / 5) * np.cos(columns / 7) + 0.2 * (columns > width // 2)
    return np.clip(base, 0, 1)[None].astype(np.float16)


def comparison(labels: list[str], missing: dict[str, str]) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """As `bench.figure_data.comparison.compare` gives it, of one image."""
    truth = image()
    noisy = np.clip(truth + np.random.RandomState(0).normal(0, 0.1, truth.shape), 0, 1).astype(np.float16)
    estimates = [0.9 * truth + 0.1 * noisy for _ in labels]
    arrays = {
        "truth0": truth,
        "measurement0": noisy,
        "estimates0": np.stack(estimates).astype(np.float16),
        "psnr": np.array([[20.17, *(29.0 + 0.5 * n for n in range(len(labels)))]]),
        "ssim": np.array([[0.43, *(0.85 + 0.01 * n for n in range(len(labels)))]]),
    }
    meta = {"facts": FACTS, "images": ["smooth"], "labels": labels, "zoom": [8, 40, 20, 30], "missing": missing}
    return arrays, meta | {"settings": {"DEAL's weights": "released"}, "capped": []}


def path() -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """As `bench.figure_data.paths.collect` gives it."""
    steps = np.array([0, 1, 2, 4, 7, 12])
    k = np.arange(13)
    truth = image()[0].astype(float)
    arrays = {
        "psnr": 30 - 24 * np.exp(-k / 1.5),
        "change": np.r_[np.nan, 10.0 ** (-k[1:-1] / 3)],
        "steps": steps,
        "x": np.stack([(1 - np.exp(-step)) * truth for step in steps]).astype(np.float16),
        "mask": np.stack([1 - 0.8 * truth * (1 - np.exp(-step)) for step in steps]).astype(np.float16),
    }
    return arrays, {"facts": FACTS, "images": ["smooth"], "settings": {}, "missing": {}, "tol": 1e-4}


def robustness() -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """As `bench.figure_data.robustness.collect` gives it."""
    factors, degrees = np.array([0.5, 0.7, 1.0, 1.5, 2.0]), np.array([0.0, 2.0, 8.0])
    fall = 29 - 4 * np.log(factors) ** 2
    arrays = {
        "factors": factors,
        "degrees": degrees,
        "denoising": np.stack([fall, fall - 0.5])[..., None] + np.zeros(2),
        "deblurring": np.stack([30 - degrees / 4, 29 - degrees / 2, 28 - degrees / 3])[..., None] + np.zeros(2),
    }
    facts = {f"{name}_{key}": value for name in ("denoising", "deblurring") for key, value in FACTS.items()}
    labels = {"denoising_labels": ["BM3D", "DEAL"], "deblurring_labels": ["EPLL", "DPIR", "DEAL"]}
    return arrays, {"facts": facts, "images": ["smooth"], "settings": {}, "missing": {}, "capped": [], **labels}


@dataclass(frozen=True)
class Drawn:
    """A text as it was drawn: its font size in points and its box in pixels, (left, bottom, right, top)."""

    text: str
    points: float
    box: tuple[float, float, float, float]


@contextmanager
def texts():
    """Collects every text that Agg draws."""
    found: list[Drawn] = []
    original = RendererAgg.draw_text

    def draw_text(self, gc, x, y, s, prop, angle, ismath=False, mtext=None):
        if s.strip():
            width, height, descent = self.get_text_width_height_descent(s, prop, ismath)
            if angle == 90:
                box = (x - height + descent, self.height - y, x + descent, self.height - y + width)
            else:
                assert angle == 0, f"{s!r} is turned by {angle} degrees"
                box = (x, self.height - y - descent, x + width, self.height - y - descent + height)
            found.append(Drawn(s, prop.get_size_in_points(), box))
        return original(self, gc, x, y, s, prop, angle, ismath, mtext)

    RendererAgg.draw_text = draw_text
    try:
        yield found
    finally:
        RendererAgg.draw_text = original


def drawn(figure: Figure, dpi: int) -> tuple[np.ndarray, list[Drawn]]:
    """Pixels (H, W, 3) of a figure, and its texts."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure.set_dpi(dpi)
    canvas = FigureCanvasAgg(figure)
    with texts() as found:
        canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy(), found


def mistakes(found: list[Drawn], width: int, height: int, smallest: float = 6.0) -> list[str]:
    """Texts that are too small, reach over the border, or lie on one another."""
    wrong = [f"{t.text!r} has {t.points:g} points" for t in found if t.points < smallest]
    for t in found:
        left, bottom, right, top = t.box
        if left < -1 or bottom < -1 or right > width + 1 or top > height + 1:
            wrong.append(f"{t.text!r} reaches over the border: {t.box} in {width}×{height}")
    for n, a in enumerate(found):
        for b in found[n + 1 :]:
            across = min(a.box[2], b.box[2]) - max(a.box[0], b.box[0])
            down = min(a.box[3], b.box[3]) - max(a.box[1], b.box[1])
            if across > 2 and down > 2:
                wrong.append(f"{a.text!r} and {b.text!r} overlap")
    return wrong
