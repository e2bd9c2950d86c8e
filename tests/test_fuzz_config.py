"""A thousand random edits of config.yaml: each is a plan that can be made, or one clear line. Never a traceback."""

import copy
import random
import string
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import yaml
from hypothesis import strategies as st
from tally import Tally

from bench import configfile, datasets, registry
from bench.config import Config, did_you_mean
from bench.errors import UserError
from bench.plan import Plan

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "config.yaml").read_text(encoding="utf-8")
BASE = yaml.safe_load(TEXT)
EDITS, TEXT_EDITS = 850, 150  # 1,000 in all

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 300),
    st.sampled_from([2**31, 2**63, 2**70, -(2**70), 10**400]),
    st.floats(allow_nan=True, allow_infinity=True, width=64),
    st.text(st.characters(codec="utf-8"), max_size=8),
    st.sampled_from(
        ["null", "~", "1e-4", "[5, 15]", "{a: 1}", "[", "{", "tuned", "../x", "; id", "a/b", "truth", "x\0y"]
    ),
    st.dates(),
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5) | st.integers(0, 3), inner, max_size=3)
    ),
    max_leaves=5,
)


def places(content: Any, where: tuple = ()) -> list[tuple]:
    """Where there is something in nested sections and lists."""
    found = [where] if where else []
    inner = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    return found + [place for key, part in inner for place in places(part, (*where, key))]


PLACES = places(BASE)


def edited(content: Any, where: tuple, how: str, value: Any, name: str) -> None:
    """One edit, in place."""
    *path, last = where
    for step in path:
        content = content[step]
    if how == "delete":
        del content[last]
    elif how == "rename" and isinstance(content, dict):
        content[name] = content.pop(last)
    elif how == "add" and isinstance(content, dict):
        content[name] = value
    elif how == "wrap":
        content[last] = [content[last]]
    elif how == "text":
        content[last] = str(content[last])
    elif how == "swap":
        content[last] = copy.deepcopy(value)
    else:
        content[last] = value


edits = st.lists(
    st.tuples(
        st.sampled_from(PLACES),
        st.sampled_from(["delete", "rename", "add", "wrap", "text", "replace", "replace", "replace"]),
        values,
        st.one_of(st.text(max_size=6), st.sampled_from(["sigma", "subset", "datasets", "x"])),
    ),
    min_size=1,
    max_size=3,
)


def outcome(values: Any) -> str:
    """`plan` or `refused`; anything else than a plan or a UserError of one line fails."""
    try:
        plan = Plan(configfile.check(values, {"config.yaml": values}))
        config = plan.config
        made = [*plan.tables(), *plan.manifests(), *plan.prepared(), *plan.tunings()]
        for table in type(config.tables).model_fields:
            made += plan.table(table)
            plan.table_part(table)
        for task in type(config.tasks).model_fields:
            for setting in config.task(task).settings():
                for method in config.methods:
                    plan.evaluation_part(task, setting, method)
                    made += plan.evaluation_hyperparameters(task, setting, method)
    except UserError as error:
        assert str(error) and "\n" not in str(error), "not one line"
        assert "Traceback" not in str(error)
        return "refused"
    assert made and all(isinstance(path, str) and "\0" not in path for path in made)
    # What the jobs read is what was checked.
    again = yaml.load(yaml.dump(config.model_dump(mode="json"), Dumper=yaml.CSafeDumper), yaml.CSafeLoader)
    assert configfile.check(again) == config
    return "plan"


def test_edits_of_keys_and_values(tally: Tally, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    seen = {"plan": 0, "refused": 0}

    @hypothesis.settings(
        max_examples=EDITS, deadline=None, derandomize=True, database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )  # fmt: skip
    @hypothesis.given(edits)
    def check(chosen: list) -> None:
        content = copy.deepcopy(BASE)
        for edit in chosen:
            try:
                edited(content, *edit)
            except (KeyError, IndexError, TypeError, AttributeError):
                continue  # an earlier edit took the place away
        seen[outcome(content)] += 1

    check()
    assert sum(seen.values()) >= EDITS
    assert min(seen.values()) > EDITS // 20, f"one-sided edits: {seen}"
    for name, number in seen.items():
        tally("config", "edits of keys and values that gave a plan" if name == "plan" else "such edits refused", number)


def mangled(draw: random.Random) -> str:
    """A few characters or lines of config.yaml changed."""
    lines = TEXT.splitlines()
    for _ in range(draw.randint(1, 3)):
        number = draw.randrange(len(lines))
        line, kind = lines[number], draw.randrange(7)
        place = draw.randint(0, len(line))
        if kind == 0:
            lines[number] = line[:place] + draw.choice(string.printable + "\0\x85é\ufeff") + line[place:]
        elif kind == 1:
            lines[number] = line[:place] + line[place + 1 :]
        elif kind == 2:
            lines.insert(number, lines[draw.randrange(len(lines))])
        elif kind == 3:
            lines[number] = " " * draw.randint(0, 5) + line.lstrip()
        elif kind == 4:
            colon = draw.choice(["", " ", "::", ":\t", ": !!python/object/apply:os.system "])
            lines[number] = line.replace(":", colon, 1)
        elif kind == 5:
            lines[number] = line.replace(" ", "\t", 1)
        elif len(lines) > 1:
            del lines[number]
    return "\n".join(lines)


def test_edits_of_the_text(tmp_path: Path, tally: Tally, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    seen, path = {"plan": 0, "refused": 0}, tmp_path / "config.yaml"
    for seed in range(TEXT_EDITS):
        text = mangled(random.Random(seed))
        path.write_bytes(text.encode("utf-8", errors="surrogatepass"))
        try:
            content = configfile.read(path)
        except UserError as error:
            assert str(path) in str(error) and "\n" not in str(error)
            seen["refused"] += 1
            continue
        seen[outcome(content)] += 1
    assert min(seen.values()) > TEXT_EDITS // 20, f"one-sided edits: {seen}"
    for name, number in seen.items():
        tally("config", "edits of the text that gave a plan" if name == "plan" else "such texts refused", number)


@pytest.mark.parametrize(
    "content",
    [b"\xff\xfe\x00", b"a: \xc3\x28", b"\0", b"a: &x [*x]", b"&a a: *b", b"? [a]\n: b", b"- a", b"1: 2", b"a: 1\na: 2"],
)
def test_files_that_are_no_configuration(content: bytes, tmp_path: Path, tally: Tally) -> None:
    path = tmp_path / "c.yaml"
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        configfile.load([path])
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    tally("config", "files that are no configuration")


@hypothesis.given(st.lists(st.text(max_size=20), max_size=3))
@hypothesis.settings(max_examples=100, deadline=None, derandomize=True, database=None)
def test_assignments_of_the_command_line(texts: list[str]) -> None:
    try:
        configfile.check(configfile.merge(BASE, configfile.assignments(texts)))
    except UserError as error:
        assert "\n" not in str(error)


def test_the_base_is_a_plan() -> None:
    assert outcome(copy.deepcopy(BASE)) == "plan"
    assert datasets.registry() and registry.catalogue() and did_you_mean("x", ["xy"]) and Config()
