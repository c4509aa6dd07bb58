"""An optimizer as a function of what it sees: from parameters and gradients to updates."""

import copy
from collections.abc import Iterable, Mapping
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ..problem import loss
from ..program import equations
from ..subject import Subject
from .ground import Ground

Updates = list[np.ndarray]
"""One array `(T, *shape)` a leaf, in the order of the tree."""
QUICKLY = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
"""Options of the compiler: each of many programs runs a few times."""
ROUNDED = ("mul", "div", "pow", "integer_pow", "sqrt", "rsqrt", "exp", "exp2", "log", "expm1")
"""What rounds a scalar. A counter that is converted, or grows by one, is exact."""


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

    def eps(self, ground: Ground) -> float:
        """Return the eps of the narrowest arrays that it computes with."""
        ...

    def scalar_eps(self, ground: Ground) -> float:
        """Return the eps of the narrowest scalars that it rounds, such as a bias correction."""
        ...


class JaxSide:
    """An Optax transformation; all steps are one compiled scan where it can be scanned."""

    subtracts = False

    def __init__(self, subject: Subject, **overrides: Any):
        self.subject = subject
        self.name = subject.name
        self._overrides = overrides
        self._untraceable: set[str] = set()
        self._programs: dict[tuple, Any] = {}

    @property
    def arguments(self) -> Mapping[str, Any]:
        """The arguments of the factory, defaults included."""
        defaults = {
            name: parameter.default
            for name, parameter in self.subject.parameters.items()
            if parameter.default is not parameter.empty
        }
        return defaults | self.subject.call_arguments | self._overrides

    def built_with(self, name: str, value: Any) -> "JaxSide":
        """Return the same optimizer, built with another argument.

        The two share their programs. A number is an argument of a program where that is possible,
        so one program serves all its values.
        """
        other = copy.copy(self)
        other._overrides = {**self._overrides, name: value}
        return other

    def updates(self, ground: Ground) -> Updates:
        """As `Side.updates`."""
        numbers = self._numbers()
        try:
            out = self._program(numbers)(numbers, ground)
        except (TypeError, ValueError, jax.errors.JAXTypeError):
            if numbers:
                self._untraceable.update(numbers)
                return self.updates(ground)
            out = self._looped(ground)  # a counter of Python's, say
        return _arrays(out)

    def eps(self, ground: Ground) -> float:
        """As `Side.eps`, read from the program; what cannot be traced is taken at its word."""
        return _narrowest(x for _, x in self._made(ground) if x.ndim)

    def scalar_eps(self, ground: Ground) -> float:
        """As `Side.scalar_eps`, read from the program."""
        return _narrowest(x for name, x in self._made(ground) if not x.ndim and name in ROUNDED)

    def _made(self, ground: Ground) -> list[tuple[str, Any]]:
        """Return the arrays that the program makes, each with the name of the operation."""
        try:
            program = self._program({}).trace({}, ground).jaxpr
        except (TypeError, ValueError, jax.errors.JAXTypeError):
            return []
        made = [
            (each.primitive.name, atom.aval) for each in equations(program) for atom in each.outvars
        ]
        return [(name, x) for name, x in made if hasattr(x, "dtype")]

    def _numbers(self) -> dict[str, float]:
        return {
            name: value
            for name, value in self._overrides.items()
            if isinstance(value, float) and name not in self._untraceable
        }

    def _program(self, numbers: Mapping[str, float]) -> Any:
        """Return the compiled scan of all that have the same arguments, but for these numbers."""
        fixed = {name: x for name, x in self._overrides.items() if name not in numbers}
        key = tuple(numbers), tuple((name, type(x), x) for name, x in fixed.items())
        if key not in self._programs:
            build = lambda given: self._build(**fixed, **given)
            scan = lambda given, ground: self._scan(build(given), ground)
            self._programs[key] = jax.jit(scan, compiler_options=QUICKLY)
        return self._programs[key]

    def _build(self, **overrides: Any) -> optax.GradientTransformationExtraArgs:
        return optax.with_extra_args_support(self.subject.build(**overrides))

    def _scan(self, tx: optax.GradientTransformationExtraArgs, ground: Ground) -> Any:
        first = jax.tree.map(lambda x: x[0], ground.params)
        step = lambda state, now: self._step(tx, state, *now)
        return jax.lax.scan(step, tx.init(first), tuple(ground))[1]

    def _looped(self, ground: Ground) -> Any:
        tx = self._build(**self._overrides)
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


def _narrowest(arrays: Iterable[Any]) -> float:
    floats = (x.dtype for x in arrays if jnp.issubdtype(x.dtype, jnp.floating))
    return max((float(jnp.finfo(dtype).eps) for dtype in floats), default=0.0)


def _arrays(tree: Any) -> Updates:
    return [np.asarray(x) for x in jax.tree.leaves(tree)]
