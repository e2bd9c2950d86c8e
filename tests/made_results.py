"""Made-up results files, and layouts that show them, for the tests of results, tables and rendering."""

import csv
import hashlib
import json
from pathlib import Path

from bench import tables
from bench.cells import Table
from bench.results import RESULT_COLUMNS, Result

REASON = "weights f_1.pth: https://example.org/f_1.pth?x=50%&y=#1 answered 404"
GRAY = {"task": "denoise_gray", "group": "BSD68 (gray)", "dataset": "bsd68", "images_expected": 3}
COLOR = {"task": "denoise_color", "group": "CBSD68_crop", "dataset": "cbsd68", "images_expected": 3}
METHODS = {
    "bm3d": {"name": "bm3d", "label": "BM3D", "paper": "BM3D"},
    "deal": {"name": "deal", "label": "DEAL", "paper": "DEAL", "tasks": ["denoise_gray", "denoise_color"]},
    "wcrr": {"name": "wcrr", "label": "WCRR", "paper": "WCRR", "tasks": ["denoise_gray"]},
    "drunet": {"name": "drunet", "label": "DRUNet & co_1", "paper": "DRUNet"},
    "truth": {"name": "truth", "label": "Truth", "oracle": True},
}


class Maker:
    """Writes results files with sidecars below a folder."""

    def __init__(self, root: Path, seconds: float = 1.0) -> None:
        self.root, self.seconds, self.paths = root, seconds, []

    def put(self, task, setting, method, psnr, *, dataset=None, seed=0, missing=None, **sidecar) -> Path:
        """`psnr`: image id → value, or a list for images "1", "2", …"""
        path = self.root / "evaluate" / task / setting / f"{method}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        values = psnr if isinstance(psnr, dict) else {str(n): value for n, value in enumerate(psnr, start=1)}
        dataset = dataset or {"denoise_gray": "bsd68", "denoise_color": "cbsd68"}[task]
        with path.open("w", newline="") as handle:
            writer = csv.writer(handle, lineterminator="\n")
            writer.writerow(RESULT_COLUMNS)
            for image, value in values.items():
                head = [task, setting, dataset, image, method, seed, '{"tol":1e-05}']
                writer.writerow([*head, repr(value), 0.5, self.seconds, 7, "true"])
        record = {"missing": missing, "code": {"digest": "1" * 16}, "config_digest": "2" * 16, "seed": seed}
        record |= {"data": {"dataset": dataset, "digest": "3" * 64}, "weights": {}, "device": "cpu"}
        record |= {"packages": {"numpy": "2.4.6"}, "started": f"{self.seconds}"} | sidecar
        path.with_suffix(".json").write_text(json.dumps(record))
        self.paths.append(path)
        return seal(path)

    def build(self, layout: dict) -> Table:
        return tables.build(layout, Result.read(self.paths))


def seal(path: Path) -> Path:
    """Record the hash of `path` in its sidecar, as the evaluation does when it ends."""
    sidecar = json.loads(path.with_suffix(".json").read_text())
    sidecar["output"] = {"name": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    path.with_suffix(".json").write_text(json.dumps(sidecar))
    return path


def column(base: dict, sigma: int, **more: object) -> dict:
    paper = f"{'gray' if base is GRAY else 'color'}/sigma={sigma}"
    return {**base, "setting": f"sigma{sigma}", "label": f"σ = {sigma}", "paper": paper, **more}


def layout(*columns: dict, methods: tuple[str, ...] = ("bm3d", "deal"), **more: object) -> dict:
    texts = {"caption": "Denoising", "convention": "mean over images, range [0, 1]"}
    shown = {"columns": list(columns), "methods": [METHODS[name] for name in methods]}
    return {"table": "table1", "tolerance": 0.05, **texts, **shown, **more}


def full(maker: Maker) -> dict:
    """Two data sets; a missing method, one over a subset, an oracle; the layout that shows them."""
    for setting, shift in (("sigma5", 0.0), ("sigma15", -6.0)):
        maker.put("denoise_gray", setting, "bm3d", [36.5 + shift, 37.5 + shift, 38.5 + shift])
        maker.put("denoise_gray", setting, "deal", [36.9 + shift, 37.8 + shift, 38.8 + shift])
        maker.put("denoise_gray", setting, "drunet", [], missing=REASON)
        maker.put("denoise_gray", setting, "truth", [float("inf")] * 3)
    maker.put("denoise_color", "sigma5", "bm3d", [41.0, 41.2])
    maker.put("denoise_color", "sigma5", "deal", [40.0, 40.0, 40.1])
    maker.put("denoise_color", "sigma5", "drunet", [40.0, 40.2, 40.3])
    maker.put("denoise_color", "sigma5", "truth", [float("inf")] * 3)
    columns = (column(GRAY, 5), column(GRAY, 15), column(COLOR, 5))
    return layout(*columns, methods=("truth", "bm3d", "deal", "drunet"))
