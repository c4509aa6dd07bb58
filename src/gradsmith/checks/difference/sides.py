"""An optimizer as a function of what it sees: from parameters and gradients to updates."""

import functools
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ..problem import loss
from ..subject import Subject
from .ground import Ground

Updates = list[np.ndarray]
"""One array `(T, *shape)` a leaf, in the order of the tree."""


@runtime_checkable
class Side(Protocol):
    """One of the two optimizers.

    Attributes:
        name: How the report calls it.
        subtracts: Whether its updates are differences of parameters, and as inexact as these.
    """

    name: str
    subtracts: bool

    @property
    def arguments(self) -> Mapping[str, Any]:
        """What it was built with, as far as that is known."""
        ...

    def updates(self, ground: Ground) -> Updates:
        """Return the updates of every step, from a fresh state."""
        ...


class JaxSide:
    """An Optax transformation; all steps are one compiled scan where it can be scanned."""

    subtracts = False

    def __init__(self, subject: Subject, **overrides: Any):
        self.subject = subject
        self.name = subject.name
        self._overrides = overrides
        self._untraceable: set[str] = set()

    @property
    def arguments(self) -> Mapping[str, Any]:
        """The arguments of the factory, defaults included."""
        defaults = {
            name: parameter.default
            for name, parameter in self.subject.parameters.items()
            if parameter.default is not parameter.empty
        }
        return defaults | self.subject.call_arguments | self._overrides

    def updates_with(self, name: str, value: Any, ground: Ground) -> Updates:
        """Return the updates of the same optimizer, built with another argument.

        A number is traced where that is possible, so that one program serves all its values.
        """
        if isinstance(value, float) and name not in self._untraceable:
            try:
                return _arrays(self._with_number(name)(value, ground))
            except (TypeError, ValueError, jax.errors.JAXTypeError):
                self._untraceable.add(name)
        return self.built_with(name, value).updates(ground)

    @functools.lru_cache(maxsize=None, typed=True)  # noqa: B019  (as below: its program is kept)
    def built_with(self, name: str, value: Any) -> "JaxSide":
        """Return the same optimizer, built with another argument."""
        return JaxSide(self.subject, **{**self._overrides, name: value})

    def updates(self, ground: Ground) -> Updates:
        """As `Side.updates`."""
        try:
            out = self._scanned(ground)
        except (TypeError, jax.errors.JAXTypeError):  # a counter of Python's, say
            out = self._looped(ground)
        return _arrays(out)

    def _build(self, **overrides: Any) -> optax.GradientTransformationExtraArgs:
        return optax.with_extra_args_support(self.subject.build(**self._overrides, **overrides))

    @functools.cached_property
    def _scanned(self) -> Any:
        return jax.jit(lambda ground: self._scan(self._build(), ground))

    @functools.cache  # noqa: B019  (a side lives as long as one comparison)
    def _with_number(self, name: str) -> Any:
        return jax.jit(lambda value, ground: self._scan(self._build(**{name: value}), ground))

    def _scan(self, tx: optax.GradientTransformationExtraArgs, ground: Ground) -> Any:
        first = jax.tree.map(lambda x: x[0], ground.params)
        step = lambda state, now: self._step(tx, state, *now)
        return jax.lax.scan(step, tx.init(first), tuple(ground))[1]

    def _looped(self, ground: Ground) -> Any:
        tx = self._build()
        at = lambda t: jax.tree.map(lambda x: jnp.asarray(x[t]), tuple(ground))
        state, outs = tx.init(at(0)[0]), []
        for t in range(ground.steps):
            state, out = self._step(tx, state, *at(t))
            outs.append(out)
        return jax.tree.map(lambda *each: np.stack(each), *outs)

    def _step(
        self, tx: optax.GradientTransformationExtraArgs, state: Any, params: Any, grads: Any
    ) -> tuple[Any, Any]:
        extra = self.subject.extra_args
        given = {} if extra is None else dict(extra(loss, params, grads))
        updates, state = tx.update(grads, state, params, **given)
        return state, jax.tree.map(lambda u, p: u.astype(p.dtype), updates, params)


def _arrays(tree: Any) -> Updates:
    return [np.asarray(x) for x in jax.tree.leaves(tree)]
