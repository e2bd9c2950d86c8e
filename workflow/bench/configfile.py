"""Configuration files: read, lay one on another, check, explain.

A wrong key or value ends in one line that names it; nothing is guessed and nothing is silently ignored.
"""

import os
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ValidationError

from bench.config import Config, did_you_mean
from bench.errors import UserError
from bench.files import write_text


def alternatives(annotation: Any) -> list[Any]:
    """The alternatives of a type annotation, Annotated and unions taken apart."""
    origin = typing.get_origin(annotation)
    if origin is Annotated:
        return alternatives(typing.get_args(annotation)[0])
    if origin in (typing.Union, types.UnionType):
        return [arm for part in typing.get_args(annotation) for arm in alternatives(part)]
    return [annotation]


def _is_section(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _parse_strings(value: Any, annotation: Any) -> Any:
    """Read text as YAML where the field is not text: Snakemake's `--config 'x=[5,15]'` delivers strings."""
    arms = alternatives(annotation)
    if isinstance(value, str) and str not in arms and not any(typing.get_origin(arm) is Literal for arm in arms):
        try:
            value = yaml.safe_load(value)
        except yaml.YAMLError:
            return value
    if isinstance(value, str) and value in ("null", "~") and type(None) in arms:
        return None
    if isinstance(value, str) and float in arms:
        try:
            return float(value)  # YAML 1.1 reads 1e-4, without a dot, as text
        except ValueError:
            return value
    for arm in arms:
        origin = typing.get_origin(arm)
        if isinstance(value, Mapping) and _is_section(arm):
            fields = arm.model_fields
            return {
                key: _parse_strings(part, fields[key].annotation) if key in fields else part
                for key, part in value.items()
            }
        if isinstance(value, Mapping) and origin is dict:
            return {key: _parse_strings(part, typing.get_args(arm)[1]) for key, part in value.items()}
        if isinstance(value, list) and origin is list:
            return [_parse_strings(part, typing.get_args(arm)[0]) for part in value]
        if arm is float and isinstance(value, int) and not isinstance(value, bool):
            try:
                return float(value)
            except OverflowError:  # more than 308 digits; refused as what it is
                return value
    return value


_EXPECTED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "string_type": "text",
    "bool_type": "true or false",
    "list_type": "a list, like [5, 15]",
    "too_short": "at least {min_length} in the list",
    "too_long": "at most {max_length} in the list",
    "dict_type": "a section (indented `key: value` lines)",
    "model_type": "a section (indented `key: value` lines)",
}


def _keys_at(location: Sequence[str | int]) -> list[str]:
    """The valid keys of the section at `location`."""
    arms: list[Any] = [Config]
    for step in location:
        following: list[Any] = []
        for arm in arms:
            if _is_section(arm) and step in arm.model_fields:
                following += alternatives(arm.model_fields[step].annotation)
            elif typing.get_origin(arm) in (list, dict):
                following += alternatives(typing.get_args(arm)[-1])
        arms = following
    return [key for arm in arms if _is_section(arm) for key in arm.model_fields]


def _dotted(location: Sequence[str | int]) -> str:
    text = ""
    for step in location:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text


def _explain(error: ValidationError) -> tuple[tuple[str | int, ...], str]:
    """The first mistake as (where, sentence); unknown keys before wrong values, since they cause them."""
    found = sorted(error.errors(), key=lambda item: item["type"] != "extra_forbidden")[0]
    where = tuple(found["loc"])
    name = _dotted(where)
    if found["type"] == "extra_forbidden":
        return where, f"unknown key '{name}'{did_you_mean(str(where[-1]), _keys_at(where[:-1]))}"
    if found["type"] == "value_error":
        return where, str(found["ctx"]["error"])
    if found["type"] == "invalid_key":
        return where, f"the key {found['input']!r} is not text"
    if found["type"] == "missing":
        return where, f"{name} is missing"
    expected = _EXPECTED.get(found["type"], "").format(**found.get("ctx", {}))
    if not expected:
        expected = found["msg"].removeprefix("Input should be ")
        expected = f"one of {expected}" if found["type"] == "literal_error" else expected
    return where, f"{name} is {found['input']!r}, expected {expected}"


def _at(content: Any, where: Sequence[str | int]) -> Any:
    """The value at `where`; Ellipsis, which no file can hold, where there is none."""
    for step in where:
        try:
            content = content[step]
        except (KeyError, IndexError, TypeError):
            return ...
    return content


def check(values: Mapping[str, Any], sources: Mapping[str, Any] | None = None) -> Config:
    """The checked configuration of `values`; `sources` (name → content) tells which file a mistake is in."""
    try:
        return Config.model_validate(_parse_strings(dict(values), Config))
    except ValidationError as error:
        where, sentence = _explain(error)
    wrong = _at(values, where)
    guilty = [name for name, content in (sources or {}).items() if where and _at(content, where) == wrong]
    line = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in sentence)
    raise UserError(f"{guilty[-1] if guilty else '--config' if where else 'configuration'}: {line}")


def read(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The content of one YAML file; a UserError says what is wrong with it."""
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" in line {mark.line + 1}" if mark else ""
        problem = " ".join(str(getattr(error, "problem", error)).split())
        raise UserError(f"{path}: not valid YAML{line}: {problem}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text (byte {error.start + 1})") from None
    except (ValueError, RecursionError) as error:  # a date that is none, brackets in brackets in brackets
        raise UserError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected `key: value` lines")
    return content


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` laid on `base`, section by section; lists are replaced as a whole."""
    merged = dict(base)
    for key, value in over.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = merge(merged[key], value) if both else value
    return merged


def load(paths: Sequence[str | os.PathLike[str]], values: Mapping[str, Any] | None = None) -> Config:
    """The configuration of the files `paths`, each laid on those before it, then of `values`."""
    sources = {str(path): read(path) for path in paths}
    merged: dict[str, Any] = {}
    for content in sources.values():
        merged = merge(merged, content)
    return check(merge(merged, values or {}), sources)


def assignments(texts: Iterable[str]) -> dict[str, Any]:
    """`["tasks.denoise_gray.subset=4"]` as nested keys; `["solver={tol: 1e-3}"]` is as `["solver.tol=1e-3"]`."""
    values: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise UserError(f"{text!r}: expected key=value")
        nested: Any = value
        for step in reversed(name.split(".")):
            nested = {step: nested}
        values = merge(values, _parse_strings(nested, Config))
    return values


def resolved_path(config: Config) -> Path:
    """Where the resolved configuration of a run lies, for every job of it to read."""
    return Path(config.results) / "config.resolved.yaml"


def write_resolved(config: Config) -> Path:
    """Write the resolved configuration if it differs from what is there (mtimes count for Snakemake)."""
    path = resolved_path(config)
    text = "# Written by the workflow; edit config.yaml instead.\n"
    text += yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        write_text(path, text)
    return path
