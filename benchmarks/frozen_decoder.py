"""Train the decoder that the task `lora` keeps frozen, and store it with the package.

python benchmarks/frozen_decoder.py [steps, 1500 by default]

AdamW on the task `shakespeare`, whose last tenth of the plays stays unseen. Another machine or
version writes other last digits, so the file is written once and comes with the package.
"""

import lzma
import sys
from importlib import resources
from pathlib import Path

import jax
import numpy as np
import optax
from jax.flatten_util import ravel_pytree

from gradsmith.race.tasks.shakespeare import shakespeare


def main(steps: int) -> None:
    task = shakespeare()
    optimizer = optax.adamw(optax.warmup_cosine_decay_schedule(0.0, 0.01, steps // 10, steps))

    @jax.jit
    def step(carry, key):
        params, state = carry
        grads = jax.grad(task.loss)(params, task.batch(key))
        updates, state = optimizer.update(grads, state, params)
        return (optax.apply_updates(params, updates), state), None

    params = task.init(jax.random.key(0))
    carry = params, optimizer.init(params)
    (params, _), _ = jax.lax.scan(step, carry, jax.random.split(jax.random.key(1), steps))
    weights = np.asarray(ravel_pytree(params)[0], "<f2")
    file = Path(str(resources.files("gradsmith.race"))) / "data" / "decoder.float16.xz"
    file.write_bytes(lzma.compress(weights.tobytes(), preset=9))
    print(f"{len(weights):,} weights, {file.stat().st_size:,} bytes in {file}")
    print(f"loss on plays that it has not seen: {task.loss(params, task.report):.3f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1500)
