"""Regular expressions searched in the paths of leaves; of those that are found the first wins."""

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Any, Generic, TypeVar

import jax
import optax

from .paths import leaves_with_path, masked_paths

Value = TypeVar("Value")


class Patterns(Generic[Value]):
    """A mapping from patterns to values, to be asked by path.

    Args:
        argument: The argument of the caller that these patterns are, for the messages.
        values: `{pattern: value}`.

    Raises:
        ValueError: A pattern is no regular expression.
    """

    def __init__(self, argument: str, values: Mapping[str, Value]):
        self._argument = argument
        self._patterns: list[tuple[re.Pattern, Value]] = []
        for pattern, value in values.items():
            try:
                compiled = re.compile(pattern)
            except re.error as error:
                raise ValueError(
                    f"{argument}={{{pattern!r}: ...}}: this is no regular expression, {error}"
                ) from None
            self._patterns.append((compiled, value))

    def first(self, path: str) -> tuple[str, Value] | None:
        """Return the first pattern that is found in `path`, and its value."""
        found = (pair for pair in self._patterns if pair[0].search(path))
        return next(((regex.pattern, value) for regex, value in found), None)

    def values(self) -> list[Value]:
        """Return all values in order."""
        return [value for _, value in self._patterns]

    def refuse_unmatched(self, tree: Any) -> None:
        """Refuse patterns that are found in no path of `tree`, which are likely misspelled.

        A tree without leaves says nothing: `optax.tree.map_params` calls `init` with one. Nor does
        one with an `optax.MaskedNode`, which may stand for a whole branch.
        """
        paths = [path for path, _ in leaves_with_path(tree)]
        if not self._patterns or not paths or _is_masked(tree):
            return
        paths += masked_paths(tree)
        for regex, _ in self._patterns:
            if not any(map(regex.search, paths)):
                raise ValueError(
                    f"{self._argument}={{{regex.pattern!r}: ...}}: the parameters have no path in "
                    f"which this pattern is found{_close(regex.pattern, paths)}"
                )


def _is_masked(tree: Any) -> bool:
    is_masked = lambda node: isinstance(node, optax.MaskedNode)
    return any(map(is_masked, jax.tree.leaves(tree, is_leaf=is_masked)))


def _close(pattern: str, paths: Iterable[str]) -> str:
    """Say what the paths have instead of the pattern."""
    paths = list(paths)
    names = list(dict.fromkeys(name for path in paths for name in (*path.split("/"), path)))
    close = difflib.get_close_matches(pattern, names)
    if close:
        return f"; did you mean {' or '.join(map(repr, close))}?"
    return f"; they have {', '.join(paths[:8])}{' ...' if len(paths) > 8 else ''}"
