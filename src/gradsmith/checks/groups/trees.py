"""Parameter trees with unusual leaves and unusual containers.

The cases that every optimizer should take are run fused, as one tree and one compilation; only
when that fails is each run alone, to find which it was.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from ..bench import Bench
from ..check import check
from ..compare import fail_if_not_finite, fail_if_structure_differs, fail_if_unlike
from ..problem import STANDARD, gradient, sample
from ..program import same_program
from ..steps import fail_if_step_differs
from ..verdicts import CheckFailure

_NEEDS = ("core_runs", "updates_like_params", "zero_grads")


class _Pair(NamedTuple):
    first: Any
    second: Any


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class _Layer:
    kernel: Any
    bias: Any


_CASES: dict[str, Callable[[], Any]] = {
    "none_leaf": lambda: sample({"kernel": (4, 3)}) | {"frozen": None},
    "masknode_leaf": lambda: sample({"kernel": (4, 3)}) | {"masked": optax.MaskedNode()},
    "scalar_leaf": lambda: sample({"kernel": (4, 3), "scale": ()}),
    "singleton_dims": lambda: sample({"a": (1,), "b": (1, 1), "c": (1, 5), "d": (5, 1)}),
    "containers": lambda: _Pair(
        [sample((4, 3)), (sample((3,)),)], _Layer(sample((4, 3)), {"deep": sample((3,))})
    ),
}


def _run_case(bench: Bench, name: str) -> None:
    """Pass at once when the fused tree did; else run this case alone."""
    bench.require_own_trees()
    if "fused" not in bench.memory:
        left_out = {"containers"} if "by_name" in bench.subject.traits else set()
        fused = {case: make() for case, make in _CASES.items() if case not in left_out}
        try:
            _fail_if_tree_breaks(bench, fused)
            bench.memory["fused"] = True
        except Exception:
            bench.memory["fused"] = False
    if not bench.memory["fused"]:
        _fail_if_tree_breaks(bench, _CASES[name]())


def _fail_if_tree_breaks(bench: Bench, params: Any) -> None:
    updates, state = bench.two_steps()(gradient(params), bench.tx.init(params), params)
    fail_if_unlike("the update", updates, params, "the parameter")
    fail_if_not_finite("the update", updates)
    fail_if_not_finite("the state", state)


@check(
    needs=_NEEDS,
    call='p = {"w": jnp.ones((4, 3)), "b": None}; s = tx.init(p); print(tx.update(p, s, p)[0])',
    cause="leaves are visited with is_leaf=lambda x: x is None, or the tree is flattened by hand; "
    "equinox models and frozen parameters bring None",
    change="visit leaves with jax.tree.map alone: it passes over None",
)
def check_none_leaf(bench: Bench) -> None:
    """A None among the parameters stays None in the updates."""
    _run_case(bench, "none_leaf")


@check(
    needs=_NEEDS,
    call='p = {"w": jnp.ones((4, 3)), "m": optax.MaskedNode()}; s = tx.init(p); '
    "print(tx.update(p, s, p)[0])",
    cause="leaves are visited with an is_leaf that stops at every tuple: a MaskedNode is an empty "
    "tuple, and optax.masked and optax.partition bring it",
    change="visit leaves with jax.tree.map alone: it passes over optax.MaskedNode()",
)
def check_masknode_leaf(bench: Bench) -> None:
    """An `optax.MaskedNode()` among the parameters stays in the updates."""
    _run_case(bench, "masknode_leaf")


@check(
    needs=_NEEDS,
    call='p = {"w": jnp.ones((4, 3)), "a": jnp.ones(())}; s = tx.init(p); '
    "print(tx.update(p, s, p)[0])",
    cause="x.shape[0], a norm over axis 0 or a reshape that assumes one dimension at least",
    change="guard by x.ndim, or use jnp.atleast_1d and reshape back to x.shape",
)
def check_scalar_leaf(bench: Bench) -> None:
    """A parameter of shape () gets an update of shape ()."""
    _run_case(bench, "scalar_leaf")


@check(
    needs=_NEEDS,
    call='p = {"a": jnp.ones((1, 1)), "b": jnp.ones((1, 5))}; s = tx.init(p); '
    "print(tx.update(p, s, p)[0])",
    cause="jnp.squeeze, a variance of one number, or a division by n - 1",
    change="name the axes that are reduced, and keep their dimensions (keepdims=True)",
)
def check_singleton_dims(bench: Bench) -> None:
    """Leaves of shapes (1,), (1, 1), (1, 5) and (5, 1) get finite updates of their shape."""
    _run_case(bench, "singleton_dims")


@check(
    unless=("by_name",),
    needs=_NEEDS,
    call="p = [jnp.ones((4, 3)), (jnp.ones(3),)]; s = tx.init(p); print(tx.update(p, s, p)[0])",
    cause="the code asks for a dict (params.items(), params['kernel']), or takes a tuple for a "
    "leaf",
    change="visit trees with jax.tree.map or jax.tree_util.tree_map_with_path; if leaves are "
    "chosen by their name, declare the trait by_name",
)
def check_containers(bench: Bench) -> None:
    """Lists, tuples, NamedTuples and dataclasses of parameters are kept."""
    _run_case(bench, "containers")


@check(
    unless=("by_name",),
    needs=_NEEDS,
    call="p = jnp.ones((4, 3)); s = tx.init(p); print(tx.update(p, s, p)[0])",
    cause="the code asks for a dict, or for a path that is not empty",
    change="visit trees with jax.tree.map, which takes an array as a tree of one leaf; if leaves "
    "are chosen by their name, declare the trait by_name",
)
def check_bare_array(bench: Bench) -> None:
    """The parameters may be one array."""
    bench.require_own_trees()
    _fail_if_tree_breaks(bench, sample((4, 3)))


@check(
    needs=_NEEDS,
    call='p = {"conv": jnp.ones((3, 3, 2, 4)), "stack": jnp.ones((2, 4, 3))}; s = tx.init(p); '
    "print(tx.update(p, s, p)[0])",
    cause="`x @ x.T` or a shape unpacked as two numbers meets a convolution or stacked layers, or "
    "such a leaf is refused without a ValueError",
    change="guard by x.ndim == 2, or raise a ValueError that names the leaf and says what to do",
)
def check_rank34(bench: Bench) -> None:
    """Leaves of rank 3 and 4 get finite updates, or a ValueError that names the leaf."""
    bench.require_own_trees()
    params = sample({"conv": (3, 3, 2, 4), "stack": (2, 4, 3)})
    try:
        _fail_if_tree_breaks(bench, params)
    except ValueError as error:
        if "conv" not in str(error) and "stack" not in str(error):
            raise


@check(
    tier="advisory",
    needs=_NEEDS,
    call='p = {"w": jnp.ones((4, 3)), "e": jnp.ones((0, 3))}; s = tx.init(p); '
    "print(tx.update(p, s, p)[0])",
    cause="a mean or maximum over nothing, or a division by x.size",
    change="pass leaves with x.size == 0 through",
)
def check_zero_size_leaf(bench: Bench) -> None:
    """A leaf of shape (0, 3) is kept, and the others stay finite."""
    bench.require_own_trees()
    _fail_if_tree_breaks(bench, sample({"kernel": (4, 3), "empty": (0, 3)}))


@check(
    phase="abstract",
    tier="advisory",
    call="p = {}; s = tx.init(p); print(tx.update(p, s, p)[0])",
    cause="max(), jnp.stack or functools.reduce over the leaves, of which there are none",
    change="give the reduction its initial value",
)
def check_empty_tree(bench: Bench) -> None:
    """A tree without leaves works: a partition may be left with one."""
    bench.require_own_trees()
    updates, _ = jax.eval_shape(lambda: bench.update({}, bench.tx.init({}), {}))
    fail_if_structure_differs("the update", updates, {}, "the parameters")


@check(
    needs=("core_runs", "pure"),
    phase="abstract",
    unless=("by_name",),
    call='p = {"kernel": jnp.ones((4, 3)), "bias": jnp.ones(3)}; q = [p["bias"], p["kernel"]]; '
    "print(tx.update(p, tx.init(p), p)[0], tx.update(q, tx.init(q), q)[0])",
    cause="leaves are chosen by their name, or by the type of the container they stand in",
    change="choose by shape, or take a function of (path, leaf) as an argument; if names are meant "
    "to matter, declare the trait by_name",
)
def check_container_invariance(bench: Bench) -> None:
    """The same leaves in a list, or under other names, get the same updates."""
    bench.require_own_trees()
    plain = sample(STANDARD)
    bias, kernel = jax.tree.leaves(plain)
    given = (gradient(plain), bench.tx.init(plain), plain)
    base = bench.program(*given)
    for params in ({"a": bias, "b": {"c": kernel}}, [[bias], kernel]):
        grads, state = gradient(params), bench.tx.init(params)
        if same_program(bench.program(grads, state, params), base):
            continue
        fail_if_step_differs(
            f"{jax.tree.structure(params)}",
            _leaves(bench.update(grads, state, params)),
            _leaves(bench.update(*given)),
            f"{jax.tree.structure(plain)}",
            1e-6,
            lambda *given: _leaves(bench.update(*given)),
            *given,
        )


def _leaves(result: Any) -> tuple[list[Any], list[Any]]:
    updates, state = result
    return jax.tree.leaves(updates), jax.tree.leaves(state)


@check(
    needs=("core_runs", "updates_like_params", "masknode_leaf"),
    call='m = optax.masked(tx, {"layer": {"bias": False, "kernel": True}}); '
    "print(m.update(p, m.init(p), p)[0])",
    cause="`update` pairs leaves by position, asks a leaf that is masked, or keeps a mask of its "
    "own from `init`",
    change="visit updates, state and params together, with one jax.tree.map",
)
def check_masked(bench: Bench) -> None:
    """Under `optax.masked` the masked leaf is returned unchanged, and the rest is finite."""
    bench.require_own_trees()
    params = sample({"bias": (3,), "kernel": (4, 3)})
    tx = optax.masked(bench.tx, {"bias": False, "kernel": True})
    updates, _ = bench.two_steps(tx)(gradient(params), tx.init(params), params)
    fail_if_unlike("the update", updates, params, "the parameter")
    fail_if_not_finite("the update", updates)
    grad = gradient(params)["bias"]
    if not bool(jnp.array_equal(updates["bias"], grad)):
        raise CheckFailure(f"the update at ['bias'] is {updates['bias']}; its gradient is {grad}")


@check(
    needs=("core_runs", "updates_like_params", "masknode_leaf"),
    call='labels = {"layer": {"bias": "f", "kernel": "t"}}; '
    'm = optax.partition({"t": tx, "f": optax.set_to_zero()}, labels); '
    "print(m.update(p, m.init(p), p)[0])",
    cause="`update` pairs leaves by position, or asks params for leaves that are masked",
    change="visit updates, state and params together, with one jax.tree.map",
)
def check_partition(bench: Bench) -> None:
    """Under `optax.partition` a frozen leaf does not move, and the rest is finite."""
    bench.require_own_trees()
    params = sample({"bias": (3,), "kernel": (4, 3)})
    tx = optax.partition(
        {"train": bench.tx, "freeze": optax.set_to_zero()}, {"bias": "freeze", "kernel": "train"}
    )
    updates, _ = bench.two_steps(tx)(gradient(params), tx.init(params), params)
    fail_if_unlike("the update", updates, params, "the parameter")
    fail_if_not_finite("the update", updates)
    if bool(jnp.any(updates["bias"] != 0)):
        raise CheckFailure(f"the update of the frozen ['bias'] is {updates['bias']}, not zero")
