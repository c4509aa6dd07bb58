import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gradsmith as gs

SHAPES = {
    "embed/embedding": ((80, 16), "embedding"),
    "wte": ((80, 16), "embedding"),
    "blocks/0/attention/query/kernel": ((16, 16), "matrix"),
    "blocks/0/attention/query/bias": ((16,), "vector"),
    "blocks/0/multi_head_mixer/kernel": ((16, 16), "matrix"),
    "scanned/norm/scale": ((12, 16), "vector"),
    "scanned/up/bias": ((12, 64), "vector"),
    "temperature": ((), "vector"),
    "lm_head/kernel": ((16, 80), "head"),
}


def params():
    flat = {tuple(path.split("/")): jnp.ones(shape) for path, (shape, _) in SHAPES.items()}
    tree = {}
    for path, leaf in flat.items():
        node = tree
        for key in path[:-1]:
            node = node.setdefault(key, {})
        node[path[-1]] = leaf
    return tree


def test_every_leaf_has_the_role_its_name_and_rank_say():
    decided = gs.roles(params())
    assert {path: role.name for path, role in decided.items()} == {
        path: role for path, (_, role) in SHAPES.items()
    }
    assert decided["lm_head/kernel"].why == "named 'lm_head'"
    assert decided["temperature"].why == "rank 0"


def test_what_the_user_says_comes_first():
    overrides = {"query": "vector", "wte": "matrix"}
    decided = gs.roles(params(), overrides=overrides)
    assert decided["blocks/0/attention/query/kernel"] == gs.Role("vector", "you said 'query'")
    assert decided["wte"].name == "matrix"


def test_an_undeclared_leaf_of_rank_three_is_an_error_that_says_both_ways_out():
    tree = {"blocks": {"kernel": jnp.ones((12, 4, 8))}}
    for call in (
        gs.roles,
        gs.muon(0.1).init,
        gs.partition_by_role(optax.sgd(1.0), optax.sgd(1.0)).init,
    ):
        with pytest.raises(
            ValueError, match=r"'blocks/kernel' .* axes=\{'blocks.* roles=\{'blocks"
        ):
            call(tree)
    stacked = lambda path, leaf: gs.MatrixAxes(batch_axis=0)
    assert gs.roles(tree, axes=stacked)["blocks/kernel"].why == "rank 3, axes declared"
    assert gs.roles(tree, overrides={"kernel": "vector"})["blocks/kernel"].name == "vector"


def test_an_unknown_role_is_refused_with_the_list():
    with pytest.raises(ValueError, match=r"roles\['x'\] is 'matrices'; a role is one of matrix"):
        gs.muon(0.1, roles={"x": "matrices"})


def test_partition_sends_hidden_matrices_to_one_and_everything_else_to_the_other():
    tx = gs.partition_by_role(matrices=optax.scale(2.0), others=optax.scale(3.0))
    updates, _ = tx.update(params(), tx.init(params()))
    for path, leaf in jax.tree_util.tree_leaves_with_path(updates):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        expected = 2.0 if SHAPES[name][1] == "matrix" else 3.0
        np.testing.assert_array_equal(leaf, expected, err_msg=name)


def test_a_factory_gets_the_axes_that_were_declared_once():
    axes = {"layers": gs.MatrixAxes(batch_axis=0)}
    tree = {"layers": jnp.ones((3, 2, 4)), "bias": jnp.ones(2)}
    tx = gs.partition_by_role(
        matrices=lambda axes: gs.per_matrix(lambda x: x * x.shape[1], axes=axes),
        others=optax.set_to_zero(),
        axes=axes,
    )
    updates, _ = tx.update(tree, tx.init(tree))
    np.testing.assert_array_equal(updates["layers"], 4.0)
    np.testing.assert_array_equal(updates["bias"], 0.0)


def test_partition_works_with_none_and_masked_leaves_and_inside_masked():
    tree = {"kernel": jnp.ones((2, 3)), "frozen": jnp.ones((4, 4)), "gone": None}
    inner = gs.muon(0.1)
    tx = optax.masked(inner, {"kernel": True, "frozen": False, "gone": None})
    updates, _ = tx.update(tree, tx.init(tree))
    np.testing.assert_array_equal(updates["frozen"], 1.0)
    assert updates["gone"] is None
    assert np.abs(updates["kernel"]).max() < 0.1
