"""A made-up folder of results with everything that a report can show, for the tests of the report and of the LaTeX."""

import io
import json
from pathlib import Path

import yaml
from made_results import GRAY, Maker, column, full, seal
from PIL import Image

from bench import render, timing_table
from bench.timing_table import Timing

NAMES = {"table1": "Denoising", "table2": "Colour super-resolution", "table4": "MRI, seconds"}
PD = "single-coil/acceleration=4/PD"
URL = "https://example.org/a/very/long/path/to/some/file/of/weights/w_1.pth"
NASTY = f"no <script>alert(1)</script> & no {URL}: answered 404"
FIGURES = {
    "fig03": {"title": "Denoising", "caption": "Noise σ = 25, ‖x_k‖ & <b>.", "alt": 'The "castle", noisy and not.'},
    "fig10": {"title": "MRI", "caption": "Nothing.", "alt": "None.", "missing": "no MRI data here"},
    "error_time": {"title": "Error against time", "caption": "ε ≤ 1e−4.", "alt": "Two curves fall."},
}
DOT = """digraph snakemake_dag {
    graph[bgcolor=white, margin=0];
    0[label = "all", color = "0.00 0.6 0.85", style="rounded"];
    1[label = "make_report", color = "0.19 0.6 0.85", style="rounded"];
    2[label = "make_table", color = "0.10 0.6 0.85", style="rounded"];
    3[label = "evaluate_method", color = "0.13 0.6 0.85", style="rounded"];
    4[label = "fetch_dataset", color = "0.16 0.6 0.85", style="rounded"];
    5[label = "train_deal", color = "0.16 0.6 0.85", style="rounded"];
    1 -> 0
    2 -> 0
    2 -> 1
    3 -> 2
    4 -> 3
    4 -> 5
    5 -> 1
}
"""

TSV = "s\th:m:s\tmax_rss\tcpu_time\n%s\t0:00:01\t%s\t0.64\n"
MACHINE = {"device": "GPU A", "driver": "1", "processor": "CPU", "cores": 8, "threads": 4, "torch": "2"}


def make(root: Path) -> Path:
    """Write it all below `root`; returns the results folder."""
    maker = Maker(root)
    plan = full(maker)
    maker.put("denoise_gray", "sigma15", "drunet", [], missing=NASTY)
    path = root / "evaluate" / "denoise_gray" / "sigma5" / "deal.json"
    about = {"started": "2026-01-02T10:00:00+00:00", "ended": "2026-01-02T10:01:30+00:00", "wall_s": 90.0, "threads": 2}
    path.write_text(json.dumps(json.loads(path.read_text()) | about | {"peak_memory_bytes": 2**30}))
    csv = path.with_suffix(".csv")
    csv.write_text(csv.read_text().replace("true", "false", 1))
    seal(csv)
    plan["columns"].append(column(GRAY, 50, images_expected=None))
    maker.put("denoise_gray", "sigma50", "bm3d", [25.5])
    for name in ("deal", "drunet", "truth"):
        maker.put("denoise_gray", "sigma50", name, [], missing="x")
    render.write(maker.build(plan), root / "tables")
    timing_table.write(times(), str(root))
    for name, about in FIGURES.items():
        (root / "figures").mkdir(exist_ok=True)
        (root / "figures" / f"{name}.json").write_text(json.dumps({"figure": name, **about}))
        if not about.get("missing"):
            (root / "figures" / f"{name}.png").write_bytes(png())
    (root / "figures" / "data").mkdir()
    (root / "figures" / "data" / "fig03.json").write_text("{}")
    jobs = [("evaluate/a/b/deal", 90.0, "400.5"), ("evaluate/a/b/bm3d", 2.0, "NA"), ("fetch/x", 1.0, "-")]
    for name, seconds, memory in jobs:
        file = root / "benchmarks" / f"{name}.tsv"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(TSV % (seconds, memory))
    (root / "rulegraph.dot").write_text(DOT)
    (root / "config.resolved.yaml").write_text(yaml.safe_dump({"weights": "released", "subset": 3, "device": "cpu"}))
    return root


def png() -> bytes:
    """A picture of 60 × 40 pixels."""
    content = io.BytesIO()
    Image.new("RGB", (60, 40), "orange").save(content, format="PNG")
    return content.getvalue()


def times() -> timing_table.TimingTable:
    """A table of times with a method that was not measured."""
    about = {"machine": MACHINE, "timing": {"warmup": 1, "repeats": 1}, "output": {"sha256": "4" * 64}}
    about |= {"code": {"digest": "1" * 16}, "device": "GPU A", "packages": {"torch": "2"}}
    layout = {
        "table": "table4",
        "caption": "MRI, seconds",
        "columns": [
            {
                "task": "mri",
                "setting": "single4_pd",
                "group": "4-fold",
                "label": "PD",
                "paper": PD,
                "dataset": "mri_zenodo",
            }
        ],
        "methods": [{"name": n, "label": n.upper(), "paper": n.upper()} for n in ("wcrr", "deal", "tv")],
    }
    timings = {}
    for name, seconds in (("wcrr", 1.5), ("deal", 3.0), ("tv", None)):
        key = ("mri", "single4_pd", name)
        row = {"task": "mri", "setting": "single4_pd", "dataset": "mri_zenodo", "image": "a", "method": name}
        rows = [row | {"repeat": "0", "seconds": str(seconds), "iterations": "7"}] if seconds else []
        timings[key] = Timing(key, rows, None if seconds else "TV was not measured", about)
    return timing_table.build(layout, timings)
