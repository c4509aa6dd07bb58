"""How long XLA compiles an update on this machine, for models without scanned layers.

python benchmarks/compile_time.py

First GPT-2 small: seconds to trace and compile, medians of five, taken in turn. "Whole products" is
`gradsmith.muon` without products of symmetric matrices by blocks. Then a model with six matrices a
layer, of 10 layers and of 100: XLA compiles every leaf by itself, for every optimizer.
"""

import contextlib
import dataclasses
import statistics
import time
from typing import Any

import jax
import jax.numpy as jnp
import optax
import tpu

import gradsmith as gs
from gradsmith.xla.targets import current_target

WIDTH = 128


def seconds(tx: optax.GradientTransformation, params: Any) -> tuple[float, float]:
    """Return the seconds of trace and compilation."""
    state = jax.eval_shape(tx.init, params)
    start = time.perf_counter()
    lowered = jax.jit(lambda *arguments: tx.update(*arguments)).lower(params, state, params)
    traced = time.perf_counter()
    lowered.compile()
    return traced - start, time.perf_counter() - traced


def six_a_layer(layers: int) -> dict[str, Any]:
    leaf = lambda m, n: jax.ShapeDtypeStruct((m * WIDTH // 2, n * WIDTH // 2), jnp.float32)
    layer = {
        "query": leaf(2, 2),
        "key_value": leaf(2, 1),
        "out": leaf(1, 2),
        "up": leaf(2, 8),
        "gate": leaf(2, 6),
        "down": leaf(8, 2),
    }
    return {f"layer_{index}": layer for index in range(layers)}


def gpt2_small() -> None:
    whole = dataclasses.replace(current_target(), blocks_from=10**9)
    entries = {
        "muon": (gs.muon(0.02), contextlib.nullcontext),
        "muon, whole products": (gs.muon(0.02), lambda: gs.target(whole)),
        "optax.contrib.muon": (optax.contrib.muon(0.02), contextlib.nullcontext),
    }
    params, found = tpu.layers(12), {name: [] for name in entries}
    for _ in range(6):
        for name, (tx, target) in entries.items():
            with target():
                found[name].append(seconds(tx, params))
    print(f"{'GPT-2 small':24}{'trace':>8}{'compile':>9}{'both':>8}")
    for name, (_, *runs) in found.items():  # whoever comes first pays for what is done once
        traces, compiles = zip(*runs, strict=True)
        both = statistics.median(map(sum, runs))
        trace, compilation = statistics.median(traces), statistics.median(compiles)
        print(f"{name:24}{trace:7.2f}s{compilation:8.2f}s{both:7.2f}s", flush=True)


def more_layers() -> None:
    entries = {
        "muon": gs.muon(0.02),
        "optax.contrib.muon": optax.contrib.muon(0.02),
        "optax.adamw": optax.adamw(1e-3),
        "optax.sgd": optax.sgd(0.1, momentum=0.9),
    }
    print(f"\n{'compile':24}{'10 layers':>10}{'100 layers':>12}{'ratio':>7}")
    for name, tx in entries.items():
        seconds(tx, six_a_layer(1))
        few, many = (seconds(tx, six_a_layer(layers))[1] for layers in (10, 100))
        print(f"{name:24}{few:9.2f}s{many:11.2f}s{many / few:7.1f}", flush=True)


if __name__ == "__main__":
    gpt2_small()
    more_layers()
