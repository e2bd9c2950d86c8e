"""Which code, data, weights, packages and machine made a file: digests, and the sidecar that records them."""

import ast
import hashlib
import importlib.metadata
import importlib.util
import os
import platform
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from bench.errors import UserError
from bench.files import write_json

PACKAGES = (
    "deal-bench",
    "numpy",
    "scipy",
    "scikit-image",
    "torch",
    "safetensors",
    "bm3d",
    "pillow",
    "pandas",
)
OWN = ("bench", "baselines", "deal")
# Modules that fetch, arrange or record: what they do to a result is in other digests; edits rerun nothing.
AROUND = tuple(
    f"bench.{name}"
    for name in (
        "config",
        "configfile",
        "devices",
        "errors",
        "fetch",
        "figure_config",
        "files",
        "provenance",
        "registry",
        "sections",
        "transfer",
    )
)


@cache
def module_path(module: str) -> Path | None:
    """The source file of `module`, found without importing it; None when it is not a Python source."""
    top, *rest = module.split(".")
    spec = importlib.util.find_spec(top)
    if spec is None or spec.origin is None:
        return None
    place = Path(spec.origin)
    if place.name != "__init__.py":
        return place if not rest and place.suffix == ".py" else None
    if not rest:
        return place
    inside = place.parent.joinpath(*rest)
    for path in (inside.with_suffix(".py"), inside / "__init__.py"):
        if path.is_file():
            return path
    return None


def _without_docstrings(tree: ast.AST) -> ast.AST:
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and body:
            first = body[0]
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                node.body = body[1:]
    return tree


@cache
def _parsed(path: Path, source: bytes, module: str) -> tuple[frozenset[str], str]:
    """What `module` imports, and its syntax tree without docstrings as text; once for each state of its file."""
    try:
        tree = ast.parse(source)
    except SyntaxError as error:
        raise UserError(f"{path}: line {error.lineno}: {error.msg}") from None
    names = _imported(tree, module, path.name == "__init__.py")
    return frozenset(names), ast.dump(_without_docstrings(tree))


def _imported(tree: ast.AST, module: str, is_package: bool) -> set[str]:
    """Dotted names that `module` imports, at any depth of its code; names of members may be among them."""
    package = module if is_package else module.rpartition(".")[0]
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parents, base] if base else parents)
            names |= {base} | {f"{base}.{alias.name}" for alias in node.names}
    return names


def closure(modules: Iterable[str], without: Sequence[str] = AROUND) -> list[str]:
    """`modules` and what they import of this project or their own package; `without` is not entered.

    The package around a module counts with its own code only: what its __init__ offers to others is not what the module
    computes with, so that an edit of DEAL's solver does not rerun all who use a forward operator.
    """
    todo, found, around = list(modules), set(), set()
    followed = {*OWN, *(module.split(".")[0] for module in todo)}
    while todo:
        module = todo.pop()
        path = module_path(module)
        if path is None or module in found or module in without:
            continue
        found.add(module)
        if (parent := module.rpartition(".")[0]) and parent not in without:
            around.add(parent)
        names, _ = _parsed(path, path.read_bytes(), module)
        todo += [name for name in names if name.split(".")[0] in followed]
    return sorted(found | around)


def code_digest(modules: Iterable[str], without: Sequence[str] = AROUND) -> str:
    """Sixteen hex digits over the syntax trees of `closure(modules)`.

    Comments, formatting and docstrings do not count, so that editing them triggers no rerun. An unknown
    module among `modules` is a UserError.
    """
    names = list(modules)
    for name in names:
        if module_path(name) is None:
            raise UserError(f"code_digest: no source found for module '{name}'")
    total = hashlib.sha256()
    for name in closure(names, without):
        path = module_path(name)
        assert path is not None
        _, dump = _parsed(path, path.read_bytes(), name)
        total.update(f"{name}\n{dump}\n".encode())
    return total.hexdigest()[:16]


