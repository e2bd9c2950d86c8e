"""Counts what the tests tried, for docs/reliability.md: `python tests/tally.py` writes its table from the last run.

A test asks the fixture `tally` to count; each test's counts lie in pytest's cache, so that a run of one file leaves
those of the others as they are.
"""

import json
import re
import sys
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DOCUMENT = ROOT / "docs" / "reliability.md"
CACHE = ROOT / ".pytest_cache" / "v" / "reliability"
BEGIN, END = "<!-- counts: python tests/tally.py -->\n", "<!-- end of counts -->"
KINDS = {
    "kill": "SIGKILLs survived",
    "disk": "full, read-only or forbidden disks met",
    "server": "misbehaving servers met",
    "hostile": "hostile files and addresses refused",
    "config": "edited configurations planned or refused in one line",
    "input": "odd images, operators and files accepted or refused by name",
    "other": "other faults survived",
}
"""What is counted, in the order of the table."""


class Tally:
    """The counts of one test."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = defaultdict(int)

    def __call__(self, kind: str, what: str, number: int = 1) -> None:
        """Count `number` cases of `what`; `kind` is a key of KINDS."""
        assert kind in KINDS, kind
        self.counts[f"{kind}: {what}"] += number


def rows() -> list[tuple[str, str, int]]:
    """(kind, what, number) of all tests that have run, sorted."""
    total: dict[tuple[str, str], int] = defaultdict(int)
    for path in CACHE.rglob("*"):
        if path.is_file():
            for key, number in json.loads(path.read_text(encoding="utf-8")).items():
                kind, _, what = key.partition(": ")
                total[kind, what] += number
    order = list(KINDS)
    return sorted(((k, w, n) for (k, w), n in total.items()), key=lambda row: (order.index(row[0]), row[1]))


def table() -> str:
    """The Markdown of `rows`, with a total for each kind."""
    found = rows()
    lines = ["| | tried | all with the outcome above |", "|---|---:|---|"]
    for kind, title in KINDS.items():
        of_kind = [(what, number) for key, what, number in found if key == kind]
        if of_kind:
            listed = "; ".join(f"{what} {number:,}" for what, number in of_kind)
            lines.append(f"| {title} | {sum(number for _, number in of_kind):,} | {listed} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Rewrite the table of the document."""
    if not rows():
        sys.exit("error: no counts; run the tests first: python -m pytest tests")
    text = DOCUMENT.read_text(encoding="utf-8")
    if BEGIN not in text or END not in text:
        sys.exit(f"error: {DOCUMENT.name} lacks the marks around its table")
    between = re.compile(f"({re.escape(BEGIN)}).*?({re.escape(END)})", re.DOTALL)
    DOCUMENT.write_text(between.sub(lambda marks: marks[1] + table() + marks[2], text), encoding="utf-8")
    print(table(), end="")


if __name__ == "__main__":
    main()
