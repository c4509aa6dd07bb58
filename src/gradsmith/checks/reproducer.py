"""A program that shows a fault without the kit: plain JAX and Optax, complete, to be pasted."""

import ast
import functools
import re
import sys
from collections.abc import Callable
from typing import Any

import jax

from .subject import SMALL_MODEL, Subject

_STANDARD = '{"layer": {"bias": jnp.ones(3), "kernel": jnp.ones((4, 3))}}'
_LONGEST_TREE = 500


def reproducer(call: str, subject: Subject) -> str:
    """The whole program, a statement a line.

    What cannot be written down, such as a function made in another one, is named in a comment.

    Args:
        call: What a check declares, see `statements`.
        subject: Whose factory is imported, and whose tree is written down if it has its own.
    """
    factory, arguments = _inmost(subject)
    lines = ["import jax, jax.numpy as jnp, optax"]
    if "(8,)" in call:
        lines.append("jax.config.update('jax_num_cpu_devices', 8)")
    lines.append(_import_of(factory, subject))
    lines += [f"# {name} is what was passed" for name, value in arguments.items() if not value]
    if subject.extra_args is not None:
        lines.append("# `update` wants its extra arguments as well")
    given = ", ".join(f"{name}={value or name}" for name, value in arguments.items())
    name = _name(factory, subject)
    expression = f"{name}({given})" if subject.is_factory else name
    tree = subject.params if subject.params is not None else subject.small_model
    if tree is None and "eval_shape" in call:
        tree = subject.model  # of any size
    return "\n".join([*lines, *statements(call, expression, _written(tree))])


def statements(call: str, expression: str, tree: str = _STANDARD) -> list[str]:
    """What shows a fault, after the imports.

    Args:
        call: It may use `tx`, parameters `p`, a fresh state `s` and, in place of the factory's
            name, FACTORY; statements are separated by `; `.
        expression: The call that builds the subject.
        tree: The parameters, as code.
    """
    free = set(re.findall(r"\w+", call)) - set(re.findall(r"(\w+) = ", call))
    lines = []
    if "s" in free:
        free |= {"tx", "p"} - set(re.findall(r"(\w+) = ", call))
        lines.append("s = tx.init(p)")
    if "p" in free:
        lines.insert(0, f"p = {tree}")
    if "tx" in free:
        lines.insert(0, f"tx = {expression}")
    return [*lines, *call.replace("FACTORY", expression.partition("(")[0]).split("; ")]


def _inmost(subject: Subject) -> tuple[Any, dict[str, str]]:
    """The function behind partials, and its arguments as code; empty where that cannot be."""
    function, arguments = subject.factory, {}
    while isinstance(function, functools.partial):
        arguments = {**function.keywords, **arguments}
        function = function.func
    return function, {
        name: _literal(value) for name, value in {**arguments, **subject.call_arguments}.items()
    }


def _literal(value: Any) -> str:
    try:
        return repr(value) if ast.literal_eval(repr(value)) == value else ""
    except (ValueError, SyntaxError):
        return ""


def _name(factory: Any, subject: Subject) -> str:
    name = getattr(factory, "__name__", subject.name)
    return subject.name.replace(" ", "_") if name == "<lambda>" else name


def _import_of(factory: Any, subject: Subject) -> str:
    place = getattr(factory, "__qualname__", "<>")
    if not subject.is_factory or "<" in place or factory.__module__ in (None, "__main__"):
        return f"# {_name(factory, subject)} is what was checked"
    return f"from {_public_module(factory)} import {factory.__name__}"


def _public_module(function: Callable) -> str:
    """The shortest module of its package that has it; a file that was named is a module itself."""
    parts = function.__module__.removeprefix("_gradsmith_").split(".")
    modules = [".".join(parts[: n + 1]) for n in range(len(parts))]
    found = (m for m in modules if getattr(sys.modules.get(m), function.__name__, 0) is function)
    return next(found, modules[-1])


def _written(tree: Any) -> str:
    """A tree of dicts, lists and tuples as code; the standard one for any other, or a long one."""
    try:
        text = _code(tree)
    except TypeError:
        return _STANDARD
    return _STANDARD if tree is None or len(text) > _LONGEST_TREE else text


def _code(tree: Any) -> str:
    if tree is None:
        return "None"
    if type(tree) is dict:
        return f"{{{', '.join(f'{key!r}: {_code(part)}' for key, part in tree.items())}}}"
    if type(tree) is list:
        return f"[{', '.join(map(_code, tree))}]"
    if type(tree) is tuple:
        return f"({', '.join(map(_code, tree))},)"
    if not hasattr(tree, "shape") or len(jax.tree.leaves(tree)) != 1:
        raise TypeError
    make = "jnp.ones" if tree.size * tree.dtype.itemsize <= SMALL_MODEL else "jax.ShapeDtypeStruct"
    dtype = "" if (make, tree.dtype) == ("jnp.ones", "float32") else f", jnp.{tree.dtype}"
    return f"{make}({tuple(tree.shape)}{dtype})"
