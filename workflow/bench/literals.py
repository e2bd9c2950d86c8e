"""What a module says of itself, read without importing it, so that dry runs load neither torch nor matplotlib."""

import ast
import copy
from functools import cache
from pathlib import Path
from typing import Any

from bench.errors import UserError


def literals(path: Path) -> dict[str, Any]:
    """The literal constants of a module, read without importing it."""
    return copy.deepcopy(_parsed(path, path.read_bytes()))


@cache
def _parsed(path: Path, source: bytes) -> dict[str, Any]:
    """Once for each state of the file."""
    found = {}
    try:
        tree = ast.parse(source)
    except SyntaxError as error:
        raise UserError(f"{path}: line {error.lineno}: {error.msg}") from None
    for statement in tree.body:
        if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
            try:
                found[statement.targets[0].id] = ast.literal_eval(statement.value)
            except ValueError:
                continue
    return found
