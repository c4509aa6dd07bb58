"""What an entry is called on the command line: `muon(learning_rate=log(2e-3, 2e-1), momentum=0.9)`.

A list is something to choose from, `log` and `uniform` are ranges, anything else is one value.
"""

import ast
from typing import Any, NamedTuple

from ..race import Range, log, uniform
from .loading import UsageError

RANGES = {"log": log, "uniform": uniform}


class Spec(NamedTuple):
    """An entry as it was asked for.

    Args:
        text: All of it.
        target: What to load.
        fixed: Arguments with one value.
        space: Arguments to be tuned.
    """

    text: str
    target: str
    fixed: dict[str, Any]
    space: dict[str, Range | list]


def parse(text: str) -> Spec:
    """Take an entry apart.

    Raises:
        UsageError: The parentheses hold anything but `name=value`.
        RaceError: A range is not one.

    Examples:
        >>> parse("muon(momentum=0.9, learning_rate=[0.1, 0.2])")[1:]
        ('muon', {'momentum': 0.9}, {'learning_rate': [0.1, 0.2]})
    """
    target, parenthesis, rest = text.partition("(")
    if not parenthesis:
        return Spec(text, text, {}, {})
    fixed, space = {}, {}
    for keyword in _keywords(text, f"f({rest}"):
        value = _value(text, keyword.value)
        group = space if isinstance(value, list | Range) else fixed
        group[keyword.arg] = value
    return Spec(text, target, fixed, space)


def _keywords(text: str, call: str) -> list[ast.keyword]:
    try:
        node = ast.parse(call, mode="eval").body
    except SyntaxError as error:
        raise UsageError(f"{text} is not written as name(arg=value): {error.msg}") from error
    if not isinstance(node, ast.Call) or node.args or None in {k.arg for k in node.keywords}:
        raise UsageError(f"{text} is not written as name(arg=value): every value needs its name")
    return node.keywords


def _value(text: str, node: ast.expr) -> Any:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in RANGES:
        ends = [_literal(text, end) for end in node.args]
        if len(ends) != 2 or node.keywords or not all(isinstance(e, int | float) for e in ends):
            raise UsageError(f"{text}: {ast.unparse(node)} needs two numbers, the lowest first")
        return RANGES[node.func.id](float(ends[0]), float(ends[1]))
    return _literal(text, node)


def _literal(text: str, node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except ValueError as error:
        raise UsageError(
            f"{text}: {ast.unparse(node)} is neither a value, nor a list, log(low, high) or "
            "uniform(low, high)"
        ) from error
