"""Who takes part: a name, and a function from a learning rate to an Optax optimizer."""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import optax

from .errors import RaceError

RATE_NAMES = ("learning_rate", "lr")


@dataclasses.dataclass(frozen=True)
class Entry:
    """A competitor: `build(rate)` makes its optimizer; the rate may be a traced scalar.

    Args:
        name: What the table and the records call it; unique in a race.
        build: From a learning rate to an `optax.GradientTransformation`.
        origin: Where it comes from, for `config.json`: a race does not go on when it has changed.
            By default the name of the function, with the arguments of a `functools.partial`.
        about: What it is, in one line, for the notes under the table.
    """

    name: str
    build: Callable[[Any], optax.GradientTransformation]
    origin: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    about: str = ""

    def __post_init__(self):
        if not self.origin:
            object.__setattr__(self, "origin", _origin(self.build))


def entry(
    name: str,
    factory: Any,
    origin: Mapping[str, Any] | None = None,
) -> Entry:
    """Make an entry of a factory, once it is seen to build an optimizer from a learning rate.

    The parameter called `learning_rate` or `lr` gets the rate, else the first one.

    Args:
        name: What the table and the records call it.
        factory: A function that returns an Optax optimizer.
        origin: Where the factory comes from; see `Entry`.

    Raises:
        RaceError: The factory cannot be called with a rate alone, fails, or returns something
            that is no Optax optimizer.

    Examples:
        >>> import functools, optax
        >>> heavy = entry("heavy", functools.partial(optax.sgd, momentum=0.9)).build(0.1)
        >>> updates, _ = heavy.update({"x": 1.0}, heavy.init({"x": 0.0}))
        >>> print(updates["x"])
        -0.1
    """
    if not callable(factory):
        raise RaceError(f"{name} is a {type(factory).__name__}, not a function of a learning rate")
    keyword = rate_parameter(factory)
    _refuse_missing(name, factory, keyword)

    def build(rate) -> Any:
        if keyword in RATE_NAMES:
            return factory(**{keyword: rate})
        return factory(rate)

    try:
        made = build(0.01)
    except Exception as error:
        raise RaceError(f"{name} fails when called: {type(error).__name__}: {error}") from error
    if not all(callable(getattr(made, method, None)) for method in ("init", "update")):
        raise RaceError(
            f"{name} returns a {type(made).__name__}, not an Optax optimizer: let it return an "
            "optax.GradientTransformation(init, update), for example an optax.chain(...)"
        )
    return Entry(name, build, origin or _origin(factory))


def rate_parameter(factory: Callable) -> str | None:
    """The parameter that gets the rate: `learning_rate` or `lr`, else the first; None if none."""
    parameters = _parameters(factory)
    named = [name for name in RATE_NAMES if name in parameters]
    return (named or [*parameters, None])[0]


def _refuse_missing(name: str, factory: Callable, keyword: str | None) -> None:
    if keyword is None:
        raise RaceError(f"{name} takes no argument, so that it cannot be given a learning rate")
    missing = [
        parameter.name
        for parameter in _parameters(factory).values()
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        and parameter.name != keyword
    ]
    if missing:
        raise RaceError(
            f"{name} needs a value for {' and '.join(missing)} as well: "
            f"{' '.join(f'--arg {parameter}=VALUE' for parameter in missing)}"
        )


def _origin(factory: Callable) -> dict[str, Any]:
    if isinstance(factory, functools.partial):
        arguments = [*map(repr, factory.args), *(f"{k}={v!r}" for k, v in factory.keywords.items())]
        return {**_origin(factory.func), "arguments": arguments}
    name = getattr(factory, "__qualname__", type(factory).__qualname__)
    return {"function": f"{factory.__module__}.{name}"}


def _parameters(factory: Callable) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(factory).parameters
    except ValueError as error:  # some callables written in C have no signature
        raise RaceError(f"{factory} has no signature to find a learning rate in") from error
