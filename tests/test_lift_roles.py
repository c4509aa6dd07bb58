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


def tree_of(shapes):
    return {path: jnp.ones(shape) for path, shape in shapes.items()}


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
        with pytest.raises(ValueError, match=r"leaf 'blocks/kernel'") as error:
            call(tree)
        assert "axes={\n    'blocks/kernel': MatrixAxes(-2, -1, batch_axis=0)" in str(error.value)
        assert "roles={'blocks/kernel': 'vector'}" in str(error.value)
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


@pytest.mark.parametrize(
    ("path", "shape"),
    [
        ("scanned/query/kernel", (12, 4, 4)),  # no (heads, k, d) beside it: may be (layers, d, n)
        ("conv_transpose/kernel", (3, 3, 2, 8)),  # which side is which depends on the framework
        ("scanned/conv/kernel", (12, 3, 3, 2, 8)),
        ("attn/c_attn/weight", (4, 12)),  # (in, out) in one GPT-2, (out, in) in the other
        ("attn/qkv_proj/weight", (12, 4)),
        ("lstm/weight_ih", (16, 4)),
        ("experts/gate_up_proj", (8, 4, 16)),
    ],
)
def test_what_names_leave_open_is_an_error_that_names_the_leaf(path, shape):
    for call in (gs.roles, gs.muon(0.1).init):
        with pytest.raises(ValueError, match=rf"leaf '{path}'.*\n.*\n *'{path}': MatrixAxes"):
            call(tree_of({path: shape}))


def test_patterns_may_give_axes_and_a_factory_gets_them():
    tree = tree_of({"0/qkv": (4, 12), "1/qkv": (4, 12), "up": (4, 8)})
    seen = []
    rule = optax.stateless(lambda updates, params: seen.append(updates.shape) or updates)
    tx = gs.partition_by_role(
        matrices=lambda axes: gs.per_stack(rule, axes=axes),
        others=optax.identity(),
        roles={"qkv": gs.MatrixAxes(cut_axis=1, blocks=(8, 2, 2))},
    )
    tx.update(tree, tx.init(tree))
    assert sorted(seen) == [(3, 4, 8), (4, 4, 2)]


def test_the_first_word_on_a_leaf_wins_and_a_decided_role_is_for_its_path_alone():
    tree = tree_of({"0/kernel": (2, 2), "10/kernel": (2, 2)})
    decided = {"0/kernel": gs.Role("embedding", "decided")}
    said = gs.roles(tree, overrides=decided)
    assert [role.name for role in said.values()] == ["embedding", "matrix"]
    both = gs.roles(tree, overrides={"kernel": "head", **decided})
    assert [role.name for role in both.values()] == ["head", "head"]
    both = gs.roles(tree, overrides={**decided, "kernel": "head"})
    assert [role.name for role in both.values()] == ["embedding", "head"]


def test_what_roles_returns_may_be_given_to_an_optimizer():
    decided = gs.roles(params())
    tx = gs.partition_by_role(optax.scale(2.0), optax.scale(3.0), roles=decided)
    plain = gs.partition_by_role(optax.scale(2.0), optax.scale(3.0))
    updates, _ = tx.update(params(), tx.init(params()))
    expected, _ = plain.update(params(), plain.init(params()))
    jax.tree.map(np.testing.assert_array_equal, updates, expected)


def test_a_vector_sent_to_a_matrix_rule_is_refused_at_init():
    tx = gs.muon(0.1, roles={"bias": "matrix"})
    with pytest.raises(ValueError, match=r"leaf 'bias' has shape \(3,\), which is no matrix"):
        tx.init({"bias": jnp.ones(3)})


