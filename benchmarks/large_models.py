"""What gradsmith itself costs on large models: no array is made, nothing is compiled.

python benchmarks/large_models.py

CPU seconds of axes, buckets and the whole trace of an update of 10,000 leaves, after a first trace
of another tree; the Python calls of such a trace of 1,000; then the seconds of `describe` for the
shapes of Llama 3 70B, and the memory of it all.
"""

import cProfile
import pstats
import resource
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

import gradsmith as gs
from gradsmith.layout.bucket import plan_buckets
from gradsmith.layout.declare import matrix_leaves


def kernels(count: int) -> dict[str, jax.ShapeDtypeStruct]:
    """Leaves of ten shapes."""
    shape = lambda i: (64, 64 * (1 + i % 10))
    return {f"{i}/kernel": jax.ShapeDtypeStruct(shape(i), jnp.float32) for i in range(count)}


def llama_70b() -> dict[str, Any]:
    """Every layer on its own, named as in Hugging Face."""
    leaf = lambda *shape: {"weight": jax.ShapeDtypeStruct(shape, jnp.bfloat16)}
    d, kv, wide, vocabulary = 8192, 1024, 28672, 128256
    layer = {
        "self_attn": {
            "q_proj": leaf(d, d),
            "k_proj": leaf(kv, d),
            "v_proj": leaf(kv, d),
            "o_proj": leaf(d, d),
        },
        "mlp": {"gate_proj": leaf(wide, d), "up_proj": leaf(wide, d), "down_proj": leaf(d, wide)},
        "input_layernorm": leaf(d),
        "post_attention_layernorm": leaf(d),
    }
    model = {"embed_tokens": leaf(vocabulary, d), "layers": [layer] * 80, "norm": leaf(d)}
    return {"model": model, "lm_head": leaf(vocabulary, d)}


def seconds(f: Callable, *args: Any) -> float:
    start = time.process_time()
    f(*args)
    return time.process_time() - start


def plan(tree: Any) -> None:
    leaves = matrix_leaves(None, tree)
    plan_buckets([shape for leaf in leaves for shape in leaf.axes.stack_shapes(leaf.array.shape)])


def trace(tree: Any, tx: optax.GradientTransformation | None = None) -> None:
    tx = gs.muon(0.02) if tx is None else tx
    jax.make_jaxpr(tx.update)(tree, jax.eval_shape(tx.init, tree), tree)


def calls(tx: optax.GradientTransformation) -> float:
    """Return the Python calls of `init` and one update of 1,000 leaves, in millions."""
    tree = kernels(1_000)
    trace(kernels(20), tx)
    with cProfile.Profile() as profile:
        trace(tree, tx)
    return pstats.Stats(profile).total_calls / 1e6  # pyright: ignore[reportAttributeAccessIssue]


if __name__ == "__main__":
    trace(kernels(20))
    tree = kernels(10_000)
    print(f"10,000 leaves, axes and buckets: {seconds(plan, tree):.2f} s")
    print(f"10,000 leaves, the whole trace: {seconds(trace, tree):.2f} s")
    print(f"1,000 leaves, million calls, muon: {calls(gs.muon(0.02)):.1f}")
    print(f"1,000 leaves, million calls, optax.adamw: {calls(optax.adamw(1e-3)):.1f}")
    print(f"describe, 70B: {seconds(lambda: gs.describe(gs.muon(0.02), llama_70b())):.2f} s")
    print(f"memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")
