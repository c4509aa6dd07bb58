"""What gradsmith itself costs on large models: no array is made, nothing is compiled.

python benchmarks/large_models.py

CPU seconds of axes and buckets, and of the trace of an update of 10,000 leaves, beside optimizers
of Optax, after a first trace of another tree; the Python calls of `init` and an update of 1,000;
then the seconds of `describe` for the shapes of Llama 3 70B, and the memory of it all.
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


OPTIMIZERS = {
    "muon": gs.muon(0.02),
    "optax.contrib.muon": optax.contrib.muon(0.02),
    "optax.adamw": optax.adamw(1e-3),
    "optax.sgd, momentum": optax.sgd(0.1, momentum=0.9),
}


def trace(tree: Any, tx: optax.GradientTransformation) -> float:
    """Return the seconds of an update, those of `init` apart."""
    state = jax.eval_shape(tx.init, tree)
    return seconds(jax.make_jaxpr(tx.update), tree, state, tree)


def calls(tx: optax.GradientTransformation) -> float:
    """Return the Python calls of `init` and one update of 1,000 leaves, in millions."""
    tree = kernels(1_000)
    trace(kernels(20), tx)
    with cProfile.Profile() as profile:
        trace(tree, tx)
    return pstats.Stats(profile).total_calls / 1e6  # pyright: ignore[reportAttributeAccessIssue]


if __name__ == "__main__":
    tree = kernels(10_000)
    print(f"10,000 leaves, axes and buckets: {seconds(plan, tree):.2f} s")
    for name, tx in OPTIMIZERS.items():
        trace(kernels(20), tx)
        print(f"10,000 leaves, an update of {name}: {trace(tree, tx):.2f} s", flush=True)
    for name, tx in OPTIMIZERS.items():
        print(f"1,000 leaves, million calls, {name}: {calls(tx):.1f}", flush=True)
    print(f"describe, 70B: {seconds(lambda: gs.describe(gs.muon(0.02), llama_70b())):.2f} s")
    print(f"memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")
