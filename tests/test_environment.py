"""pyproject.toml, constraints.txt and environment.yml name the same packages, all that the code imports."""

import ast
import importlib.metadata
import re
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
OWN = {"deal", "baselines", "bench", *(path.stem for path in (ROOT / "tests").glob("*.py"))}
IMPORT_NAMES = {
    "pil": "pillow",
    "yaml": "pyyaml",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "pydantic_core": "pydantic",
}
PINNED_BY_TORCH = ("nvidia-", "cuda-", "triton")  # CUDA builds bring these, at versions that torch demands

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def requirements(*extras: str) -> dict[str, Requirement]:
    """Direct requirements of the package and of `extras`, by canonical name."""
    lines = [*PROJECT["dependencies"]]
    for extra in extras:
        lines += PROJECT["optional-dependencies"][extra]
    return {canonicalize_name(r.name): r for r in map(Requirement, lines)}


def pins(lines: Iterable[str]) -> dict[str, Version]:
    """`name==version` lines as {canonical name: version}; anything else fails."""
    found: dict[str, Version] = {}
    for line in lines:
        name, equals, version = line.partition("==")
        assert equals and re.fullmatch(r"[A-Za-z0-9._-]+", name), f"{line!r} is not name==version"
        assert canonicalize_name(name) not in found, f"{name} is pinned twice"
        found[canonicalize_name(name)] = Version(version)
    return found


def constraint_lines() -> list[str]:
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    return [line for line in text.splitlines() if not line.startswith("#")]


def conda() -> tuple[list[str], list[str]]:
    """environment.yml's own packages, and those that it leaves to pip."""
    content = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    assert content["name"] == "deal-bench"
    own = [entry for entry in content["dependencies"] if isinstance(entry, str)]
    (by_pip,) = [entry["pip"] for entry in content["dependencies"] if isinstance(entry, dict)]
    return own, by_pip


def imported(path: Path) -> set[str]:
    """Top-level names that a source imports, at any depth."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            names.add(node.module.split(".")[0])
    return names


def test_every_direct_dependency_is_pinned_within_its_bounds() -> None:
    pinned = pins(constraint_lines())
    for name, requirement in requirements("bench", "dev", "docs").items():
        assert name in pinned, f"constraints.txt lacks {name}"
        assert requirement.specifier.contains(pinned[name]), f"{name}: {pinned[name]} is not {requirement}"


def test_the_packages_that_replace_each_other_are_pinned() -> None:
    pinned = pins(constraint_lines())
    assert (str(pinned["torch"]), str(pinned["torchvision"])) == ("2.13.0", "0.28.0")


def test_constraints_are_sorted_and_say_what_they_are() -> None:
    names = [line.partition("==")[0].lower() for line in constraint_lines()]
    assert names == sorted(names)
    assert (ROOT / "constraints.txt").read_text(encoding="utf-8").startswith("# ")


def test_constraints_pin_all_that_an_installation_brings() -> None:
    """Follows the installed packages' own requirements from the direct ones on, with extras and markers."""
    pinned = pins(constraint_lines())
    todo, seen, unpinned = [*requirements("bench", "dev", "docs").values()], set(), set()
    while todo:
        requirement = todo.pop()
        key = (canonicalize_name(requirement.name), frozenset(requirement.extras))
        if key in seen or key[0].startswith(PINNED_BY_TORCH):
            continue
        seen.add(key)
        unpinned |= {key[0]} - pinned.keys()
        try:
            needs = importlib.metadata.requires(requirement.name) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        todo += [
            needed
            for needed in map(Requirement, needs)
            if needed.marker is None
            or any(needed.marker.evaluate({"extra": extra}) for extra in requirement.extras or {""})
        ]
    assert len(seen) > 50
    assert unpinned == set()


def test_conda_installs_the_same_versions() -> None:
    _, by_pip = conda()
    pinned, direct = pins(constraint_lines()), requirements("bench", "dev")
    assert pins(by_pip) == {name: pinned[name] for name in direct}


def test_python_versions_agree() -> None:
    required = Requirement(f"python{PROJECT['requires-python']}").specifier
    assert required.contains("3.11.0") and not required.contains("3.10.14")
    own, _ = conda()
    (python,) = [entry.partition("=")[2] for entry in own if entry.startswith("python=")]
    assert required.contains(python)
    assert required.contains(".".join(map(str, sys.version_info[:3])))


# deal.deepinv is not imported by deal, scipy only for MATLAB files before version 7.3
@pytest.mark.parametrize(
    ("folder", "extras"),
    [
        ("deal", ("deepinv", "mat")),
        ("baselines", ("bench",)),
        ("workflow/bench", ("bench",)),
        ("tests", ("bench", "dev", "deepinv")),
    ],
)
def test_what_is_imported_is_a_dependency(folder: str, extras: tuple[str, ...]) -> None:
    allowed = requirements(*extras)
    for path in sorted((ROOT / folder).rglob("*.py")):
        for name in imported(path) - set(sys.stdlib_module_names) - OWN:
            package = IMPORT_NAMES.get(name.lower(), canonicalize_name(name))
            assert package in allowed, f"{path.relative_to(ROOT)} imports {name}, which pyproject.toml lacks"


def test_deal_imports_without_its_optional_packages() -> None:
    """Those of the extras `deepinv` and `mat` are imported within functions only."""
    optional = {*requirements("deepinv", "mat")} - {*requirements()}
    assert optional == {"deepinv", "scipy"}
    for path in sorted((ROOT / "deal").rglob("*.py")):
        tree = ast.parse(path.read_bytes())
        top = ast.Module([node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)], [])
        names = {alias.name for node in top.body if isinstance(node, ast.Import) for alias in node.names}
        names |= {node.module for node in top.body if isinstance(node, ast.ImportFrom)}
        assert not {name.split(".")[0] for name in names} & optional, path


def test_third_parties_are_all_named() -> None:
    text = (ROOT / "THIRD_PARTY.md").read_text(encoding="utf-8").lower()
    data_sets = yaml.safe_load((ROOT / "workflow" / "data" / "datasets.yaml").read_text(encoding="utf-8"))
    packages = [line.partition("==")[0].lower() for line in constraint_lines()]
    for name in [*packages, *(f"`{key}`" for key in data_sets)]:
        assert re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", text), f"THIRD_PARTY.md does not name {name}"
    assert re.search(r"bm3d[^.]*non-commercial", text, re.DOTALL)