def test_embeddings_and_heads_may_have_optimizers_of_their_own():
    tx = gs.partition_by_role(
        matrices=optax.scale(2.0),
        others=optax.scale(3.0),
        embedding=optax.scale(5.0),
        head=optax.adamw(0.1, weight_decay=0.0),
    )
    with jax.numpy_dtype_promotion("standard"):
        updates, _ = tx.update(params(), tx.init(params()), params())
    expected = {"matrix": 2.0, "vector": 3.0, "embedding": 5.0, "head": -0.1}
    for path, leaf in jax.tree_util.tree_leaves_with_path(updates):
        role = SHAPES[jax.tree_util.keystr(path, simple=True, separator="/")][1]
        np.testing.assert_allclose(leaf, expected[role], rtol=1e-5)


def test_frozen_leaves_are_not_updated_and_have_no_state():
    tree = tree_of({"teacher/kernel": (4, 8), "student/kernel": (4, 8), "teacher/odd": (2, 3, 4)})
    tx = gs.muon(0.1, roles={"teacher": "frozen"})
    updates, _ = tx.update(tree, tx.init(tree))
    for path, update in updates.items():
        assert (np.asarray(update) == 0).all() == path.startswith("teacher"), path
    alone = tree_of({"student/kernel": (4, 8)})
    pairs = ((tx, tree), (gs.muon(0.1), alone))
    sizes = [optax.tree.size(optimizer.init(params)) for optimizer, params in pairs]
    assert sizes[0] == sizes[1]


def test_what_is_no_array_is_left_alone():
    tree = {"kernel": jnp.eye(2), "bias": jnp.ones(2), "activation": jax.nn.relu, "rate": 0.5}
    grads = {"kernel": jnp.eye(2), "bias": jnp.ones(2), "activation": None, "rate": None}
    tx = gs.muon(0.1, weight_decay=0.1, method="svd")
    updates, _ = tx.update(grads, tx.init(tree), tree)
    assert updates["activation"] is updates["rate"] is None
    np.testing.assert_allclose(updates["kernel"], -0.1 * 1.1 * np.eye(2), rtol=1e-5)


def test_partitions_nest():
    tree = params()
    inner = gs.partition_by_role(
        matrices=optax.scale(2.0), others=optax.scale(3.0), roles={"wte": "matrix"}
    )
    tx = gs.partition_by_role(
        matrices=optax.partition({"attention": optax.scale(7.0), "rest": optax.scale(11.0)}, label),
        others=inner,
    )
    updates, _ = tx.update(tree, tx.init(tree))
    attention = updates["blocks"]["0"]["attention"]["query"]
    np.testing.assert_array_equal(attention["kernel"], 7.0)
    np.testing.assert_array_equal(attention["bias"], 3.0)
    np.testing.assert_array_equal(updates["blocks"]["0"]["multi_head_mixer"]["kernel"], 11.0)
    np.testing.assert_array_equal(updates["wte"], 2.0)
    np.testing.assert_array_equal(updates["lm_head"]["kernel"], 3.0)


def label(tree):
    name = lambda path, leaf: "attention" if "attention" in jax.tree_util.keystr(path) else "rest"
    return jax.tree_util.tree_map_with_path(name, tree)


@pytest.mark.parametrize(
    ("patterns", "message"),
    [
        ({"tpyo": "vector"}, r"roles=\{'tpyo': ...\}: .*they have blocks/0"),
        ({"atention": "vector"}, r"did you mean 'attention'\?"),
        ({"lm_head": "head", "mlp/up": gs.MatrixAxes()}, r"roles=\{'mlp/up'"),
        ({"(": "vector"}, r"roles=\{'\(': ...\}: this is no regular expression"),
    ],
)
def test_a_pattern_that_is_found_in_no_path_is_refused(patterns, message):
    with pytest.raises(ValueError, match=message):
        gs.roles(params(), overrides=patterns)
    with pytest.raises(ValueError, match=message):
        gs.muon(0.1, roles=patterns).init(params())


