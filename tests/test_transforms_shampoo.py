"""Shampoo, grafting and blocks, against closed forms and a float64 NumPy loop over one matrix."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from matrix_oracles import gaussian, polar, unchecked_annotations

import gradsmith as gs

TINY = 1e-13  # a ridge: what is left of the closed form is about TINY / 4 times the condition


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def updates_of(rule, stacks):
    state, update, out = rule.init(jnp.asarray(stacks[0])), jax.jit(rule.update), []
    for stack in stacks:
        u, state = update(jnp.asarray(stack), state)
        out.append(np.asarray(u))
    return np.stack(out), state


def power(a, exponent, ridge=0.0):
    values, vectors = np.linalg.eigh(a)
    return (vectors * (values + ridge * values.max()) ** exponent) @ vectors.T


@pytest.mark.parametrize("shape", [(4, 6), (6, 4), (5, 5)], ids=str)
@pytest.mark.parametrize("root", ["eigh", "newton"])
def test_shampoo_without_memory_is_exact_muon(shape, root):
    """Golden S1: `(G G^T)^-1/4 G (G^T G)^-1/4` is the polar factor, in every step."""
    grads = np.stack([gaussian(2, *shape, seed=seed) for seed in range(2)])
    rule = gs.scale_by_shampoo(0.0, 0.0, TINY, refresh_every=1, root=root)
    updates, _ = updates_of(rule, grads)
    for i in np.ndindex(2, 2):
        # A singular side has roots of TINY^-1/4, 2e3, that multiply round-off on either side.
        np.testing.assert_allclose(updates[i], polar(grads[i]), atol=1e-6)


def test_the_first_step_of_debiased_shampoo_is_the_polar_factor():
    g = gaussian(1, 4, 4)
    updates, _ = updates_of(gs.scale_by_shampoo(0.9, 0.99, TINY), g[None])
    np.testing.assert_allclose(updates[0, 0], polar(g[0]), atol=1e-8)


@pytest.mark.parametrize(("shape", "sides"), [((4, 6), "fan_in"), ((6, 4), "fan_out")])
def test_one_sided_shampoo_starts_at_the_polar_factor_over_its_bias(shape, sides):
    """Golden S2: a mean of squares that is not debiased is short by `1 - b2`; ASGO keeps that."""
    g = gaussian(1, *shape)
    for chosen in (sides, "smaller"):
        rule = gs.scale_by_shampoo(0.0, 0.99, TINY, memory="ema", sides=chosen)
        updates, state = updates_of(rule, g[None])
        np.testing.assert_allclose(updates[0, 0], polar(g[0]) / 0.1, atol=1e-6)
        assert [root is not None for root in state.roots] == [sides == "fan_in", sides != "fan_in"]


def test_the_sum_of_equal_gradients_makes_steps_of_one_over_root_t():
    """Golden S3."""
    g = gaussian(1, 5, 5)
    updates, _ = updates_of(
        gs.scale_by_shampoo(0.0, eps=TINY, memory="sum", refresh_every=1), np.stack([g] * 4)
    )
    for t, update in enumerate(updates, 1):
        np.testing.assert_allclose(update[0], polar(g[0]) / t**0.5, atol=1e-7)


@pytest.mark.parametrize("memory", ["ema_debiased", "ema", "sum"])
@pytest.mark.parametrize("sides", ["both", "smaller"])
def test_shampoo_is_its_loop(memory, sides):
    """Roots are taken in steps 1, 4, 7, of the factors after the gradient of the step."""
    grads = np.stack([gaussian(4, 6, seed=seed) for seed in range(7)])
    rule = gs.scale_by_shampoo(0.9, 0.8, 1e-3, memory=memory, sides=sides, refresh_every=3)
    updates, _ = updates_of(rule, grads[:, None])
    left, right, mean = np.zeros((4, 4)), np.zeros((6, 6)), np.zeros((4, 6))
    for t, g in enumerate(grads, 1):
        mean = 0.9 * mean + 0.1 * g
        old, new = (1, 1) if memory == "sum" else (0.8, 0.2)
        left, right = old * left + new * g @ g.T, old * right + new * g.T @ g
        if t % 3 == 1:
            factor = 1 / (1 - 0.8**t) if memory == "ema_debiased" else 1
            p_left = power(factor * left, -0.25 if sides == "both" else -0.5, 1e-3)
            p_right = power(factor * right, -0.25, 1e-3) if sides == "both" else np.eye(6)
        m_hat = mean if memory == "ema" else mean / (1 - 0.9**t)
        np.testing.assert_allclose(updates[t - 1, 0], p_left @ m_hat @ p_right, atol=1e-9)


def test_sides_that_are_too_long_leave_the_mean_gradient():
    g = gaussian(3, 1, 4, 6)
    updates, _ = updates_of(gs.scale_by_shampoo(0.9, max_side=3), g)
    mean = 0.0
    for t, (gradient, update) in enumerate(zip(g, updates, strict=True), 1):
        mean = 0.9 * mean + 0.1 * gradient
        np.testing.assert_allclose(update, mean / (1 - 0.9**t))


def test_newton_never_decomposes_and_roots_are_a_branch():
    stack = jnp.ones((2, 3, 4))
    jaxpr = lambda rule: str(jax.make_jaxpr(rule.update)(stack, rule.init(stack)))
    assert "eigh" not in jaxpr(gs.scale_by_shampoo(root="newton"))
    assert " cond[" in jaxpr(gs.scale_by_shampoo())


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32, jnp.complex64])
@pytest.mark.parametrize("root", ["eigh", "newton"])
def test_every_dtype_steps_and_zero_stays_zero(dtype, root):
    stack = jnp.asarray(gaussian(2, 3, 4), dtype).at[1].set(0)
    rule = gs.graft(gs.scale_by_shampoo(root=root), gs.scale_by_adam())
    state = rule.init(stack)
    for _ in range(2):
        update, state = rule.update(stack, state)
    assert update.dtype == dtype
    assert np.isfinite(update.astype(jnp.complex64)).all()
    assert not update[1].any()
    assert update[0].any()


def test_a_graft_has_the_direction_of_one_and_the_norms_of_the_other():
    """Golden S4, matrix by matrix and step by step."""
    grads = np.stack([gaussian(2, 4, 6, seed=seed) * [[[1.0]], [[9.0]]] for seed in range(4)])
    shampoo, adam = gs.scale_by_shampoo(refresh_every=2), gs.scale_by_adam()
    grafted, _ = updates_of(gs.graft(shampoo, adam), grads)
    norm = lambda x: np.linalg.norm(x, axis=(-2, -1), keepdims=True)
    way, length = updates_of(shampoo, grads)[0], updates_of(adam, grads)[0]
    np.testing.assert_allclose(norm(grafted), norm(length), rtol=1e-12)
    np.testing.assert_allclose(grafted / norm(grafted), way / norm(way), atol=1e-12)


@pytest.mark.parametrize("shape", [(4, 6), (5, 7), (3, 2), (1, 9)], ids=str)
def test_blocks_are_put_back_where_they_were_cut(shape):
    stack = jnp.asarray(gaussian(2, *shape))
    rule = gs.per_block(optax.identity(), 3)
    out, _ = rule.update(stack, rule.init(stack), stack)
    np.testing.assert_array_equal(out, stack)


def test_each_block_is_a_matrix_of_its_own():
    stack = gaussian(2, 4, 6)
    rule = gs.per_block(gs.polar_factor("svd"), 3)
    out, _ = updates_of(rule, stack[None])
    for k, i, j in np.ndindex(2, 2, 2):
        block = np.s_[k, 2 * i : 2 * i + 2, 3 * j : 3 * j + 3]
        np.testing.assert_allclose(out[0][block], polar(stack[block]), atol=1e-9)


def test_blocks_filled_up_with_zeros_are_the_blocks_without():
    """The zeros of a block of 3 x 4 in one of 3 x 5 add zeros to its factors, and come out zero."""
    stacks = np.stack([gaussian(1, 3, 9, seed=seed) for seed in range(3)])
    shampoo = gs.scale_by_shampoo(eps=1e-6, refresh_every=1)
    blocked, _ = updates_of(gs.per_block(shampoo, 5), stacks)
    alone, _ = updates_of(shampoo, stacks[..., 5:])
    np.testing.assert_allclose(blocked[..., 5:], alone, rtol=1e-6)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: gs.scale_by_shampoo(refresh_every=0), "scale_by_shampoo needs refresh_every >= 1"),
        (lambda: gs.scale_by_shampoo(b2=1.0), r"scale_by_shampoo needs 0 <= b2 < 1, got 1\.0"),
        (lambda: gs.scale_by_shampoo(eps=-1.0), "scale_by_shampoo needs eps >= 0"),
        (lambda: gs.scale_by_shampoo(memory="adagrad"), "no memory is called 'adagrad'; there are"),
        (lambda: gs.scale_by_shampoo(root="svd"), "no method of roots is called 'svd'"),
        (lambda: gs.per_block(optax.identity(), 0), "per_block needs max_side >= 1, got 0"),
    ],
)
def test_bad_arguments_are_refused_when_building(build, message):
    with unchecked_annotations(), pytest.raises(ValueError, match=message):
        build()
