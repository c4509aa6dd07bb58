"""Muon on a GPU, beside `optax.contrib.muon`: times where there is one, else what would run there.

python benchmarks/gpu.py

Anywhere: the products of an update as they are lowered for CUDA, by arithmetic. With a GPU: median
times of whole updates in bfloat16 and float32, the ratio to Optax, and the part of the rate of one
large product of bfloat16 that the flops of the plan make.
"""

import collections
import re
import statistics
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

import gradsmith as gs

CASES = {
    "GPT-2 small": [(768, 768)] * 48 + [(768, 3072)] * 12 + [(3072, 768)] * 12,
    "2048 x 8192": [(2048, 8192)] * 4,
    "4096 x 4096": [(4096, 4096)] * 4,
}


def tree(shapes: list[tuple[int, int]]) -> dict[str, jax.ShapeDtypeStruct]:
    return {f"kernel_{i}": jax.ShapeDtypeStruct(x, jnp.float32) for i, x in enumerate(shapes)}


def lowered(tx: optax.GradientTransformation, params: dict) -> str:
    """How many products there are of each arithmetic."""
    with gs.target("cuda"):
        state = jax.eval_shape(tx.init, params)
        traced = jax.jit(tx.update).trace(params, state, params)
    text = traced.lower(lowering_platforms=("cuda",)).as_text()
    counts = collections.Counter()
    for line in text.splitlines():
        if "dot_general" in line:
            told = re.search(r"lhs_precision_type = (\w+).*num_primitive_operations = (\d)", line)
            full = "HIGHEST, HIGHEST" in line
            counts[f"{told[1]} x {told[2]}" if told else "f32" if full else "unsaid"] += 1
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))


def seconds(run: Callable, *args: jax.Array) -> float:
    jax.block_until_ready(run(*args))
    times = []
    for _ in range(10):
        start = time.perf_counter()
        jax.block_until_ready(run(*args))
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def update_seconds(tx: optax.GradientTransformation, params: dict) -> float:
    keys = jax.random.split(jax.random.key(0), len(params))
    pairs = zip(params.items(), keys, strict=True)
    grads = {name: jax.random.normal(key, x.shape) for (name, x), key in pairs}
    return seconds(jax.jit(tx.update), grads, tx.init(grads), grads)


def peak() -> float:
    """Flops a second of one large product of bfloat16."""
    x = jnp.ones((8192, 8192), jnp.bfloat16)
    return 2 * 8192**3 / seconds(jax.jit(jnp.matmul), x, x)


def main() -> None:
    there = jax.default_backend() == "gpu"
    print(f"device: {jax.devices()[0].device_kind if there else 'no GPU here, nothing is timed'}")
    most = peak() if there else 0.0
    for name, shapes in CASES.items():
        params = tree(shapes)
        optaxs = update_seconds(optax.contrib.muon(0.02), params) if there else 0.0
        for precision in (None, "float16", "tfloat32", "float32"):
            tx = gs.muon(0.02, precision=precision)
            print(f"{name:12} {precision or 'default':9} products: {lowered(tx, params)}")
            if there:
                took = update_seconds(tx, params)
                flops = sum(
                    gs.matrix.explain(x, precision=precision).flops for x in params.values()
                )
                print(
                    f"{'':23}{1e3 * took:8.2f} ms, {took / optaxs:.2f} of Optax's, "
                    f"{flops / took / most:.0%} of the bfloat16 peak"
                )


if __name__ == "__main__":
    main()
