"""What transformations decide about each leaf at `init`, written down for `describe` to read.

A transformation is two closures; inside a chain nobody can ask it anything. So the few functions
that decide something say so here while `init` runs, and nothing is kept unless someone listens.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Literal

from jax.sharding import PartitionSpec

from .axes import MatrixAxes

Side = Literal["direction", "learning rate", "displacement"]


@dataclass
class DecisionLog:
    """The decisions of one `init`, by path of the leaf."""

    roles: dict[str, Any] = field(default_factory=dict)
    """The `Role` of the leaf."""
    groups: dict[str, str] = field(default_factory=dict)
    """Which transformation of a partition got it."""
    axes: dict[str, MatrixAxes] = field(default_factory=dict)
    """Its axes, where it was lifted."""
    buckets: dict[str, list[tuple[str, int]]] = field(default_factory=dict)
    """The keys of its buckets, each with how many of the bucket's matrices are its own."""
    rules: dict[str, list[str]] = field(default_factory=dict)
    """The names of the rules that see its matrices, first to last."""
    steps: dict[str, list[tuple[str, Side]]] = field(default_factory=dict)
    """What acts on it, first to last, and on which side of the learning rate that belongs."""
    placed: list[tuple[Any, PartitionSpec]] = field(default_factory=list)
    """Not by leaf: the arrays of the state that lie with the owners of matrices, and how."""


_current: ContextVar[DecisionLog | None] = ContextVar("decision_log", default=None)


@contextmanager
def record_decisions() -> Iterator[DecisionLog]:
    """Collect what every `init` within the block decides."""
    log = DecisionLog()
    token = _current.set(log)
    try:
        yield log
    finally:
        _current.reset(token)


def decision_log() -> DecisionLog:
    """Return the log to write to. Where nobody reads it, it is thrown away."""
    return _current.get() or DecisionLog()
