"""Saving the state and going on from it."""

import pickle
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from ..bench import Bench
from ..check import check
from ..compare import fail_if_far, fail_if_types_differ
from ..verdicts import NotApplicable

_NEEDS = ("core_runs", "state_stable", "state_leaves_are_arrays", "no_recompile")


def _fail_if_restored_differs(bench: Bench, restore: Callable[[Any, Any], Any]) -> None:
    """Save after one step, restore into a fresh state, take the second step with both."""
    second = bench.trajectory[1]
    restored = restore(second.state, bench.state)
    fail_if_types_differ("the restored state", restored, second.state, "the saved one")
    fail_if_far("the restored state", restored, second.state, "the saved one", rtol=0.0)
    updates, state = bench.step(second.grads, restored, second.params)
    fail_if_far("the next update", updates, second.updates, "of an unbroken run", rtol=0.0)
    fail_if_far("the next state", state, second.new_state, "of an unbroken run", rtol=0.0)


@check(
    tier="advisory",  # Flax knows no dataclass, and a state in one is no fault
    requires=("flax",),
    needs=_NEEDS,
    call="import flax.serialization as f; r = f.from_bytes(s, f.to_bytes(s)); "
    "print(jax.tree.map(lambda x, y: bool(jnp.all(x == y)), r, s))",
    cause="the state holds a container that Flax cannot name (a dataclass or another class of "
    "one's own, an OrderedDict)",
    change="build the state from NamedTuples, dicts, lists and arrays",
)
def check_flax_msgpack(bench: Bench) -> None:
    """A state saved by flax.serialization and restored goes on bit for bit."""
    import flax.serialization

    if any(jnp.issubdtype(x.dtype, jax.dtypes.prng_key) for x in jax.tree.leaves(bench.state)):
        raise NotApplicable("Flax writes no typed PRNG key; keep jax.random.key_data(key)")

    def restore(state: Any, like: Any) -> Any:
        bytes_ = flax.serialization.to_bytes(state)
        restored = flax.serialization.from_bytes(like, bytes_)
        return jax.tree.map(jnp.asarray, restored)

    _fail_if_restored_differs(bench, restore)


@check(
    requires=("orbax",),
    needs=_NEEDS,
    call="import tempfile, orbax.checkpoint as o; "
    "c = o.Checkpointer(o.StandardCheckpointHandler()); f = tempfile.mkdtemp() + '/state'; "
    "c.save(f, args=o.args.StandardSave([s])); "
    "print(c.restore(f, args=o.args.StandardRestore([s]))); c.close()",
    cause="the state holds arrays of size zero, or leaves that are no arrays",
    change="put None or optax.MaskedNode() where there is nothing to keep",
)
def check_orbax(bench: Bench) -> None:
    """A state saved by Orbax and restored goes on bit for bit."""
    import orbax.checkpoint as orbax

    if not jax.tree.leaves(bench.state):
        return

    def restore(state: Any, like: Any) -> Any:
        with (
            tempfile.TemporaryDirectory() as folder,
            # Not the asynchronous one: its thread outlives it where a save fails.
            orbax.Checkpointer(orbax.StandardCheckpointHandler()) as checkpointer,
        ):
            path = Path(folder) / "state"
            # In a dict, as a state may be one array.
            checkpointer.save(path, args=orbax.args.StandardSave({"state": state}))
            shape = orbax.args.StandardRestore({"state": like})
            return checkpointer.restore(path, args=shape)["state"]

    _fail_if_restored_differs(bench, restore)


@check(
    tier="advisory",
    needs=_NEEDS,
    call="import pickle; print(pickle.loads(pickle.dumps(s)))",
    cause="the class of the state is defined inside a function",
    change="define it at the top of the module",
)
def check_pickle(bench: Bench) -> None:
    """A state pickled and restored goes on bit for bit."""
    _fail_if_restored_differs(bench, lambda state, like: pickle.loads(pickle.dumps(state)))
