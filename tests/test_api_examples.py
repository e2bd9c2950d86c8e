"""The Python examples of the documentation run as they stand, on small images."""

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[1] / "docs"
BLOCK = re.compile(r"^```python *(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
TASKS = ("Denoising", "Deblurring", "Super-resolution", "MRI, one coil", "MRI, several coils", "An operator", "A batch")


def program(text: str) -> str:
    """The blocks of a page that are to run, on their lines, so that an error names the page's line."""
    lines = [""] * text.count("\n")
    for found in BLOCK.finditer(text):
        if found[1] != "notest":
            first = text[: found.start(2)].count("\n")
            for number, line in enumerate(found[2].splitlines(), first):
                lines[number] = line
    return "\n".join(lines)


def test_api_page(tmp_path, monkeypatch):
    page = DOCS / "api.md"
    text = page.read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)  # it writes a file
    exec(compile(program(text), str(page), "exec"), {"__name__": "api"})
    assert (tmp_path / "mine.safetensors").is_file()


def test_every_task_has_an_example_with_a_check():
    text = (DOCS / "api.md").read_text(encoding="utf-8")
    for task in TASKS:
        section = text.partition(f"\n## {task}")[2].partition("\n## ")[0]
        assert "assert " in program(section), task


def test_lines_stay_where_they_are():
    text = "# t\n\n```python\na = 1\n```\n\n```python notest\nimport nothing\n```\n```python\n1 / 0\n```\n"
    with pytest.raises(ZeroDivisionError) as caught:
        exec(compile(program(text), "page", "exec"), {})
    assert caught.traceback[-1].lineno + 1 == 11
