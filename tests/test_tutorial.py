"""The tutorial notebook runs from top to bottom, and the outputs that it is shown with are its own."""

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).resolve().parents[1] / "docs" / "tutorial.ipynb"


def text(cell) -> str:
    """What a code cell printed."""
    return "".join(output.get("text", "") for output in cell.get("outputs", []))


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("IPYTHONDIR", str(tmp_path_factory.mktemp("ipython")))
        folder = {"metadata": {"path": str(tmp_path_factory.mktemp("work"))}}  # needs nothing beside itself
        return NotebookClient(
            notebook, timeout=500, kernel_name="python3", resources=folder, coalesce_streams=True
        ).execute()


def test_it_runs_and_shows_pictures(executed):
    pictures = [o for c in executed.cells for o in c.get("outputs", []) if "image/png" in o.get("data", {})]
    assert len(pictures) == 3
    said = "".join(map(text, executed.cells))
    assert re.search(r"converged +\[True\]", said) and "[False] ConvergenceWarning" in said
    assert re.search(r"\[True\] after \d+ more iterations", said)


def test_every_reconstruction_is_nearer_to_the_picture(executed):
    found = re.findall(r"\w+: ([\d.]+) dB, \w+: ([\d.]+) dB", "".join(map(text, executed.cells)))
    assert len(found) == 3
    for (before, after), gain in zip(found, (5, 2, 8), strict=True):
        assert float(after) > float(before) + gain


def test_the_committed_outputs_are_of_these_cells(executed):
    for stored, new in zip(nbformat.read(NOTEBOOK, as_version=4).cells, executed.cells, strict=True):
        if stored.cell_type == "code":
            assert [o.output_type for o in stored.outputs] == [o.output_type for o in new.outputs], stored.source
            assert re.sub(r"\d+", "0", text(stored)) == re.sub(r"\d+", "0", text(new))
    assert NOTEBOOK.stat().st_size < 200_000
