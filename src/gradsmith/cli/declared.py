"""What is said of an optimizer beside its name: on the command line, and in pyproject.toml.

Both say it in one form, a dictionary with the keys of `KEYS`; all of them may be left out.
"""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .loading import UsageError

Declared = Mapping[str, Any]

KEYS: dict[str, type] = {
    "arguments": dict,  # of the factory
    "learning_rate": str,  # the name of that argument
    "extra_args": str,  # file.py:function, `(loss, params, grads) -> dict`
    "traits": list,
    "claims": dict,
    "expected_failures": dict,
    "params": str,  # file.py:name
    "mesh": str,  # as --mesh
}
_FILES = ("extra_args", "params")


def merged(first: Declared, second: Declared) -> dict[str, Any]:
    """Both; where both say one thing, the second is heard."""
    both = {**first, **second}
    for key in first.keys() & second.keys():
        if KEYS[key] is dict:
            both[key] = {**first[key], **second[key]}
        elif KEYS[key] is list:
            both[key] = [*first[key], *second[key]]
    return both


def declared_in_file(spec: str) -> Declared:
    """What the nearest pyproject.toml says of `spec`, under `[tool.gradsmith.check."SPEC"]`.

    The nearest to the optimizer's file, or to the working folder for a dotted name. Paths in it are
    relative to it.

    Raises:
        UsageError: It cannot be read, or says what nobody asked for.
    """
    path, colon, name = spec.rpartition(":")
    here = Path(path).resolve().parent if colon else Path.cwd()
    files = (folder / "pyproject.toml" for folder in (here, *here.parents))
    file = next((file for file in files if file.is_file()), None)
    if file is None:
        return {}
    key = f"{Path(path).resolve().relative_to(file.parent).as_posix()}:{name}" if colon else spec
    return _tables(file).get(key, {})


def _tables(file: Path) -> dict[str, Declared]:
    """Every table of the file, each of them looked through, so that no typing error is lost."""
    try:
        said = tomllib.loads(file.read_text(encoding="utf-8")).get("tool", {}).get("gradsmith", {})
    except (OSError, ValueError) as error:
        raise UsageError(f"{file} cannot be read: {error}") from None
    if not isinstance(said, dict) or said.keys() - {"check"}:
        raise UsageError(f"{file}: [tool.gradsmith] has tables [tool.gradsmith.check.NAME] alone")
    return {key: _table(file, key, table) for key, table in said.get("check", {}).items()}


def _table(file: Path, key: str, table: Any) -> Declared:
    place = f"{file}: [tool.gradsmith.check.{key!r}]"
    path, colon, _ = key.rpartition(":")
    if colon and not (file.parent / path).is_file():
        raise UsageError(f"{place}: there is no file {path!r} beside it")
    if not isinstance(table, dict):
        raise UsageError(f"{place} must be a table")
    for name, value in table.items():
        if name not in KEYS:
            raise UsageError(f"{place} has no key {name!r}; known are {', '.join(KEYS)}")
        if not isinstance(value, KEYS[name]):
            wanted = {dict: "a table", list: "a list", str: "a string"}[KEYS[name]]
            raise UsageError(f"{place}: {name} must be {wanted}, got {value!r}")
    return {
        name: str(file.parent / value) if name in _FILES else value for name, value in table.items()
    }
