"""Who takes part: a name, and a function from a learning rate to an Optax optimizer."""

import dataclasses
import functools
import inspect
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import optax

from .errors import RaceError
from .schedule import schedule
from .space import RATE, Space, first

RATE_NAMES = (RATE, "lr")


@dataclasses.dataclass(frozen=True)
class Entry:
    """A competitor: `build(rate, **settings)` makes its optimizer; the rate may be traced.

    Args:
        name: What the table and the records call it; unique in a race.
        build: From a learning rate, and a value for each other setting of the space, to an
            `optax.GradientTransformation`.
        space: What it is tuned over: a list of choices or a range for each setting. Without a
            `learning_rate` it has those of the race.
        schedule: The share of the learning rate that a step gets, of the step and all steps; by
            default the race's.
        origin: Where it comes from, for `config.json`: a race does not go on when it has changed.
            By default the name of the function, with the arguments of a `functools.partial`.
        about: What it is, in one line, for the notes under the table.
        code: The source of its factory, for the report; by default that of `build`, where Python
            can find it.
    """

    name: str
    build: Callable[..., optax.GradientTransformation]
    space: Space = dataclasses.field(default_factory=dict)
    schedule: Callable[[jax.Array, int], jax.Array] = schedule
    origin: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    about: str = ""
    code: str = ""

    def __post_init__(self):
        if not self.origin:
            object.__setattr__(self, "origin", _origin(self.build))
        if not self.code:
            object.__setattr__(self, "code", _code(self.build))

    @property
    def scheduled(self) -> str:
        """How the rate goes over the steps: the first line of what the schedule says of itself."""
        return (inspect.getdoc(_called(self.schedule)) or "one without a docstring").splitlines()[0]

    @property
    def own_schedule(self) -> str | None:
        """The same of a schedule of its own; None if it has that of the race."""
        return None if self.schedule is schedule else self.scheduled


def entry(
    name: str,
    factory: Any,
    space: Space | None = None,
    origin: Mapping[str, Any] | None = None,
) -> Entry:
    """Make an entry of a factory, once it is seen to build an optimizer from a learning rate.

    The parameter called `learning_rate` or `lr` gets the rate, else the first one.

    Args:
        name: What the table and the records call it.
        factory: A function that returns an Optax optimizer.
        space: What it is tuned over; see `Entry`.
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
    space = space or {}
    others = [setting for setting in space if setting != RATE]
    _refuse_missing(name, factory, keyword, others)

    def build(rate, **settings) -> Any:
        if keyword in RATE_NAMES:
            return factory(**{keyword: rate}, **settings)
        return factory(rate, **settings)

    try:
        made = build(0.01, **{setting: first(space[setting]) for setting in others})
    except Exception as error:
        raise RaceError(f"{name} fails when called: {type(error).__name__}: {error}") from error
    has_both = all(callable(getattr(made, method, None)) for method in ("init", "update"))
    if isinstance(made, type) or not has_both:
        what = (
            f"the class {made.__name__}" if isinstance(made, type) else f"a {type(made).__name__}"
        )
        raise RaceError(
            f"{name} returns {what}, not an Optax optimizer: let it return an "
            "optax.GradientTransformation(init, update), for example an optax.chain(...)"
        )
    return Entry(name, build, space, origin=origin or _origin(factory), code=_code(factory))


def rate_parameter(factory: Callable) -> str | None:
    """The parameter that gets the rate: `learning_rate` or `lr`, else the first; None if none."""
    parameters = _parameters(factory)
    named = [name for name in RATE_NAMES if name in parameters]
    return (named or [*parameters, None])[0]


def _refuse_missing(
    name: str, factory: Callable, keyword: str | None, settings: Sequence[str]
) -> None:
    if keyword is None:
        raise RaceError(f"{name} takes no argument, so that it cannot be given a learning rate")
    missing = [
        parameter.name
        for parameter in _parameters(factory).values()
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        and parameter.name not in (keyword, *settings)
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


def _code(factory: Callable) -> str:
    """Its source; empty where Python cannot find it."""
    try:
        return textwrap.dedent(inspect.getsource(_called(factory)))
    except (OSError, TypeError):
        return ""


def _called(function: Callable) -> Callable:
    """What partial functions call in the end."""
    while isinstance(function, functools.partial):
        function = function.func
    return function


def _parameters(factory: Callable) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(factory).parameters
    except ValueError as error:  # some callables written in C have no signature
        raise RaceError(f"{factory} has no signature to find a learning rate in") from error
