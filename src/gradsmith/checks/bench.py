"""The workbench: what the checks of one subject share, each thing made once, when first asked for.

The problem is a bowl, `loss(p) = sum((p - target)^2) / 2`, small enough that a step compiles in
tenths of a second. Its gradient is computed by numpy, so nothing of the subject is in the oracle.
"""

import functools
import re
import weakref
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from .subject import Subject
from .verdicts import CheckFailure, NotApplicable, Result

PyTree = Any
STEPS = 3


class Step(NamedTuple):
    """One step as it was taken: what went in and what came out."""

    grads: PyTree
    state: PyTree
    params: PyTree
    updates: PyTree
    new_state: PyTree


class Program(NamedTuple):
    """A traced step: its text without addresses, the constants it captured, and itself."""

    text: str
    consts: tuple[np.ndarray, ...]
    closed: Any

    def same_as(self, other: "Program") -> bool:
        """Whether both do the same; False says nothing."""
        return (
            self.text == other.text
            and len(self.consts) == len(other.consts)
            and all(map(np.array_equal, self.consts, other.consts))
        )


class Bench:
    """One subject, its small problem, and its shared compiled step."""

    def __init__(self, subject: Subject):
        self.subject = subject
        self.results: dict[str, Result] = {}
        self.memory: dict[str, Any] = {}  # what one check leaves for its neighbours
        self.traces = 0

    # The subject.

    @functools.cached_property
    def tx(self) -> Any:
        """One instance, which most checks share."""
        return self.subject.build()

    def update(self, grads: PyTree, state: PyTree, params: PyTree, tx: Any = None) -> Any:
        """Call `update` with the extra arguments that the subject wants; may be traced."""
        tx = self.tx if tx is None else tx
        if self.subject.extra_args is None:
            return tx.update(grads, state, params)
        extra = self.extra_args(params, grads)
        return optax.with_extra_args_support(tx).update(grads, state, params, **extra)

    def extra_args(self, params: PyTree, grads: PyTree) -> dict[str, Any]:
        """The extra arguments that the subject wants, none for most."""
        if self.subject.extra_args is None:
            return {}
        return dict(self.subject.extra_args(loss, params, grads))

    @functools.cached_property
    def step(self) -> Any:
        """The compiled `update(grads, state, params)`; it counts how often it is traced."""

        def step(grads, state, params):
            self.traces += 1
            return self.update(grads, state, params)

        return jax.jit(step)

    # The problem.

    @functools.cached_property
    def params(self) -> PyTree:
        """Float32 parameters on the device: the subject's own, or a matrix and a bias."""
        if self.subject.params is not None:
            return jax.tree.map(jnp.asarray, self.subject.params)
        return sample({"layer": {"bias": (3,), "kernel": (4, 3)}})

    @functools.cached_property
    def grads(self) -> PyTree:
        """The gradient at `params`."""
        return gradient(self.params)

    @property
    def state(self) -> PyTree:
        """A fresh state of the shared instance for `params`."""
        return self.tx.init(self.params)

    @functools.cached_property
    def trajectory(self) -> tuple[Step, ...]:
        """Three steps down the bowl with the shared compiled step; the basis of comparisons."""
        return self.walk(self.params, self.state)

    def walk(self, params: PyTree, state: PyTree, steps: int = STEPS) -> tuple[Step, ...]:
        """Take some steps with the compiled step."""
        taken = []
        for _ in range(steps):
            grads = gradient(params)
            updates, new_state = self.step(grads, state, params)
            taken.append(Step(grads, state, params, updates, new_state))
            params, state = optax.apply_updates(params, updates), new_state
        return tuple(taken)

    def program(self, *args: PyTree, tx: Any = None) -> "Program":
        """What `update` does, as text: two equal programs need not be compiled to be compared."""
        closed = jax.make_jaxpr(lambda g, s, p: self.update(g, s, p, tx=tx))(*args)
        text = re.sub(r"0x[0-9a-f]+", "", str(closed.jaxpr))
        return Program(text, tuple(host(const) for const in closed.consts), closed)

    def require_own_trees(self) -> None:
        """Skip a check that would feed the subject other trees than the one it asked for."""
        if self.subject.params is not None:
            raise NotApplicable("the subject is checked on parameters of its own")

    def two_steps(self, params: PyTree, tx: Any = None) -> tuple[PyTree, PyTree]:
        """Compile and take two steps from a fresh state; the updates and the state at the end."""
        tx = self.tx if tx is None else tx
        grads, state = gradient(params), tx.init(params)

        @jax.jit
        def run(grads, state, params):
            _, state = self.update(grads, state, params, tx=tx)
            return self.update(grads, state, params, tx=tx)

        return run(grads, state, params)


