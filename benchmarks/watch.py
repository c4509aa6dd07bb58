"""What `gradsmith.watch` adds to the time of an update of Muon: GPT-2 small, on this machine.

python benchmarks/watch.py [--layers 12]

An update alone, one that is watched and not read, and one that is read, in turn; the medians of
some rounds. The mean over 50 steps has one that is read. The bar is 2 %.
"""

import argparse
import functools
import statistics
import time

import jax
import jax.numpy as jnp

import gradsmith as gs

EVERY, ROUNDS = 50, 7


def params(layers: int) -> dict:
    """All matrices of the hidden layers, zeros."""
    square = dict.fromkeys(("query", "key", "value", "out"), (768, 768))
    shapes = {**square, "up": (768, 3072), "down": (3072, 768)}
    layer = lambda: {name: {"kernel": jnp.zeros(shape)} for name, shape in shapes.items()}
    return {f"layer_{index}": layer() for index in range(layers)}


def main(layers: int) -> None:
    model = params(layers)
    keys = iter(jax.random.split(jax.random.key(0), 6 * layers))
    grads = jax.tree.map(lambda x: jax.random.normal(next(keys), x.shape), model)
    seconds: dict[str, list[float]] = {}

    def run(name: str, update, state):
        start = time.perf_counter()
        state = jax.block_until_ready(update(grads, state, model))[1]
        seconds.setdefault(name, []).append(time.perf_counter() - start)
        return state

    plain, every = gs.muon(0.02), gs.watch(gs.muon(0.02), every=2)  # every other step is read
    jit = functools.partial(jax.jit, donate_argnums=1)
    alone, watched = (jit(lambda *given, tx=tx: tx.update(*given)) for tx in (plain, every))
    states = [tx.init(model) for tx in (plain, every)]
    for number in range(ROUNDS + 1):
        states[0] = run("alone", alone, states[0])
        for half in ("first", "second"):
            states[1] = run(half, watched, states[1])
        if number == 0:
            seconds = {}  # with the time of compiling
    one, *both = (statistics.median(values) for values in seconds.values())
    quick, read = sorted(both)
    mean = ((EVERY - 1) * quick + read) / EVERY
    print(
        f"an update {one:.3f} s; watched {quick / one:.3f} of it, and {read / one:.2f} where it is "
        f"read; the mean over {EVERY} steps {100 * (mean / one - 1):+.1f} %"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layers", type=int, default=12)
    main(parser.parse_args().layers)
