"""The first hour of a newcomer, typed by a program: clone, Table 1, an added method, an own image.

    python tests/integration/newcomer.py [--folder FOLDER] [--output docs/newcomer.md]

Works on a fresh clone of the commit that is checked out here, in a fresh environment, and takes what the pages of
that clone say by the letter: the method is the code block of docs/add-a-method.md. Every step must end well, and must
print what the pages promise. Needs bash, git, make, python3 with venv, and a package index. Times are processor time,
since the machine may be shared.
"""

import argparse
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CORES = 2
SHOWN = 24  # lines of one command's output
ADDED = re.compile(r"complete method, `(baselines/\w+\.py)`:\n\n```python\n(.*?)```", re.DOTALL)
PICTURE = "from skimage import data, io; io.imsave('cat.png', data.chelsea()[60:156, 110:206])"


class Newcomer:
    """Types commands in the clone and keeps what was seen."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.clone = folder, folder / "deal-bench"
        self.page: list[str] = []
        self.minutes: list[tuple[str, float]] = []

    def says(self, text: str) -> None:
        """A paragraph of the page."""
        self.page += [text, ""]

    def types(self, step: str, *commands: str, shown: str | None = None, promised: str = "") -> str:
        """Run shell commands one after the other; their output must contain `promised`, a regular expression.

        `shown` keeps only the lines of the output that match it.
        """
        begin, started, lines, everything = _processor(), time.monotonic(), [], ""
        for command in commands:
            done = subprocess.run(
                ["bash", "-c", command], cwd=self.clone if self.clone.is_dir() else self.folder,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
            )  # fmt: skip
            output = self._readable(done.stdout)
            everything += output
            if done.returncode:
                sys.exit(f"{step}: `{command}` ended with the status {done.returncode}:\n{output}")
            kept = [line for line in output.splitlines() if shown is None or re.search(shown, line)]
            lines += [
                *(f"$ {line}" if n == 0 else f"> {line}" for n, line in enumerate(command.splitlines())),
                *_short(kept),
            ]
        if not re.search(promised, everything):
            sys.exit(f"{step}: the output lacks {promised!r}:\n{everything}")
        self.minutes.append((step, (_processor() - begin) / 60))
        self.page += ["```console", *lines, "```", ""]
        print(
            f"{step}: {self.minutes[-1][1]:.1f} processor minutes, {(time.monotonic() - started) / 60:.1f} passed",
            flush=True,
        )
        return everything

    def _readable(self, text: str) -> str:
        """Without this machine's paths and terminal colours."""
        text = re.sub(r"\x1b\[[0-9;]*m", "", text).replace(str(self.clone), "~/deal-bench")
        return text.replace(str(self.folder), "~").replace(str(Path.home()), "~")


def _processor() -> float:
    """Seconds of processor time of all finished children."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _short(lines: list[str]) -> list[str]:
    lines = [line.rstrip()[:150] for line in lines]
    if len(lines) <= SHOWN:
        return lines
    return [*lines[: SHOWN // 3], f"[… {len(lines) - SHOWN} lines …]", *lines[-(SHOWN - SHOWN // 3) :]]


def first_hour(new: Newcomer) -> None:
    """All steps."""
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.strip()
    new.says(
        "Typed by a program, `tests/integration/newcomer.py`, into a fresh clone and a fresh environment; what was "
        "printed is below, shortened where it says so. The program stops if a step fails or does not print what these "
        "pages promise."
    )
    new.says("## Clone and install")
    new.types("clone", f"git clone --quiet '{ROOT}' deal-bench && git -C deal-bench checkout --quiet {commit}")
    # where it was cloned from says nothing to others
    new.page[-3] = "$ git clone <address of this repository> deal-bench && cd deal-bench"
    new.types("install", "make env", promised="installing into .venv")
    new.types("check", ".venv/bin/deal doctor", promised="all well")

    new.says("## Table 1, on a few photographs")
    new.says("The demo makes Tables 1 to 5; of what it prints, Table 1:")
    text = new.types(
        "Tables 1 to 5", "make demo", shown=r"^(?:\d+ of \d+ steps \(100%\)|Job stats|total )", promised=r"\*?\*?DEAL"
    )
    assert "Error" not in text
    new.types("read Table 1", "cat results/demo/tables/table1.md", promised=r"BM3D[\s\S]*DEAL")

    new.says("## One method added")
    new.says(
        "As [add-a-method.md](add-a-method.md) says: the file from that page, its conformance tests, one name more in "
        "the list of methods, and the same command again. Only the new method runs."
    )
    path, code = ADDED.search((new.clone / "docs" / "add-a-method.md").read_text(encoding="utf-8")).groups()
    (new.clone / path).write_text(code, encoding="utf-8")
    name = Path(path).stem
    new.types(
        "test the method", f".venv/bin/python -m pytest -q tests/test_methods.py -k {name}", promised=r"\d+ passed"
    )
    text = new.types(
        "run the method",
        f"sed -i 's/^methods: \\[\\(.*\\)\\]/methods: [\\1, {name}]/' workflow/config/demo.yaml",
        "git diff -U0 workflow/config/demo.yaml | tail -n 2",
        "make demo",
        shown=r"^[-+]methods|^(?:evaluate_method|measure_time|time_method|make_table|total)\b",
        promised="evaluate_method",
    )
    new.types("read Table 1 again", "cat results/demo/tables/table1.md", promised="Local mean")
    evaluated = sorted(new.clone.glob("results/demo/evaluate/denoise_*/*/mean.csv"))
    if len(evaluated) != 6:
        sys.exit(f"expected the results of 6 settings of {name}, found {len(evaluated)}")

    new.says("## An image of one's own")
    new.says(
        "Any photograph will do; here a cat that comes with scikit-image. `--simulate` adds the noise, so that the "
        "gain can be measured; a picture that is noisy already needs neither that nor `--save-input`."
    )
    new.types(
        "an own image",
        f'.venv/bin/python -c "{PICTURE}"',
        ".venv/bin/deal denoise cat.png -o cat-denoised.png --sigma 25 --simulate --save-input cat-noisy.png",
        promised=r"cat-denoised\.png: converged",
    )
    new.says("## How long it took")
    new.says(
        f"Processor time, and what that makes on {CORES} cores of an ordinary machine without a GPU; the "
        "installation also waits for the package index."
    )
    rows = [f"| {step} | {minutes:.1f} | {_about(minutes / CORES)} |" for step, minutes in new.minutes]
    total = sum(minutes for _, minutes in new.minutes)
    new.page += ["| step | processor minutes | on two cores |", "|---|---|---|", *rows]
    new.page += [f"| all | {total:.1f} | {_about(total / CORES)} |"]


def _about(minutes: float) -> str:
    return "seconds" if minutes < 0.5 else f"about {round(minutes)} minute{'s' if round(minutes) > 1 else ''}"


def main() -> None:
    """Run and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="an empty folder to work in, kept (default: a temporary one)")
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "newcomer.md")
    options = parser.parse_args()
    if options.folder is not None:
        options.folder.mkdir(parents=True, exist_ok=True)
        _run(options.folder.resolve(), options.output)
        return
    with tempfile.TemporaryDirectory() as folder:
        _run(Path(folder), options.output)


def _run(folder: Path, output: Path) -> None:
    new = Newcomer(folder)
    first_hour(new)
    output.write_text("# A newcomer's first hour\n\n" + "\n".join(new.page).rstrip() + "\n", encoding="utf-8")
    print(f"wrote {output}")


if __name__ == "__main__":
    main()
