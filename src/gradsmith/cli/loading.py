"""Find what the user names: `path/to/file.py:name`, a dotted name, or a name from a namespace."""

import ast
import contextlib
import difflib
import functools
import importlib
import importlib.util
import inspect
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import optax
import optax.contrib

import gradsmith

from ..checks import Subject
from ..checks.causes import formula
from ..checks.memory import limited_memory


class UsageError(Exception):
    """The command line names something that cannot be used; the message says what to do instead."""


def load(spec: str, namespaces: Iterable[ModuleType] = ()) -> Any:
    """Return the object that `spec` names.

    Args:
        spec: `path/to/file.py:name`, a dotted name such as `optax.contrib.muon`, or a bare name
            that one of the `namespaces` has.
        namespaces: Modules to search for a bare name, in order.

    Raises:
        UsageError: The file, the module or the name does not exist, or importing it fails.
    """
    namespaces = tuple(namespaces)
    if ":" in spec:
        path, _, name = spec.rpartition(":")
        return _attribute(_import_file(Path(path)), name, spec)
    if spec.endswith(".py"):
        raise UsageError(f"{spec} is a file; name what is in it as well: {spec}:name")
    if "." in spec:
        module, _, name = spec.rpartition(".")
        return _attribute(_import_module(module, spec), name, spec)
    for namespace in namespaces:
        if hasattr(namespace, spec):
            return getattr(namespace, spec)
    known = [name for namespace in namespaces for name in _public_names(namespace)]
    raise UsageError(f"nothing is called {spec!r}{_did_you_mean(spec, known)}")


def bind(function: Callable, assignments: Iterable[str], spec: str) -> Callable:
    """Fix keyword arguments given as `name=value`; values are Python literals, else strings.

    Raises:
        UsageError: An assignment has no `=`, or `function` has no such parameter.
    """
    keywords = assigned(assignments, "--arg")
    require_parameters(function, keywords, spec)
    return functools.partial(function, **keywords) if keywords else function


def assigned(assignments: Iterable[str], option: str) -> dict[str, Any]:
    """What texts `name=value` say; values are Python literals, else strings.

    Raises:
        UsageError: One of them has no `=`, or a name is given twice.
    """
    values = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals:
            raise UsageError(f"{option} takes name=value, got {assignment!r}")
        if name in values:
            raise UsageError(f"{option} {assignment}: {name} is there already; give it once")
        values[name] = _literal(text)
    return values


def require_parameters(function: Callable, names: Iterable[str], spec: str) -> None:
    """Raise a `UsageError` when `function` has no parameter of one of the names."""
    parameters = inspect.signature(function).parameters
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    for name in names:
        if name not in parameters and not takes_any:
            raise UsageError(
                f"{spec} has no parameter {name!r}, it takes ({', '.join(parameters)})"
                f"{_did_you_mean(name, parameters)}"
            )


def transformation(spec: str, assignments: tuple[str, ...]) -> optax.GradientTransformation:
    """Return the transformation that the user names, or that the factory makes which they name."""
    found: Any = load(spec, (gradsmith, optax, optax.contrib))
    if isinstance(found, optax.GradientTransformation) or not callable(found):
        return made(lambda: found, spec)
    factory = bind(found, assignments, spec)
    needed = [p.name for p in inspect.signature(factory).parameters.values() if _has_no_default(p)]
    if needed[1:]:
        raise UsageError(f"{spec} wants {', '.join(needed[1:])}: pass each by --arg name=value")
    rates = [1.0] if needed else []  # states do not depend on the learning rate
    with formula_told(found, spec):
        return made(lambda: factory(*rates), spec)


@contextlib.contextmanager
def formula_told(function: Callable, spec: str) -> Iterator[None]:
    """Where a factory fails because it is a formula for one matrix, say so.

    Raises:
        UsageError: It is a formula; the message says how to make an optimizer of it.
    """
    try:
        yield
    except Exception as error:
        subject = Subject(spec.rpartition(":")[2], function)
        with guarded():
            if not subject.is_formula:
                raise
        raise UsageError(f"{spec}: {'; '.join(formula(subject.name))}") from error


def made(make: Callable[[], Any], spec: str) -> optax.GradientTransformation:
    """Return what the user's factory makes.

    Raises:
        UsageError: It fails, or makes something else than a transformation.
    """
    try:
        with guarded():
            tx = make()
    except Exception as error:
        raise UsageError(f"calling {spec} failed: {type(error).__name__}: {error}") from error
    if isinstance(tx, type):
        name = tx.__qualname__
        raise UsageError(f"{spec} makes the class {name}, no optimizer: return {name}(...)")
    if not isinstance(tx, optax.GradientTransformation):
        raise UsageError(f"{spec} is {type(tx).__name__}, not an optax.GradientTransformation")
    return tx


@contextlib.contextmanager
def guarded(memory: bool = True) -> Iterator[None]:
    """Run code of the user's: it may not write in our results, double the command or fill memory.

    What it prints goes to standard error, and a process that it has forked ends here.

    Args:
        memory: Whether it gets a `MemoryError` beyond what a factory may want.
    """
    here = os.getpid()
    limit = limited_memory() if memory else contextlib.nullcontext()
    try:
        with contextlib.redirect_stdout(sys.stderr), limit:
            yield
    finally:
        if os.getpid() != here:
            os._exit(0)


def guarded_factory(factory: Callable) -> Callable:
    """Return a factory that runs guarded, with the same parameters."""
    if isinstance(factory, functools.partial):
        own = guarded_factory(factory.func)
        return functools.partial(own, *factory.args, **factory.keywords)

    @functools.wraps(factory)
    def call(*args: Any, **keywords: Any) -> Any:
        with guarded():
            return factory(*args, **keywords)

    return call


def _has_no_default(parameter: inspect.Parameter) -> bool:
    several = (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    return parameter.default is parameter.empty and parameter.kind not in several


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _import_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise UsageError(f"there is no file {str(path)!r} (looked in {Path.cwd()})")
    name = f"_gradsmith_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UsageError(f"{path} is not a Python file: its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickle look their module up
    folder = str(path.parent.resolve())
    if folder not in sys.path:  # as `python file.py` does, and for what is imported later
        sys.path.insert(0, folder)
    try:
        with guarded(memory=False):  # a file may load a model that large
            spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # a file that exits would end the command, with 0
        raise UsageError(f"importing {path} failed: {type(error).__name__}: {error}") from error
    return module


def _import_module(module: str, spec: str) -> ModuleType:
    try:
        with guarded(memory=False):
            return importlib.import_module(module)
    except (ImportError, SystemExit) as error:
        raise UsageError(f"{spec}: cannot import {module!r}: {error}") from error


def _attribute(module: ModuleType, name: str, spec: str) -> Any:
    if not hasattr(module, name):
        raise UsageError(
            f"{spec}: {module.__name__.removeprefix('_gradsmith_')} has no "
            f"{name!r}{_did_you_mean(name, _public_names(module))}"
        )
    return getattr(module, name)


def _public_names(module: ModuleType) -> list[str]:
    return [name for name in vars(module) if not name.startswith("_")]


def _did_you_mean(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, set(known), n=3)
    return f"; did you mean {' or '.join(close)}?" if close else ""
