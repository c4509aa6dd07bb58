"""A traced step, and whether two of them do the same.

Two equal programs need not be compiled to be compared. Programs are nested: `jax.jit`, `scan`,
`cond` and custom derivatives hold programs of their own, and each may have captured arrays. All of
them are walked, equation by equation, and every array is compared by its value.
"""

import math
import types
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from jax.extend import core

_TRANSFORMED = ("jvp_jaxpr_fun", "fwd_jaxpr_thunk", "bwd", "jvp_jaxpr_thunk", "out_trees", "rule")
"""Parameters of an equation that say how it is differentiated or batched, not what it computes."""


def same_program(one: core.ClosedJaxpr, other: core.ClosedJaxpr) -> bool:
    """Whether both do the same; False says nothing: what cannot be compared counts as different."""
    return _same_value(one, other)


def equations(program: Any) -> Iterator[core.JaxprEqn]:
    """The equations of a program and of all programs inside it."""
    for equation in _open(program).eqns:
        yield equation
        for value in equation.params.values():
            for inner in _programs_in(value):
                yield from equations(inner)


def captured(program: Any) -> Iterator[Any]:
    """The arrays that a program and the programs inside it have captured."""
    yield from getattr(program, "consts", ())
    for equation in _open(program).eqns:
        for atom in equation.invars:
            if isinstance(atom, core.Literal) and np.ndim(atom.val):
                yield atom.val
        for value in equation.params.values():
            for inner in _programs_in(value):
                yield from captured(inner)


def _open(program: Any) -> core.Jaxpr:
    return program.jaxpr if isinstance(program, core.ClosedJaxpr) else program


def _programs_in(value: Any) -> Iterator[Any]:
    if isinstance(value, core.ClosedJaxpr | core.Jaxpr):
        yield value
    elif isinstance(value, tuple | list):
        for item in value:
            yield from _programs_in(item)


def _same_value(one: Any, other: Any) -> bool:
    """Compare whatever an equation may hold."""
    if one is other:
        return True
    if type(one) is not type(other):
        return False
    if isinstance(one, core.ClosedJaxpr):
        return _all_same(one.consts, other.consts) and _same_jaxpr(one.jaxpr, other.jaxpr)
    if isinstance(one, core.Jaxpr):
        return _same_jaxpr(one, other)
    if isinstance(one, tuple | list):
        return _all_same(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_same_value(one[k], other[k]) for k in one)
    if isinstance(one, jax.Array | np.ndarray | np.generic):
        return _same_array(one, other)
    if isinstance(one, types.FunctionType):
        return one.__code__ is other.__code__ and _same_value(_cells(one), _cells(other))
    if isinstance(one, float) and math.isnan(one):
        return math.isnan(other)
    return bool(one == other)


def _all_same(one: Any, other: Any) -> bool:
    return len(one) == len(other) and all(map(_same_value, one, other))


def _same_array(one: Any, other: Any) -> bool:
    if (one.shape, one.dtype) != (other.shape, other.dtype):
        return False
    if isinstance(one, jax.Array) and jax.numpy.issubdtype(one.dtype, jax.dtypes.prng_key):
        one, other = jax.random.key_data(one), jax.random.key_data(other)
    return np.asarray(one).tobytes() == np.asarray(other).tobytes()


def _cells(function: types.FunctionType) -> list[Any]:
    return [cell.cell_contents for cell in function.__closure__ or ()]


def _same_jaxpr(one: core.Jaxpr, other: core.Jaxpr) -> bool:
    """Compare equation by equation; variables are the same when they were made at one place."""
    names: dict[core.Var, core.Var] = {}

    def bind(these: Any, those: Any) -> bool:
        names.update(zip(these, those, strict=False))
        return len(these) == len(those) and all(
            a.aval == b.aval for a, b in zip(these, those, strict=True)
        )

    def same_atom(a: Any, b: Any) -> bool:
        if isinstance(a, core.Literal) or isinstance(b, core.Literal):
            return type(a) is type(b) and a.aval == b.aval and _same_value(a.val, b.val)
        return names.get(a) is b

    def same_atoms(these: Any, those: Any) -> bool:
        return len(these) == len(those) and all(map(same_atom, these, those))

    def same_equation(a: core.JaxprEqn, b: core.JaxprEqn) -> bool:
        return (
            a.primitive is b.primitive
            and same_atoms(a.invars, b.invars)
            and a.params.keys() == b.params.keys()
            and all(
                key in _TRANSFORMED or _same_value(a.params[key], b.params[key]) for key in a.params
            )
            and bind(a.outvars, b.outvars)
        )

    return (
        bind(one.constvars, other.constvars)
        and bind(one.invars, other.invars)
        and len(one.eqns) == len(other.eqns)
        and all(map(same_equation, one.eqns, other.eqns))
        and same_atoms(one.outvars, other.outvars)
    )
