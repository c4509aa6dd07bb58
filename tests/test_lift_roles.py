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


D, H, K = 8, 2, 4
CONVENTIONS = {
    # NNX and Linen
    "layers_0/attn/query/kernel": ((D, H, K), "matrix", gs.MatrixAxes(0, (1, 2))),
    "layers_0/attn/key/kernel": ((D, 1, K), "matrix", gs.MatrixAxes(0, (1, 2))),
    "layers_0/attn/value/bias": ((1, K), "vector", None),
    "layers_0/attn/out/kernel": ((H, K, D), "matrix", gs.MatrixAxes((0, 1), 2)),
    "Conv_0/kernel": ((3, 3, 2, 8), "matrix", gs.MatrixAxes((0, 1, 2), 3)),
    "Dense_0/kernel": ((4, 8), "matrix", gs.MatrixAxes(0, 1)),
    "Embed_0/embedding": ((9, 4), "embedding", None),
    "pos_embedding": ((1, 9, 4), "embedding", None),
    "lora/lora_a": ((8, 2), "matrix", gs.MatrixAxes(0, 1)),
    "lora/lora_b": ((2, 8), "matrix", gs.MatrixAxes(0, 1)),
    # Equinox
    "blocks/0/mlp/layers/1/weight": ((8, 4), "matrix", gs.MatrixAxes(1, 0)),
    "conv1/weight": ((8, 2, 3, 3), "matrix", gs.MatrixAxes((1, 2, 3), 0)),
    "conv1/bias": ((8, 1, 1), "vector", None),
    "vmapped/ln_1/weight": ((12, 8), "vector", None),
    "embedder/weight": ((9, 4), "embedding", None),
    # Haiku
    "mlp/~/linear_0/w": ((4, 8), "matrix", gs.MatrixAxes(0, 1)),
    "conv2_d/w": ((3, 3, 2, 8), "matrix", gs.MatrixAxes((0, 1, 2), 3)),
    "layer_stack/linear/b": ((12, 8), "vector", None),
    "embed/embeddings": ((9, 4), "embedding", None),
    "layer_norm/offset": ((12, 8), "vector", None),
    # Hugging Face
    "model/embed_tokens/weight": ((9, 4), "embedding", None),
    "model/layers/3/self_attn/q_proj/weight": ((8, 4), "matrix", gs.MatrixAxes(1, 0)),
    "model/layers/3/input_layernorm/weight": ((4,), "vector", None),
    "transformer/wpe/weight": ((9, 4), "embedding", None),
    "encoder/layer/0/attention/self/query/kernel": ((4, 4), "matrix", gs.MatrixAxes(0, 1)),
    "shared/weight": ((9, 4), "embedding", None),
    "lm_head/weight": ((9, 4), "head", None),
    "block_sparse_moe/router/weight": ((4, 8), "head", None),
    # not what they seem
    "embedding_model/layers/0/up/kernel": ((4, 8), "matrix", gs.MatrixAxes(0, 1)),
    "factors/b": ((2, 8), "matrix", gs.MatrixAxes(0, 1)),
    "headed/kernel": ((4, 8), "matrix", gs.MatrixAxes(0, 1)),
}


def test_names_of_every_framework_tell_role_and_axes():
    shapes = {path: shape for path, (shape, _, _) in CONVENTIONS.items()}
    stack = {"layer_stack/linear/w": gs.MatrixAxes(batch_axis=0)}
    decided = gs.roles(tree_of(shapes | {"layer_stack/linear/w": (12, 4, 8)}), axes=stack)
    found = {path: (shapes[path], decided[path].name, decided[path].axes) for path in CONVENTIONS}
    assert found == CONVENTIONS


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
        with pytest.raises(ValueError, match=rf"leaf '{path}' .* axes=\{{'{path}': MatrixAxes"):
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
    sizes = [optax.tree.size(optimizer.init(t)) for optimizer, t in ((tx, tree), (tx, alone))]
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
