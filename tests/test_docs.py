"""The documentation hangs together: links, anchors, navigation, reference. Building the site is `make docs`."""

import importlib
import importlib.util
import inspect
import json
import logging
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from deal.cli import COMMANDS

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
LINK = re.compile(r"!?\[[^\]]*\]\(([^()\s]+)\)")
FENCED = re.compile(r"^( *)```.*?^\1```$", re.MULTILINE | re.DOTALL)


def prose(path: Path) -> str:
    """A page without its code; of a notebook the text cells."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".ipynb":
        cells = json.loads(text)["cells"]
        text = "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    return FENCED.sub("", text)


def anchors(path: Path) -> set[str]:
    """Ids that a page's headings get: lower case, punctuation gone, dashes for spaces."""
    heads = re.findall(r"^#+ (.*)$", prose(path), re.MULTILINE)
    plain = [re.sub(r"[`*_]|\]\([^)]*\)|\[", "", head) for head in heads]
    return {re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", head).strip().lower()) for head in plain}


def broken(path: Path, text: str) -> list[str]:
    """Links of a page that lead to no file, or to no heading of it."""
    found = []
    for target in LINK.findall(text):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        page = (path.parent / name).resolve() if name else path
        if not page.exists() or (anchor and anchor not in anchors(page)):
            found.append(target)
    return found


PAGES = [*sorted(DOCS.glob("*.md")), *sorted(DOCS.glob("*.ipynb")), ROOT / "README.md"]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_lead_to_files_and_headings(path: Path) -> None:
    assert broken(path, prose(path)) == []


def test_broken_anchors_are_seen() -> None:
    text = "[a](api.md#a-batch) [b](api.md#a-bath) [c](nothing.md) [d](#none) [e](https://example.org/#x)"
    assert broken(DOCS / "index.md", text) == ["api.md#a-bath", "nothing.md", "#none"]


def navigation() -> list[str]:
    """Pages that the site's navigation lists."""
    found: list[str] = []

    def walk(entries: list) -> None:
        for entry in entries:
            (value,) = entry.values()
            walk(value) if isinstance(value, list) else found.append(value)

    walk(yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"])
    return found


def test_every_page_is_in_the_navigation() -> None:
    assert sorted(navigation()) == sorted(path.name for path in DOCS.glob("*.md"))


def test_the_reference_names_what_there_is() -> None:
    names = re.findall(r"^::: (\S+)$", (DOCS / "reference.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert len(names) == len(set(names)) > 15
    for name in names:
        module, _, member = name.rpartition(".")
        assert inspect.getdoc(getattr(importlib.import_module(module), member)), name
    public = {f"deal.{name}" for name in importlib.import_module("deal").__all__}
    assert public <= set(names), public - set(names)


def test_the_command_page_names_all_commands() -> None:
    text = (DOCS / "command.md").read_text(encoding="utf-8")
    for command in COMMANDS:
        assert re.search(rf"^deal {command.__name__.lower()}\b", text, re.MULTILINE), command.__name__


@pytest.fixture
def hooks():
    spec = importlib.util.spec_from_file_location("site_hooks", DOCS / "site_hooks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Page:
    class file:
        src_path = "page.md"


def test_the_site_names_files_that_are_no_pages(hooks, caplog) -> None:
    text = (
        "see [the code](../deal/model.py) and [README.md](../README.md#two-commands), [api](api.md)\n```python notest\n"
    )
    assert hooks.on_page_markdown(text, Page) == (
        "see the code (`deal/model.py`) and `README.md`, [api](api.md)\n```python\n"
    )
    assert caplog.records == []
    hooks.on_page_markdown("[x](../none.py)", Page)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


@pytest.mark.parametrize(
    ("script", "runs"),
    [
        ("deepinv_deal.py", "solver_deepinv_cpu.csv"),
        ("solver.py", "solver_cpu.csv"),
        ("solver.py", "solver_cpu_mri.csv"),
    ],
)
def test_measured_tables_are_those_of_the_published_runs(script: str, runs: str) -> None:
    command = [sys.executable, f"benchmarks/{script}", "--summary", f"results/published/{runs}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    table = [line for line in done.stdout.splitlines() if line.startswith("|")]
    assert len(table) > 3
    assert "\n".join(table) in (DOCS / "solver.md").read_text(encoding="utf-8")
