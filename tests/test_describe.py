import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gradsmith as gs


def params():
    return {
        "embedding": jnp.zeros((80, 16)),
        "blocks": jnp.zeros((12, 16, 64)),
        "up": jnp.zeros((16, 64)),
        "norm": jnp.zeros(16),
    }


MUON = gs.muon(0.02, axes={"blocks": gs.MatrixAxes(batch_axis=0)})


def test_every_leaf_says_role_reason_axes_bucket_and_optimizer():
    rows = {leaf.path: leaf for leaf in gs.describe(MUON, params()).leaves}
    blocks = rows["blocks"]
    assert (blocks.role, blocks.why) == ("matrix", "rank 3, axes declared")
    assert (blocks.axes, blocks.buckets) == ("stack 0, in 1, out 2", ("13x16x16 float32",))
    assert blocks.optimizer == "matrices: momentum, stack"
    assert rows["up"].buckets == blocks.buckets
    assert rows["embedding"].optimizer == "others: adam"
    assert rows["norm"].why == "rank 1"


@pytest.mark.parametrize(
    "tx",
    [
        MUON,
        optax.adam(0.1),
        optax.adafactor(0.1),
        optax.MultiSteps(MUON, 4).gradient_transformation(),
        optax.partition(
            {"a": optax.sgd(0.1, 0.9), "b": optax.adam(0.1)},
            lambda p: {name: "a" if leaf.ndim == 2 else "b" for name, leaf in p.items()},
        ),
    ],
    ids=["muon", "adam", "adafactor", "multi_steps", "partition"],
)
def test_the_bytes_of_all_leaves_and_of_none_are_the_state(tx):
    with jax.numpy_dtype_promotion("standard"):
        description = gs.describe(tx, params())
        state = tx.init(params())
    described = sum(leaf.state_bytes for leaf in description.leaves)
    assert described + description.shared_state_bytes == optax.tree.size(state) * 4


def test_a_rules_state_is_shared_out_by_the_matrices_of_each_leaf():
    tx = gs.per_stack(optax.trace(0.9), axes={"blocks": gs.MatrixAxes(batch_axis=0)})
    tree = {"blocks": jnp.zeros((12, 16, 64)), "up": jnp.zeros((16, 64))}
    held = {leaf.path: leaf.state_bytes for leaf in gs.describe(tx, tree).leaves}
    assert held == {"blocks": 12 * 16 * 64 * 4, "up": 16 * 64 * 4}


def test_shapes_are_enough():
    abstract = jax.eval_shape(params)
    assert gs.describe(MUON, abstract) == gs.describe(MUON, params())
    huge = {"blocks": jax.ShapeDtypeStruct((80, 8192, 28672), jnp.bfloat16)}
    assert gs.describe(MUON, huge).leaves[0].state_bytes == 80 * 8192 * 28672 * 4


def test_the_table_shows_what_the_data_say():
    description = gs.describe(MUON, params())
    printed = str(description)
    for leaf in description.leaves:
        (line,) = [line for line in printed.splitlines() if f" {leaf.path} " in line]
        for field in (leaf.role, leaf.why, leaf.axes, *leaf.buckets, leaf.optimizer):
            assert field in line
    assert f"4 leaves, {80 * 16 + 13 * 16 * 64 + 16:,} parameters, 1 buckets" in printed


def test_json_round_trips():
    data = json.loads(gs.describe(MUON, params()).to_json())
    assert [leaf["path"] for leaf in data["leaves"]] == ["blocks", "embedding", "norm", "up"]


def test_describe_leaves_nothing_behind():
    first = gs.describe(MUON, params())
    MUON.init({"other": jnp.zeros((2, 2)), "blocks": jnp.zeros((1, 2, 2))})
    assert gs.describe(MUON, params()) == first


def test_one_array_is_a_tree():
    (leaf,) = gs.describe(optax.adam(0.1), np.zeros((2, 3), np.float32)).leaves
    assert (leaf.path, leaf.optimizer, leaf.state_bytes) == (
        "",
        "adam",
        48 + 4,
    )  # with one leaf, the counter is its own
