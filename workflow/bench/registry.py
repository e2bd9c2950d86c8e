"""Name → method, weights name → file. With `bench.adapter` the only room where deal and the baselines meet.

Methods are found by reading the sources, not by importing them: a class with a literal `name` in a module of
`baselines`, in `bench.adapter` (DEAL), or behind an entry point of the group `deal_bench.methods`. So a dry
run and the tables need no torch.
"""

import ast
import importlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.config import WEIGHTS, Config, Tasks, did_you_mean, is_deal
from bench.errors import UserError
from bench.files import write_json
from bench.provenance import code_digest, module_path, sha256

if TYPE_CHECKING:
    from baselines import Method

GROUP = "deal_bench.methods"
ADAPTER = "bench.adapter"
NAME = re.compile(r"[a-z][a-z0-9_]*")
DEAL_URLS = {
    kind: f"https://raw.githubusercontent.com/mehrsapo/DEAL/main/trained_models/deal_{kind}.pth"
    for kind in ("gray", "color")
}


class MissingWeights(UserError):
    """Weights that cannot be had: the method's cells stay empty, with this reason."""

    def __init__(self, reason: str, url: str | None = None) -> None:
        super().__init__(f"{reason} ({url})" if url and url not in reason else reason)


@dataclass(frozen=True)
class Entry:
    """What the source of a method says of it."""

    name: str
    module: str
    class_name: str
    label: str
    tasks: tuple[str, ...]
    oracle: bool
    """Whether it is not ranked: it sees the truth, or is none of those compared."""
    needs_weights: bool
    tuned_tasks: tuple[str, ...]
    remarks: tuple[tuple[str, str], ...] = ()
    """(task, what makes its rows another experiment than the paper's)."""
    gpu: bool = True
    """Whether it computes on the GPU where there is one."""

    def serves(self, task: str) -> bool:
        """Whether the method can do `task`."""
        return "*" in self.tasks or task in self.tasks

    def tunes(self, task: str) -> bool:
        """Whether the method has hyperparameters that can be tuned for `task`."""
        return self.serves(task) and ("*" in self.tuned_tasks or task in self.tuned_tasks)


Stated = tuple[dict[str, Any], set[str]]
"""The literals of a class, and all names that it defines; those of its bases included."""


def _classes(module: str) -> Mapping[str, Stated]:
    """The classes of a module by name; bases from other modules are looked up in the sources of those."""
    path = module_path(module)
    if path is None:
        raise UserError(f"method module '{module}': no source found")
    try:
        tree = ast.parse(path.read_bytes())
    except SyntaxError as error:
        raise UserError(f"{path}: line {error.lineno}: {error.msg}") from None
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    imported = _imported(tree, package)
    classes: dict[str, Stated] = {}
    for node in tree.body:
        if not isinstance(node, ast.ClassDef):
            continue
        literals: dict[str, Any] = {}
        defined: set[str] = set()
        for base in reversed(node.bases):
            text = ast.unparse(base)
            inherited, functions = classes.get(text) or _elsewhere(text, imported)
            literals |= {key: value for key, value in inherited.items() if key != "name"}
            defined |= functions
        for statement in node.body:
            target = statement.targets[0] if isinstance(statement, ast.Assign) else None
            target = statement.target if isinstance(statement, ast.AnnAssign) else target
            if isinstance(statement, ast.FunctionDef):
                defined.add(statement.name)
            if isinstance(target, ast.Name) and statement.value is not None:  # type: ignore[union-attr]
                defined.add(target.id)
                try:
                    literals[target.id] = ast.literal_eval(statement.value)  # type: ignore[union-attr]
                except (ValueError, TypeError):
                    literals.pop(target.id, None)  # an inherited value
        classes[node.name] = literals, defined
    return classes


