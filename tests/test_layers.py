"""Who may import whom: deal and baselines know nothing of the benchmark, tables are made without torch."""

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
BENCH = ROOT / "workflow" / "bench"
# Optional, imported where they are used, with a line that says what to install.
DEAL_EXTRAS = {"deal/cli/kernels.py": {"scipy"}, "deal/deepinv.py": {"deepinv"}}
DEAL_MAY = {"deal", "torch", "numpy", "safetensors", "PIL", "h5py", "tqdm"}
# Rooms of the benchmark that may know the method and the baselines, down to the module; others ask bench.registry.
BENCH_MAY = {
    "registry": {"deal", "baselines"},
    "adapter": {"deal", "baselines"},  # DEAL as one of the methods
    "training_job": {"deal"},
    "parcel": {"deal"},
    "tasks": {"deal.operators"},
    "frozen": {"deal"},  # conjugate gradients, for figures of the model
    "mri": {"deal.operators"},
    "training": {"deal.training"},  # the noise levels of the log's columns
    "__main__": {"deal.weights"},  # on top of all rooms
}
# Rooms that need no torch at all: configuration, plan, and everything made from saved results.
WITHOUT_TORCH = (
    "config",
    "configfile",
    "plan",
    "layouts",
    "checks",
    "cells",
    "tables",
    "timing_table",
    "results",
    "render",
)
WITHOUT_TORCH += ("stats", "publish", "search", "tuning_figure", "rulegraph", "latex_text", "paper")
WITHOUT_TORCH += ("report", "report_tables", "report_record", "ablations")
DRAWING = sorted((BENCH / "figures").glob("*.py"))
# Rooms that need it only for some of their work.
LIGHT = (
    "figure_config",
    "figure_data/__init__",
    "provenance",
    "datasets",
    "fetch",
    "metrics",
    "files",
    "errors",
    "registry",
)


def type_checking_only(node: ast.AST) -> bool:
    """Whether `node` is `if TYPE_CHECKING:`, whose body never runs."""
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def nodes(tree: ast.AST, deep: bool) -> Iterator[ast.AST]:
    """Statements that run: all of them, or (not `deep`) those that run when the module is imported."""
    for child in ast.iter_child_nodes(tree):
        if type_checking_only(child):
            yield from (node for other in child.orelse for node in [other, *nodes(other, deep)])
            continue
        yield child
        if deep or not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from nodes(child, deep)


def imports(source: str, deep: bool = True) -> set[str]:
    """Absolute dotted names that `source` imports; `from a import b` gives a and a.b."""
    found: set[str] = set()
    for node in nodes(ast.parse(source), deep):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, "imports are written in full here, not relative"
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def packages(source: str, deep: bool = True) -> set[str]:
    """The first parts of `imports`, without the standard library."""
    return {name.split(".")[0] for name in imports(source, deep)} - set(sys.stdlib_module_names)


def sources(folder: Path) -> list[Path]:
    found = sorted(folder.rglob("*.py"))
    assert found, f"no sources in {folder}"
    return found


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize(
    ("source", "deep", "found"),
    [
        ("import deal.solver as s", False, {"deal"}),
        ("from bench import tables", False, {"bench"}),
        ("def f():\n    import torch", True, {"torch"}),
        ("def f():\n    import torch", False, set()),
        ("class A:\n    import torch", False, {"torch"}),
        ("try:\n    import torch\nexcept ImportError:\n    pass", False, {"torch"}),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch", True, set()),
        ("if TYPE_CHECKING:\n    pass\nelse:\n    import torch", False, {"torch"}),
    ],
)
def test_imports_are_seen(source: str, deep: bool, found: set[str]) -> None:
    assert packages(source, deep) == found


@pytest.mark.parametrize("path", sources(ROOT / "deal"), ids=named)
def test_deal_stands_alone(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    assert packages(source) <= DEAL_MAY | DEAL_EXTRAS.get(named(path), set())
    assert packages(source, deep=False) <= DEAL_MAY  # an extra is imported where it is used, and asked for there


@pytest.mark.parametrize("path", sources(ROOT / "baselines"), ids=named)
def test_baselines_know_neither_deal_nor_the_benchmark(path: Path) -> None:
    assert not packages(path.read_text(encoding="utf-8")) & {"deal", "bench"}


@pytest.mark.parametrize("path", sources(BENCH), ids=named)
def test_only_the_registry_knows_the_methods(path: Path) -> None:
    allowed = BENCH_MAY.get(path.stem, set())
    for name in imports(path.read_text(encoding="utf-8")):
        if name.split(".")[0] in ("deal", "baselines"):
            parents = {".".join(name.split(".")[: n + 1]) for n in range(name.count(".") + 1)}
            # `from deal.operators import X` also names deal.operators.X
            assert parents & allowed, f"{named(path)} imports {name}"


@pytest.mark.parametrize("path", sources(BENCH), ids=named)
def test_nobody_imports_the_command_line(path: Path) -> None:
    assert "bench.__main__" not in imports(path.read_text(encoding="utf-8"))


def test_the_foundations_import_nothing_above_them() -> None:
    allowed = {"errors": set(), "files": {"errors"}, "metrics": set(), "sections": set()}
    allowed |= {"figure_config": {"sections"}, "config": {"errors", "files", "sections", "figure_config"}}
    modules = {path.stem for path in sources(BENCH)}
    for room, may in allowed.items():
        found = imports((BENCH / f"{room}.py").read_text(encoding="utf-8"))
        below = {name.split(".")[1] for name in found if name.startswith("bench.")} & modules
        assert below <= may, f"bench.{room} imports {below - may}"


@pytest.mark.parametrize("room", LIGHT)
def test_light_rooms_import_torch_only_inside_functions(room: str) -> None:
    assert "torch" not in packages((BENCH / f"{room}.py").read_text(encoding="utf-8"), deep=False)


@pytest.mark.parametrize("room", WITHOUT_TORCH)
def test_rooms_that_read_results_never_import_torch(room: str) -> None:
    assert "torch" not in packages((BENCH / f"{room}.py").read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", DRAWING, ids=named)
def test_drawing_never_imports_torch(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    assert "torch" not in packages(source)
    assert not {name for name in imports(source) if name.startswith("bench.figure_data")}


def test_a_table_is_made_without_torch() -> None:
    """Imports are followed: nothing that dry runs and tables load may load torch on the way."""
    rooms = [room.removesuffix("/__init__") for room in (*WITHOUT_TORCH, *LIGHT)]
    rooms += ["figures" if path.stem == "__init__" else f"figures.{path.stem}" for path in DRAWING]
    assert {"tables", "stats", "plan"} <= set(rooms)
    script = (
        "import importlib, sys\n"
        "for room in sys.argv[1:]:\n"
        "    importlib.import_module(f'bench.{room}')\n"
        "    if 'torch' in sys.modules:\n"
        "        sys.exit(f'bench.{room} loads torch')\n"
    )
    done = subprocess.run([sys.executable, "-c", script, *rooms], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_every_package_is_installed() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    folders = {"deal": ROOT / "deal", "baselines": ROOT / "baselines", "bench": BENCH}
    there = {
        ".".join([name, *path.parent.relative_to(folder).parts])
        for name, folder in folders.items()
        for path in folder.rglob("__init__.py")
    }
    assert set(project["tool"]["setuptools"]["packages"]) == there