def test_patterns_are_not_judged_by_trees_that_lack_leaves():
    """Optax makes such trees: with no leaves in `tree.map_params`, with masked ones in `masked`."""
    tree = params()
    tx = gs.muon(0.1, roles={"wte": "matrix"})
    state = tx.init(tree)
    doubled = optax.tree.map_params(tx, lambda leaf: 2 * leaf + 1, state)
    assert jax.tree.structure(doubled) == jax.tree.structure(state)
    mask = {key: key != "wte" for key in tree}
    optax.masked(tx, mask).init(tree)
    gs.muon(0.1, roles={"bias": "vector"}).init({"kernel": jnp.ones((2, 2)), "bias": None})


def test_decided_roles_hold_for_a_part_of_the_model():
    decided = gs.roles(params())
    assert list(gs.roles({"wte": params()["wte"]}, overrides=decided)) == ["wte"]


def test_learning_rates_are_scaled_by_pattern_and_the_first_wins():
    tree = params()
    scales = {"lm_head": 0.5, "kernel": np.float32(0.25), "norm|wte": jnp.asarray(2.0)}
    tx = gs.partition_by_role(optax.scale(-1.0), optax.scale(-1.0), lr_scales=scales)
    updates, _ = jax.jit(tx.update)(tree, tx.init(tree))
    expected = {"lm_head/kernel": -0.5, "scanned/norm/scale": -2.0, "wte": -2.0}
    expected |= dict.fromkeys([path for path in SHAPES if "blocks" in path], -0.25)
    for path, leaf in jax.tree_util.tree_leaves_with_path(updates):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        factor = -1.0 if name.endswith("bias") else expected.get(name, -1.0)
        np.testing.assert_array_equal(leaf, np.float32(factor), err_msg=name)


def test_a_scaled_learning_rate_is_that_learning_rate(standard_promotion):
    """With AdamW, whose weight decay goes with its rate; and the dtype of the updates stays."""
    tree = {"head": jnp.full((4, 8), 3.0), "up": jnp.full((4, 8), 3.0, jnp.bfloat16)}
    rated = lambda rate: optax.adamw(rate, weight_decay=0.1)
    scaled = gs.partition_by_role(rated(0.3), rated(0.3), lr_scales={"head|up": 0.1})
    alone = optax.chain(rated(0.03))
    states = scaled.init(tree), alone.init(tree)
    for _ in range(3):
        one, first = scaled.update(tree, states[0], tree)
        other, second = alone.update(tree, states[1], tree)
        states = first, second
        assert one["up"].dtype == other["up"].dtype == jnp.bfloat16
        np.testing.assert_allclose(one["head"], other["head"], rtol=1e-6)
        # Both round to the 8 bits of a bfloat16, the one twice.
        np.testing.assert_allclose(*(jnp.float32(x["up"]) for x in (one, other)), rtol=2**-7)


def test_learning_rate_scales_that_cannot_be_meant_are_refused():
    make = lambda scales: gs.partition_by_role(optax.sgd(1.0), optax.sgd(1.0), lr_scales=scales)
    with pytest.raises(ValueError, match=r"lr_scales\['head'\] is -0.1; a learning rate is at"):
        make({"head": -0.1})
    with pytest.raises(ValueError, match=r"lr_scales=\{'haed': ...\}: .* did you mean 'head'"):
        make({"haed": 0.1}).init({"head": jnp.ones((2, 2))})


def test_describe_shows_scaled_learning_rates_and_remarks_on_vectors_of_rank_two():
    tx = gs.partition_by_role(optax.sgd(1.0), optax.sgd(1.0), lr_scales={"lm_head": 0.1})
    description = gs.describe(tx, params())
    rows = {leaf.path: leaf.optimizer for leaf in description.leaves}
    assert rows["lm_head/kernel"] == "others: stateless, rate x 0.1"
    assert rows["wte"] == "others: stateless"
    (remark,) = description.remarks
    assert remark.startswith(
        "scanned/norm/scale and 1 more: a vector by its name, though of rank 2"
    )
    settled = gs.partition_by_role(optax.sgd(1.0), optax.sgd(1.0), roles={"scanned": "vector"})
    assert gs.describe(settled, params()).remarks == ()