_BENCHES: weakref.WeakKeyDictionary[Subject, Bench] = weakref.WeakKeyDictionary()


def bench_of(subject: Subject) -> Bench:
    """The workbench of a subject, kept while the subject lives."""
    if subject not in _BENCHES:
        _BENCHES[subject] = Bench(subject)
    return _BENCHES[subject]


# The problem.


def sample(shapes: Any, seed: int = 0, dtype: Any = np.float32) -> PyTree:
    """Normal arrays in the tree of `shapes`, whose leaves are tuples of integers."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda shape: jnp.asarray(rng.standard_normal(shape).astype(dtype)),
        shapes,
        is_leaf=_is_shape,
    )


def gradient(params: PyTree) -> PyTree:
    """The gradient of `loss` at concrete `params`, with their dtypes."""
    return jax.tree.map(
        lambda p: jnp.asarray((np.asarray(p) - _target(p, np)).astype(p.dtype)), params
    )


def loss(params: PyTree) -> jax.Array:
    """Half the squared distance of `params` to the target; traceable."""
    squares = [
        jnp.sum(jnp.square(p.astype(jnp.float32) - _target(p, jnp)))
        for p in jax.tree.leaves(params)
    ]
    return 0.5 * sum(squares, jnp.zeros((), jnp.float32))


def cast(tree: PyTree, dtype: Any) -> PyTree:
    """Convert the floating leaves."""
    return jax.tree.map(lambda x: x.astype(dtype) if is_float(x) else x, tree)


def is_float(x: Any) -> bool:
    """Whether `x` is an array of real floating numbers, bfloat16 included."""
    return hasattr(x, "dtype") and jnp.issubdtype(x.dtype, jnp.floating)


def _target(p: Any, lib: Any) -> Any:
    """Where the bowl is lowest: away from zero, no two entries alike, and no constant array."""
    return lib.reshape(1 + 0.5 * lib.sin(lib.arange(p.size, dtype=np.float32)), p.shape)


def _is_shape(x: Any) -> bool:
    return isinstance(x, tuple) and all(isinstance(n, int) for n in x)


def param_leaves(tx: Any, state: PyTree) -> set[int]:
    """The ids of the leaves of `state` that `optax.tree.map_params` takes for parameters'."""
    visited: set[int] = set()

    def visit(leaf: Any) -> Any:
        visited.add(id(leaf))
        return leaf

    optax.tree.map_params(tx, visit, state)
    return visited


def mirrors(state: PyTree, params: PyTree) -> list[tuple[tuple, PyTree]]:
    """The parts of `state` with the tree and the shapes of the parameters, and where they are."""
    wanted = jax.tree.structure(params)
    shapes = [jnp.shape(p) for p in jax.tree.leaves(params)]

    def like_params(tree: Any) -> bool:
        leaves, structure = jax.tree.flatten(tree)
        return structure == wanted and [jnp.shape(x) for x in leaves] == shapes

    parts = jax.tree_util.tree_leaves_with_path(state, is_leaf=like_params)
    return [(path, part) for path, part in parts if like_params(part)]


# Comparisons. Each names the leaf and both values.


def fail_if_unlike(what: str, seen: PyTree, like: PyTree, like_what: str, **advice: str) -> None:
    """Compare structure, shapes and dtypes."""
    fail_if_structure_differs(what, seen, like, like_what, **advice)
    for (path, a), b in zip(
        jax.tree_util.tree_leaves_with_path(seen), jax.tree.leaves(like), strict=True
    ):
        if (jnp.shape(a), jnp.result_type(a)) != (jnp.shape(b), jnp.result_type(b)):
            raise CheckFailure(
                f"{what} at {at(path)} is {short(a)}; {like_what} is {short(b)}", **advice
            )


