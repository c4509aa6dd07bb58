"""Leaves of one shape are traced once, and a leaf adds little to the trace of an update."""

import collections

import jax
import jax.numpy as jnp
import pytest

import gradsmith as gs
from gradsmith.lift import per_gram
from gradsmith.transforms import adam, momentum
from gradsmith.xla.targets import current_target
from gradsmith.xla.trace_once import trace_once


def test_arguments_of_one_shape_are_traced_once():
    seen = []

    @trace_once
    def double(x):
        seen.append(x.shape)
        return x * 2

    xs = [jnp.ones((2, 3))] * 5 + [jnp.ones(4)] * 5
    out = jax.jit(lambda xs: [double(x) for x in xs])(xs)
    assert seen == [(2, 3), (4,)]
    assert all((x == 2).all() for x in out)


def test_what_it_closes_over_may_be_traced_and_an_argument_may_be_none():
    def f(rate, xs):
        scaled = trace_once(lambda x, other: rate * x if other is None else rate * x + other)
        return [scaled(x, other) for x, other in zip(xs, [None, jnp.ones(2)], strict=True)]

    xs = [jnp.ones(2), jnp.ones(2)]
    values, slopes = jax.jvp(f, (3.0, xs), (1.0, xs))
    assert [x.tolist() for x in values] == [[3, 3], [4, 4]]
    assert [x.tolist() for x in slopes] == [[4, 4], [4, 4]]


def test_outside_a_trace_nothing_is_compiled():
    seen = []
    f = trace_once(lambda x: seen.append(x) or x)
    f(jnp.ones(2))
    assert not isinstance(seen[0], jax.core.Tracer)


def test_a_target_has_a_trace_of_its_own():
    f = trace_once(lambda x: x * current_target().parts)
    g = jax.jit(lambda x: f(x))
    with gs.target("cpu"):
        of_cpu = float(g(jnp.float32(1)))
    with gs.target("tpu"):
        assert float(g(jnp.float32(1))) == 1 < of_cpu


@pytest.mark.parametrize("layers", [2, 6])
def test_an_update_is_traced_once_for_each_shape(layers, monkeypatch):
    counted = collections.Counter()

    def watch(module, name):
        f = getattr(module, name)

        def counting(*args, **kwargs):
            counted[name] += 1
            return f(*args, **kwargs)

        monkeypatch.setattr(module, name, counting)

    watch(momentum, "below_one")
    watch(adam, "square")
    watch(per_gram, "gram")
    watch(per_gram, "apply")
    layer = {
        "attention": {"kernel": jnp.zeros((16, 16))},
        "up": {"kernel": jnp.zeros((16, 64)), "bias": jnp.zeros(64)},
        "down": {"kernel": jnp.zeros((64, 16)), "bias": jnp.zeros(16)},
    }
    params = {f"layer_{i}": layer for i in range(layers)}
    tx = gs.muon(1e-3)
    jax.make_jaxpr(tx.update)(params, jax.eval_shape(tx.init, params), params)
    assert counted == {"below_one": 2 * 3, "square": 2, "gram": 3, "apply": 3}
