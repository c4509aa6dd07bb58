"""What is checked: how to build an optimizer, and what its author says of it."""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from .problem import is_float

RATE_NAMES = ("learning_rate", "lr")
FIRST_RATE_NAMES = ("step_size", "stepsize", "step", "rate", "eta", "alpha")
"""What a learning rate is called, if it is the first parameter."""
DEFAULT_RATE = 0.01
SMALL_MODEL = 2**21
"""Bytes of a model that is computed with: the workout keeps 32 steps of it, and of its state."""

TRAITS = {
    "needs_params": "`update` uses `params`, so it may refuse to work without",
    "by_name": "how a leaf is treated depends on its name",
    "no_schedule": "its learning rate may not be a schedule",
    "no_descent": "its updates need not point downhill",
    "no_accumulation": "a step on a mean of equal gradients may differ from a step on one of them",
}
"""What a subject may declare, so that the checks which assume otherwise are skipped."""


@dataclasses.dataclass(frozen=True, eq=False)
class Subject:
    """An optimizer on its way through the checks.

    Building it is left to the checks, so that a factory which raises is a finding and no crash.

    Args:
        name: How reports and pytest ids call it.
        factory: Returns an `optax.GradientTransformation`, or is one (then the checks that build
            it more than once are skipped).
        arguments: Keyword arguments of the factory. The learning rate may be left out: a parameter
            called `learning_rate` or `lr`, or a first parameter without default, gets 0.01.
        learning_rate: The name of the factory's learning rate. Known without are `learning_rate`,
            `lr`, a first parameter without default, and a first one called `step_size`, `eta`,
            `peak_lr` ...
        extra_args: `(loss, params, grads) -> dict`, the extra arguments that `update` wants, such
            as `lambda loss, params, grads: {"value": loss(params)}`. `loss` can be traced.
        params: A tree of arrays to check on, where the small default tree does not suit (a rule
            for one stack `(k, m, n)`, say). The checks that need trees of their own are skipped.
        model: The tree of a real model, of arrays or of shapes alone. The group `model` is asked of
            it abstractly, so that no size costs memory; where it is small (`SMALL_MODEL`), it
            stands in the place of the small default tree, in every check.
        mesh: The axes of a mesh and their sizes, `{"fsdp": 4}`, that the model is split over.
        traits: Names from `TRAITS`: what excuses it from checks.
        claims: `{check: value}`: checks of the tier `trait` that it is held to. The value is True,
            or what the check asks for, such as the band of `polar_factor`.
        expected_failures: `{check: reason}`: checks it is known to fail. A check that passes
            nevertheless is reported as a failure, so that the list cannot go stale.

    Raises:
        ValueError: A trait is not in `TRAITS`.

    Examples:
        >>> Subject("adam", optax.adam).call_arguments
        {'learning_rate': 0.01}
        >>> Subject("polyak", optax.polyak_sgd, extra_args=lambda loss, params, grads: {
        ...     "value": loss(params)}).rate_name
    """

    name: str
    factory: Any
    arguments: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    learning_rate: str | None = None
    extra_args: Callable[..., Mapping[str, Any]] | None = None
    params: Any = None
    model: Any = None
    mesh: Mapping[str, int] = dataclasses.field(default_factory=dict)
    traits: frozenset[str] | set[str] = frozenset()
    claims: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    expected_failures: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        unknown = sorted(set(self.traits) - TRAITS.keys())
        if unknown:
            raise ValueError(
                f"subject {self.name!r} declares unknown traits {unknown}; "
                f"known are {', '.join(TRAITS)}"
            )

    @property
    def is_factory(self) -> bool:
        """Whether it can be built more than once."""
        return not isinstance(self.factory, optax.GradientTransformation)

    @functools.cached_property
    def is_formula(self) -> bool:
        """Whether what was named is a function of a matrix, which makes no optimizer yet."""
        if self.parameters.keys() & set(RATE_NAMES):
            return False
        try:
            made = jax.eval_shape(self.factory, jax.ShapeDtypeStruct((4, 3), jnp.float32))
        except Exception:  # whatever it is, it takes no matrix
            return False
        return isinstance(made, jax.ShapeDtypeStruct)

    @functools.cached_property
    def small_model(self) -> Any:
        """The model, where it can be computed with: small, of real floating arrays; else None."""
        leaves = jax.tree.leaves(self.model)
        floats = all(is_float(leaf) for leaf in leaves)
        small = floats and sum(leaf.size * leaf.dtype.itemsize for leaf in leaves) <= SMALL_MODEL
        return self.model if leaves and small else None

    @property
    def rate_name(self) -> str | None:
        """The parameter of the factory that is its learning rate, if there is one.

        The one that was declared; else `learning_rate` or `lr`; else the first one, if it has no
        default or the name of a rate, and is not given what cannot be one.
        """
        if self.learning_rate is not None:
            return self.learning_rate
        named = next((name for name in RATE_NAMES if name in self.parameters), None)
        first = next(iter(self.parameters.values()), None)
        if named is not None or first is None or first.kind is not first.POSITIONAL_OR_KEYWORD:
            return named
        given = self.arguments.get(first.name, DEFAULT_RATE)
        number = isinstance(given, float | int) or callable(given)  # or a schedule
        known = number and (first.default is first.empty or _is_rate(first.name))
        return first.name if known else None

    @property
    def stated_rate(self) -> float | None:
        """The learning rate that it is built with, where that is a number."""
        if self.rate_name is None:
            return None
        default = self.parameters[self.rate_name].default
        given = self.call_arguments.get(self.rate_name, default)
        return given if isinstance(given, float) else None

    @property
    def rate_value(self) -> float:
        """The learning rate it is checked with: a number, even where the default is a schedule."""
        return self.stated_rate or DEFAULT_RATE

    @functools.cached_property
    def call_arguments(self) -> dict[str, Any]:
        """The keyword arguments that the factory is called with."""
        given = dict(self.arguments)
        free = [
            p
            for p in self.parameters.values()
            if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) and p.name not in given
        ]
        first = next(iter(self.parameters), None)
        for parameter in free:
            named = parameter.name == self.rate_name
            if parameter.default is parameter.empty and (named or parameter.name == first):
                given[parameter.name] = DEFAULT_RATE
        return given

    @property
    def missing_arguments(self) -> list[str]:
        """The parameters that have no default, and that nobody gives a value."""
        named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        return [
            p.name
            for p in self.parameters.values()
            if p.kind in named and p.default is p.empty and p.name not in self.call_arguments
        ]

    def build(self, **overrides: Any) -> Any:
        """Build it anew, with some arguments replaced; whatever comes back is returned as it is."""
        if not self.is_factory:
            return self.factory
        return self.factory(**{**self.call_arguments, **overrides})

    @functools.cached_property
    def parameters(self) -> Mapping[str, inspect.Parameter]:
        """The parameters of the factory, none where there is no telling."""
        if not self.is_factory:
            return {}
        try:
            return inspect.signature(self.factory).parameters
        except (TypeError, ValueError):  # not callable, or a builtin: building it will tell
            return {}


def _is_rate(name: str) -> bool:
    """Whether a first parameter is a learning rate by its name, such as `eta` or `peak_lr`.

    One that bounds the rate, such as `max_learning_rate` of Polyak's step, is none.
    """
    words = set(name.split("_"))
    called = "lr" in words or {"learning", "rate"} <= words
    return name in FIRST_RATE_NAMES or (called and not words & {"max", "min"})


def as_subject(subject: Any, **declared: Any) -> Subject:
    """Make a subject of a factory or of a transformation; a subject stays what it is."""
    if isinstance(subject, Subject):
        return dataclasses.replace(subject, **declared) if declared else subject
    function = subject
    while isinstance(function, functools.partial):
        function = function.func
    default = "tx" if isinstance(subject, optax.GradientTransformation) else "subject"
    name = declared.pop("name", getattr(function, "__name__", default))
    return Subject(name, subject, **declared)