@cache
def commit() -> tuple[str | None, bool | None]:
    """(git commit, whether tracked files differ from it); (None, None) without a repository or git."""
    here = Path(__file__).resolve().parent
    git = ["git", "-C", str(here)]
    try:
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, timeout=30)
        if head.returncode:
            return None, None
        # A copy installed below another repository (site-packages in a project) is not that one's code.
        known = subprocess.run([*git, "ls-files", "--error-unmatch", __file__], capture_output=True, timeout=30)
        if known.returncode:
            return None, None
        status = subprocess.run(
            [*git, "status", "--porcelain", "--untracked-files=no"],
            capture_output=True,
            text=True,
            timeout=30,
        )
    except (OSError, subprocess.SubprocessError):
        return None, None
    return head.stdout.strip(), bool(status.stdout.strip())


def versions(names: Iterable[str] = PACKAGES) -> dict[str, str]:
    """Versions of Python and of those of `names` that are installed."""
    found = {"python": platform.python_version()}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def driver() -> str | None:
    """The NVIDIA driver's version, when nvidia-smi is there."""
    if shutil.which("nvidia-smi") is None:
        return None
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        reply = subprocess.run(query, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return None
    return reply.stdout.splitlines()[0].strip() if reply.returncode == 0 and reply.stdout.strip() else None


def processor() -> str:
    """The CPU's name."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def device_name(device: str) -> str:
    """The name of the CPU or of the GPU behind a torch device string."""
    torch = sys.modules.get("torch")
    if device.startswith("cuda") and torch is not None:
        return str(torch.cuda.get_device_name(device))
    return processor()


def peak_memory_bytes() -> int:
    """Largest resident memory of this process so far."""
    import resource

    kilo = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * kilo


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def sha256(path: str | os.PathLike[str]) -> str:
    """sha256 of a file, in hex."""
    with Path(path).open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def sidecar_path(path: str | os.PathLike[str]) -> Path:
    """`X.csv` → `X.json`."""
    return Path(path).with_suffix(".json")


class Record:
    """Collects what a sidecar holds; created when the work starts, written when it ends."""

    def __init__(self, modules: Iterable[str], config_digest: str) -> None:
        self.code_digest = code_digest(modules)  # now: the sources may be edited while the work goes on
        self.config_digest = config_digest
        self.started = now()
        self._clock = time.perf_counter()

    def write(
        self,
        output: str | os.PathLike[str],
        *,
        missing: str | None = None,
        data: Mapping[str, Any] | None = None,
        weights: Mapping[str, str] | None = None,
        seed: int | None = None,
        device: str = "cpu",
        threads: int | None = None,
        **more: Any,
    ) -> Path:
        """Write the sidecar of `output`, which must exist; returns the sidecar's path."""
        revision, dirty = commit()
        code = {
            "version": versions(["deal-bench"]).get("deal-bench"),
            "commit": revision,
            "dirty": dirty,
            "digest": self.code_digest,
        }
        path = sidecar_path(output)
        write_json(
            path,
            {
                "missing": missing,
                "code": code,
                "config_digest": self.config_digest,
                "data": dict(data or {}),
                "weights": dict(weights or {}),
                "seed": seed,
                "packages": versions(),
                "device": device_name(device),
                "driver": driver() if device.startswith("cuda") else None,
                "threads": threads,
                "started": self.started,
                "ended": now(),
                "wall_s": round(time.perf_counter() - self._clock, 3),
                "peak_memory_bytes": peak_memory_bytes(),
                "command": f"python -m bench {shlex.join(sys.argv[1:])}",
                **more,
                "output": {"name": Path(output).name, "sha256": sha256(output)},
            },
        )
        return path


def verify(output: str | os.PathLike[str]) -> str | None:
    """None when `output` is the file its sidecar describes, else what is wrong."""
    import json

    path = sidecar_path(output)
    if not Path(output).is_file():
        return f"{output}: no such file"
    if not path.is_file():
        return f"{output}: no sidecar {path.name}"
    try:
        recorded = json.loads(path.read_text(encoding="utf-8"))["output"]["sha256"]
    except (ValueError, KeyError, TypeError):
        return f"{path}: not a sidecar"
    found = sha256(output)
    return None if found == recorded else f"{output}: sha256 {found}, but its sidecar says {recorded}"
