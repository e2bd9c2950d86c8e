"""What every file of the repository must keep to: sizes, paths, links, and one skeleton for all rules."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MAX_BYTES = 5_000_000
MACHINE_PATH = re.compile(r"(?<![\w.~$}*-])/(?:home|root|work|farm|Users)/\w")
LINK = re.compile(r"!?\[[^\]]*\]\(([^()\s]+)\)")
RULE = re.compile(r"^(?:rule|checkpoint) (\w+):\n((?:[ \t]+.*\n|\n)*)", re.MULTILINE)
KEYWORD = re.compile(r"^    (\w+):", re.MULTILINE)
SKELETON = ["input", "output", "log", "benchmark", "conda", "threads", "resources", "params", "shell"]
WITHOUT = {"input", "resources"}  # not every job reads files or shares anything


def files() -> list[Path]:
    """Files that git tracks, or would track if they were added."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("which files belong to the repository is known to git only, and this is no git checkout")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def text_of(path: Path) -> str | None:
    """The text of a file, or None for a binary one."""
    content = path.read_bytes()
    return None if b"\0" in content else content.decode("utf-8")


def rules(text: str) -> dict[str, list[str]]:
    """Rule → its keywords in order."""
    return {name: KEYWORD.findall(body) for name, body in RULE.findall(text)}


def broken_links(path: Path, text: str) -> list[str]:
    """Relative links of a Markdown file that lead to nothing a fresh clone has."""
    known = {place for file in files() for place in (file, *file.parents)}
    targets = [target.split("#")[0] for target in LINK.findall(text)]
    return [
        target
        for target in targets
        if target and not re.match(r"[a-z]+:", target) and (path.parent / target).resolve() not in known
    ]


def test_no_file_is_large_but_released_weights() -> None:
    released = ROOT / "deal" / "released"
    large = [f for f in files() if f.stat().st_size > MAX_BYTES and not f.is_relative_to(released)]
    assert large == []


def test_no_file_names_a_path_of_one_machine() -> None:
    for path in files():
        for number, line in enumerate((text_of(path) or "").splitlines(), 1):
            assert not MACHINE_PATH.search(line), f"{path.relative_to(ROOT)}:{number}: {line.strip()}"


@pytest.mark.parametrize("folder", ["home", "root", "work"])
def test_machine_paths_are_seen(folder: str) -> None:
    assert MACHINE_PATH.search(f"open('/{folder}/someone/data')")
    assert MACHINE_PATH.search(f"/{folder}/x")
    assert not MACHINE_PATH.search(f"https://example.org/{folder}/page")
    assert not MACHINE_PATH.search(f"results/{folder}/x")


@pytest.mark.parametrize("path", sorted((ROOT / "workflow" / "rules").glob("*.smk")), ids=lambda p: p.name)
def test_rules_have_one_skeleton(path: Path) -> None:
    """A rule that does something has every keyword, in one order; one that only names targets has inputs."""
    found = rules(path.read_text(encoding="utf-8"))
    assert found
    for name, keywords in found.items():
        if "shell" not in keywords:
            assert keywords == ["input"], f"{name} is a target, but has {keywords}"
            continue
        assert keywords == [word for word in SKELETON if word in keywords], f"{name}: {keywords}"
        assert set(SKELETON) - set(keywords) <= WITHOUT, f"{name} lacks {set(SKELETON) - set(keywords)}"


def test_rules_are_read_to_their_end() -> None:
    text = 'rule a:\n    input:\n        "x",\n\n    shell:\n        "y"\n\nrule b:\n    output:\n        "z",\n'
    assert rules(text) == {"a": ["input", "shell"], "b": ["output"]}


def test_rules_hold_no_python() -> None:
    for path in (ROOT / "workflow" / "rules").glob("*.smk"):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"^\s*(def |import |from \S+ import|run:|script:)", text, re.MULTILINE), path.name


@pytest.mark.parametrize("command", ["make demo", "make test"])
def test_readme_names_the_two_commands(command: str) -> None:
    assert command in (ROOT / "README.md").read_text(encoding="utf-8")


def test_links_between_documents_lead_somewhere() -> None:
    documents = [path for path in files() if path.suffix == ".md"]
    assert ROOT / "README.md" in documents
    broken = {str(p.relative_to(ROOT)): broken_links(p, p.read_text(encoding="utf-8")) for p in documents}
    assert {name: links for name, links in broken.items() if links} == {}


def test_broken_links_are_seen() -> None:
    text = "[a](CHANGELOG.md) [b](docs) [c](nowhere.md) [d](https://example.org/x) [e](#here) ![f](no.png#x)"
    assert broken_links(ROOT / "README.md", text) == ["nowhere.md", "no.png"]