def _imported(tree: ast.Module, package: str) -> dict[str, str]:
    """Name in a module → dotted name of what it was imported as."""
    found: dict[str, str] = {}
    for node in tree.body:
        if isinstance(node, ast.Import):
            found |= {alias.asname or alias.name: alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            origin = ".".join([*above, *([node.module] if node.module else [])])
            found |= {alias.asname or alias.name: f"{origin}.{alias.name}" for alias in node.names}
    return found


def _elsewhere(base: str, imported: Mapping[str, str]) -> Stated:
    """What a base class from another module states; nothing for `Method` itself and for what has no source."""
    head = next((name for name in imported if base == name or base.startswith(f"{name}.")), None)
    module, _, name = ((imported[head] + base.removeprefix(head)) if head else "").rpartition(".")
    if not module or (module, name) == ("baselines", "Method") or module_path(module) is None:
        return {}, set()
    return _classes(module).get(name, ({}, set()))


def _entries(module: str) -> Iterator[Entry]:
    """The methods that the source of `module` defines."""
    for class_name, (literals, defined) in _classes(module).items():
        if isinstance(literals.get("name"), str):
            tunable = defined & {"hyperparameters", "hyperparameters_for"}
            tuned = _tasks("tuned_tasks", module, literals) if "tuned_tasks" in defined else ("*",)
            yield Entry(
                name=literals["name"],
                module=module,
                class_name=class_name,
                label=str(literals.get("label", literals["name"])),
                tasks=_tasks("tasks", module, literals),
                oracle=bool(literals.get("oracle", False)) or not literals.get("ranked", True),
                needs_weights="weights_for" in defined,
                tuned_tasks=tuned if tunable else (),
                remarks=_remarks(module, literals, "remarks" in defined),
                gpu=bool(literals.get("gpu", True)),
            )


def _tasks(attribute: str, module: str, literals: Mapping[str, Any]) -> tuple[str, ...]:
    """The names of tasks in `tasks` or `tuned_tasks` of a method; a UserError where they are none."""
    known, names = ["*", *Tasks.model_fields], literals.get(attribute)
    where = f"{module}: method {literals['name']!r}: {attribute}"
    if not isinstance(names, tuple | list) or (attribute == "tasks" and not names):
        # ("mri") is a text, and its letters would pass for names of tasks
        stated = f"is {names!r}" if attribute in literals else "is not written out in its class"
        raise UserError(f"{where} {stated}, expected a tuple like ('denoise_gray',) of: {', '.join(known)}")
    for name in names:
        if name not in known:
            raise UserError(f"{where} names an unknown task, {name!r}; known: {', '.join(known)}")
    return tuple(names)


def _remarks(module: str, literals: Mapping[str, Any], stated: bool) -> tuple[tuple[str, str], ...]:
    """`remarks` of a method; a UserError where they are no texts by task."""
    found = literals.get("remarks", None if stated else {})
    texts = isinstance(found, dict) and all(isinstance(text, str) for pair in found.items() for text in pair)
    if not texts or not set(found) <= set(Tasks.model_fields):
        raise UserError(
            f"{module}: method {literals['name']!r}: remarks is {found!r}, expected a literal like "
            f"{{'denoise_gray': 'why its row is not the paper's'}} of: {', '.join(Tasks.model_fields)}"
        )
    return tuple(found.items())


@cache
def catalogue() -> Mapping[str, Entry]:
    """All methods that can be named in config.yaml."""
    package = module_path("baselines")
    if package is None:
        raise UserError("the package 'baselines' is not installed")
    modules = [f"baselines.{path.stem}" for path in sorted(package.parent.glob("[a-z]*.py"))]
    found: dict[str, Entry] = {}
    for module in [ADAPTER, *modules]:
        for entry in _entries(module):
            _add(found, entry)
    for point in entry_points(group=GROUP):
        module, _, class_name = point.value.partition(":")
        entry = next((e for e in _entries(module) if e.class_name == class_name and e.name == point.name), None)
        if entry is None:
            raise UserError(f"entry point {point.name} = {point.value}: no such class with name = '{point.name}'")
        _add(found, entry)
    return found


def _add(found: dict[str, Entry], entry: Entry) -> None:
    if not NAME.fullmatch(entry.name):  # it becomes part of file names and of shell lines
        raise UserError(f"{entry.module}: the method's name {entry.name!r} is not lower-case letters, digits and _")
    if is_deal(entry.name) and entry.module != ADAPTER:  # would get DEAL's solver and weights
        raise UserError(f"{entry.module}: the method's name {entry.name!r} begins as DEAL's own; take another")
    if entry.name in found:
        raise UserError(f"method '{entry.name}' is defined in {found[entry.name].module} and in {entry.module}")
    found[entry.name] = entry


def entry(name: str) -> Entry:
    """The entry of a method; a UserError names an unknown one."""
    if name not in catalogue():
        raise UserError(f"methods: unknown method {name!r}{did_you_mean(name, catalogue())}")
    return catalogue()[name]


def create(name: str, config: Config, setting: str = "") -> "Method":
    """An instance of the method called `name`, for one `setting` of a task where it matters."""
    found = entry(name)
    try:
        kind = getattr(importlib.import_module(found.module), found.class_name)
    except ImportError as error:
        raise UserError(f"method '{name}': {error}") from error
    made = kind(config.solver) if found.module == ADAPTER else kind()
    made.setting = setting
    return made


def trained(config: Config, kind: str) -> Path:
    """Where the training of DEAL's `kind` ("gray" or "color") puts its weights."""
    return Path(config.results) / "training" / f"{kind}.safetensors"


def epll_prior(config: Config) -> Path:
    """EPLL's prior: the authors' file if it lies in the cache, else what the workflow trains."""
    theirs = Path(config.cache) / "GSModel_8x8_200_2M_noDC_zeromean.mat"
    return theirs if theirs.is_file() else Path(config.results) / "training" / "epll_prior.npz"


def deal_kind(task: str) -> str:
    """Which of DEAL's models serves `task`: "gray" or "color"."""
    return "color" if task.endswith("_color") else "gray"


def released(kind: str) -> Path:
    """Where the weights shipped with this package are."""
    package = module_path("deal")
    if package is None:
        raise UserError("the package 'deal' is not installed")
    path = package.parent / "released" / f"{kind}.safetensors"
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def local_weights(config: Config, kind: str) -> Path | None:
    """DEAL's weights as a local file, there or to be made; None for `official`."""
    if config.weights == "train":
        return trained(config, kind)
    if config.weights == "released":
        return released(kind)
    if config.weights == "official":
        return None
    names = (f"{kind}.safetensors", f"deal_{kind}.pth")
    for name in names:
        if (path := Path(config.weights) / name).is_file():
            return path
    raise UserError(f"weights: {config.weights} holds neither {names[0]} nor {names[1]}")


def locate(name: str, config: Config) -> Path:
    """The file of the weights called `name`, downloaded if it must be.

    `deal_gray` and `deal_color` follow the key `weights`; any other name is a data set of the registry.

    Raises:
        MissingWeights: with the reason and the URL.
    """
    from bench import datasets

    kind = name.removeprefix("deal_")
    ours = name.startswith("deal_") and kind in DEAL_URLS
    if ours and (path := local_weights(config, kind)) is not None:
        if not path.is_file():
            how = {"train": "not trained yet", "released": "not shipped with this installation"}
            others = ", ".join(key for key in WEIGHTS if key != config.weights)
            raise MissingWeights(f"{path.name}: {how.get(config.weights, 'no such file')}; other weights: {others}")
        return path
    if name == "epll_prior":
        if not (path := epll_prior(config)).is_file():
            raise MissingWeights(f"{path} is not trained yet; python -m bench train_epll --output {path}")
        return path
    source, url = ("deal_official", DEAL_URLS[kind]) if ours else (name, None)
    known = datasets.registry()
    if source not in known:
        raise MissingWeights(f"weights '{source}' are not in the data registry")
    url = url or known[source].files[0].url
    try:
        paths = datasets.fetch(source, Path(config.cache), config.mirror_in_use())
    except UserError as error:
        raise MissingWeights(f"cannot be downloaded: {error}", url) from None
    if not ours:
        return paths[0]
    checkpoint = next(path for path in paths if kind in path.name)
    return _converted(checkpoint, Path(config.cache) / "converted" / f"deal_{kind}.safetensors")


def _converted(checkpoint: Path, target: Path) -> Path:
    """The authors' checkpoint as safetensors; made again unless checkpoint and code are those of what is there."""
    from deal.weights import WeightsError, convert_official, metadata

    code = code_digest(["deal.weights"])
    target = target.with_stem(f"{target.stem}-{code[:8]}")
    try:
        made = metadata(target).get("source_sha256") if target.is_file() else None
    except WeightsError:  # damaged
        made = None
    if made != sha256(checkpoint):  # clocks may lie
        target.parent.mkdir(parents=True, exist_ok=True)
        convert_official(checkpoint, target)
    return target


def prepare(config: Config, task: str, method: str, output: Path) -> None:
    """Find the weights of `method` for `task`; write {name: {path, sha256} or {missing}} to `output`."""
    section = config.task(task)
    instance = create(method, config)
    look_for(
        sorted({n for s in section.settings() for n in instance.weights_for(task, section.sigma(s))}), config, output
    )


def look_for(names: Iterable[str], config: Config, output: Path) -> None:
    """Write {name: {path, sha256} or {missing}} for weights, or another file of the registry, to `output`."""
    found: dict[str, dict[str, str]] = {}
    for name in names:
        try:
            path = locate(name, config)
            found[name] = {"path": str(path), "sha256": sha256(path)}
        except MissingWeights as error:
            found[name] = {"missing": str(error)}
    write_json(output, found)
