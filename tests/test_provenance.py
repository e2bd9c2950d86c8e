"""Digests that see code and nothing but code, and sidecars that can be verified."""

import json
import sys
from pathlib import Path

import pytest

from bench import provenance
from bench.errors import UserError

SOURCE = '''"""Module docstring."""

import math


def area(radius: float) -> float:
    """Area of a disc."""
    return math.pi * radius**2
'''


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An importable package `shapes` with a module `disc`, and one that imports it."""
    folder = tmp_path / "shapes"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "disc.py").write_text(SOURCE)
    (folder / "user.py").write_text("def f():\n    from shapes.disc import area\n\n    return area(1)\n")
    (folder / "relative.py").write_text("from . import disc\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    provenance.module_path.cache_clear()
    yield folder
    provenance.module_path.cache_clear()


@pytest.mark.parametrize(
    ("before", "after", "counts"),
    [
        ("    return", "    # why not\n    return", False),
        ('"""Area of a disc."""', '"""Its area."""', False),
        ("math.pi * radius**2", "(math.pi *\n            radius ** 2)", False),
        ('"""Module docstring."""\n', "", False),
        ("radius**2", "radius**3", True),
        ("def area", "def surface", True),
    ],
)
def test_code_counts_and_its_form_does_not(package: Path, before: str, after: str, counts: bool) -> None:
    first = provenance.code_digest(["shapes.disc"])
    assert before in SOURCE
    (package / "disc.py").write_text(SOURCE.replace(before, after))
    assert (provenance.code_digest(["shapes.disc"]) != first) is counts


@pytest.mark.parametrize("importer", ["shapes.user", "shapes.relative"])
def test_imports_are_followed(package: Path, importer: str) -> None:
    assert "shapes.disc" in provenance.closure([importer])
    first = provenance.code_digest([importer])
    (package / "disc.py").write_text(SOURCE.replace("radius**2", "radius**3"))
    assert provenance.code_digest([importer]) != first
    assert provenance.closure([importer], without=["shapes.disc"]) == ["shapes", importer]


def test_nothing_is_imported_for_a_digest(package: Path) -> None:
    (package / "disc.py").write_text("raise RuntimeError\n")
    provenance.code_digest(["shapes.user"])
    assert "shapes" not in sys.modules


def test_what_an_evaluation_depends_on() -> None:
    bm3d = provenance.closure(["bench.evaluate", "baselines.bm3d"])
    assert {
        "bench.evaluate",
        "bench.tasks",
        "bench.metrics",
        "bench.datasets",
        "baselines",
        "baselines.bm3d",
    } <= set(bm3d)
    operators = {"deal", "deal.operators", "deal.linear", "deal.cg"}  # they make the measurements
    assert not [n for n in bm3d if (n.startswith("deal") and n not in operators) or n == "baselines.oracles"]
    assert not {"bench.config", "bench.tables", "bench.plan"} & set(bm3d)
    ours = provenance.closure(["bench.evaluate", "bench.adapter"])
    assert {"deal.model", "deal.solver", "deal.splines", "deal.filters"} <= set(ours)
    assert "deal.training" not in ours
    training = provenance.closure(["bench.training_job"])
    assert {"deal.training", "deal.patches", "deal.solver"} <= set(training)
    assert not {"bench.evaluate", "bench.tables", "bench.plan", "bench.layouts"} & set(training)
    tables = provenance.closure(["bench.tables", "bench.layouts"])
    assert {"bench.tables", "bench.stats"} <= set(tables)
    assert not [name for name in tables if name.startswith(("deal", "bench.evaluate"))]


def test_unknown_modules_and_broken_sources_are_refused(package: Path) -> None:
    with pytest.raises(UserError, match=r"no source found for module 'shapes\.cube'"):
        provenance.code_digest(["shapes.cube"])
    (package / "disc.py").write_text("def f(:\n")
    with pytest.raises(UserError, match=r"disc\.py: line 1: "):
        provenance.code_digest(["shapes.disc"])


def test_sidecar_says_what_made_a_file(tmp_path: Path) -> None:
    output = tmp_path / "x.csv"
    record = provenance.Record(["bench.metrics"], "0123")
    output.write_text("a,b\n")
    path = record.write(output, data={"dataset": "d", "digest": "e"}, weights={"w": "f"}, seed=0, threads=2)
    sidecar = json.loads(path.read_text())
    assert path == tmp_path / "x.json"
    assert sidecar["missing"] is None
    assert sidecar["code"]["digest"] == provenance.code_digest(["bench.metrics"])
    assert set(sidecar["code"]) == {"version", "commit", "dirty", "digest"}
    assert sidecar["config_digest"] == "0123"
    assert (sidecar["data"], sidecar["weights"]) == ({"dataset": "d", "digest": "e"}, {"w": "f"})
    assert sidecar["packages"]["numpy"]
    assert sidecar["started"] <= sidecar["ended"]
    assert sidecar["peak_memory_bytes"] > 1e6
    assert sidecar["command"].startswith("python -m bench")
    assert provenance.verify(output) is None


def test_verify_sees_any_change(tmp_path: Path) -> None:
    output = tmp_path / "x.csv"
    assert "no such file" in provenance.verify(output)
    output.write_text("a,b\n")
    assert "no sidecar x.json" in provenance.verify(output)
    provenance.Record(["bench.metrics"], "").write(output)
    output.write_text("a,c\n")
    assert "its sidecar says" in provenance.verify(output)
    (tmp_path / "x.json").write_text("{}")
    assert "not a sidecar" in provenance.verify(output)


def test_works_without_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    provenance.commit.cache_clear()
    monkeypatch.setenv("PATH", str(tmp_path))
    assert provenance.commit() == (None, None)
    provenance.commit.cache_clear()


def test_torch_is_not_imported() -> None:
    import subprocess

    code = "import sys; import bench.plan, bench.layouts, bench.tables; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