def fail_if_structure_differs(
    what: str, seen: PyTree, like: PyTree, like_what: str, **advice: str
) -> None:
    """Compare the trees without their leaves."""
    a, b = jax.tree.structure(seen), jax.tree.structure(like)
    if a != b:
        raise CheckFailure(f"{what} has the tree\n  {a}\n{like_what} has\n  {b}", **advice)


def fail_if_not_finite(what: str, tree: PyTree, **advice: str) -> None:
    """Look for NaN and infinity in the floating leaves."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if not hasattr(leaf, "dtype") or not jnp.issubdtype(leaf.dtype, jnp.inexact):
            continue
        values = np.asarray(leaf)
        bad = values[~np.isfinite(values.astype(np.complex128))]
        if bad.size:
            raise CheckFailure(
                f"{what} at {at(path)} has {bad.size} of {values.size} values not finite, "
                f"the first {bad.flat[0]}",
                **advice,
            )


def fail_if_types_differ(
    what: str, seen: PyTree, like: PyTree, like_what: str, **advice: str
) -> None:
    """Compare structure, shapes, dtypes and weak types."""
    seen, like = type_of(seen), type_of(like)
    fail_if_unlike(what, seen, like, like_what, **advice)
    for (path, a), b in zip(
        jax.tree_util.tree_leaves_with_path(seen), jax.tree.leaves(like), strict=True
    ):
        if a.weak_type != b.weak_type:
            raise CheckFailure(
                f"{what} at {at(path)} is {short(a)}; {like_what} is {short(b)}", **advice
            )


def fail_if_far(
    what: str, seen: PyTree, like: PyTree, like_what: str, rtol: float, **advice: str
) -> None:
    """Compare values, relative to the largest of each leaf; `rtol=0` asks for the same bits.

    Otherwise 1e-6 is forgiven: the parameters have size one, and an update may be the difference
    of two of them, so that it carries their rounding.
    """
    fail_if_unlike(what, seen, like, like_what, **advice)
    for (path, a), b in zip(
        jax.tree_util.tree_leaves_with_path(seen), jax.tree.leaves(like), strict=True
    ):
        x, y = host(a), host(b)
        if rtol == 0:
            close = np.array_equal(x, y, equal_nan=x.dtype.kind in "fc")
        else:
            scale = np.max(np.abs(y), initial=0.0)
            close = bool(np.all(np.abs(x - y) <= max(rtol * scale, 1e-6))) or np.array_equal(x, y)
        if not close:
            where = np.unravel_index(np.argmax(np.abs(np.nan_to_num(x - y, nan=np.inf))), x.shape)
            index = f"[{', '.join(map(str, where))}]" if where else ""
            raise CheckFailure(
                f"{what} at {at(path)}{index} is {x[where]:.6g}; {like_what} is {y[where]:.6g}",
                **advice,
            )


def host(leaf: Any) -> np.ndarray:
    """A leaf as numbers of numpy: keys as their bits, low precision as float64."""
    if hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    values = np.asarray(leaf)
    if values.dtype.kind in "iub":
        return values.astype(np.float64)
    return values.astype(np.complex128 if values.dtype.kind == "c" else np.float64)


def at(path: tuple) -> str:
    """The path of a leaf, `['layer']['kernel']`; for a bare array `(the array itself)`."""
    return jax.tree_util.keystr(path) or "(the array itself)"


def short(leaf: Any) -> str:
    """Dtype and shape, `float32[4,3]`; a Python value as it is written."""
    if not hasattr(leaf, "dtype"):
        return f"{leaf!r} ({type(leaf).__name__})"
    weak = " (weak type)" if getattr(leaf, "weak_type", False) else ""
    return f"{leaf.dtype}[{','.join(map(str, leaf.shape))}]{weak}"


def type_of(tree: PyTree) -> PyTree:
    """Shapes, dtypes and weak types of the leaves of a concrete tree."""
    return jax.tree.map(_aval, tree)


def _aval(leaf: Any) -> jax.ShapeDtypeStruct:
    aval = leaf if isinstance(leaf, jax.ShapeDtypeStruct) else jax.typeof(leaf)
    return jax.ShapeDtypeStruct(aval.shape, aval.dtype, weak_type=aval.weak_type)
