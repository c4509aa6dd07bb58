"""An optimizer that Optax lacks, five ways: `python examples/custom_optimizer.py`.

You want momentum whose matrices are orthogonalized by five Newton-Schulz steps. Here is the way of
a person who needs it: what chains already, what has to be written by hand, and the same in three
lines of gradsmith. All of them are ordinary Optax.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

import gradsmith as gs

# 1. What chains already. No formula of your own: Optax has all the parts.

adam_then_clip = optax.chain(
    optax.scale_by_adam(), optax.clip(0.8), optax.scale_by_learning_rate(0.02)
)


# 2. By hand, in plain Optax. `init` builds a state shaped like the parameters; `update` returns
# exactly two values, the updates and the new state; both are pure.


class CustomOptState(NamedTuple):
    """The momentum, shaped like the parameters."""

    evolving_state: Any


def matrix_ops(x: jax.Array) -> jax.Array:
    """Orthogonalize one matrix, or a stack of them: five Newton-Schulz steps."""
    a, b, c = 3.4445, -4.7750, 2.0315
    y = x.astype(jnp.float32)  # in float16 the 1e-7 would be zero, and a zero gradient NaN
    y = y / (jnp.linalg.norm(y, axis=(-2, -1), keepdims=True) + 1e-7)
    for _ in range(5):
        gram = y @ y.mT
        y = a * y + (b * gram + c * gram @ gram) @ y
    return y.astype(x.dtype)


def scale_by_custom_optimizer(constant: float) -> optax.GradientTransformation:
    """Momentum; matrices are orthogonalized, other leaves stay as they are."""

    def init_fn(params):
        return CustomOptState(jax.tree.map(jnp.zeros_like, params))

    def update_fn(updates, state, params=None):
        del params  # `params=None` belongs to the signature even where nothing needs them
        new_state = jax.tree.map(lambda s, g: constant * s + g, state.evolving_state, updates)
        updates = jax.tree.map(lambda m: matrix_ops(m) if m.ndim >= 2 else m, new_state)
        return updates, CustomOptState(new_state)

    return optax.GradientTransformation(init_fn, update_fn)


def custom_optimizer(
    lr: optax.ScalarOrSchedule, constant: float = 0.95, weight_decay: float | None = None
) -> optax.GradientTransformation:
    """Chain the transformation with a learning rate, and with decoupled decay if asked for."""
    decay = optax.identity() if weight_decay is None else optax.add_decayed_weights(weight_decay)
    direction = scale_by_custom_optimizer(constant)
    return optax.chain(direction, decay, optax.scale_by_learning_rate(lr))


# 3. The same through gradsmith: the formula for one matrix, and which axis stacks the layers.


def stacked(path: str, leaf: jax.Array) -> gs.MatrixAxes | None:
    """Declare what gradsmith will not guess: a leaf of rank 3 is layers of `(in, out)`."""
    return gs.MatrixAxes(in_axis=1, out_axis=2, batch_axis=0) if leaf.ndim == 3 else None


def smithed_optimizer(
    lr: optax.ScalarOrSchedule, constant: float = 0.95
) -> optax.GradientTransformation:
    """Do what `custom_optimizer` does, with the axes of the stacked layers declared."""
    matrices = gs.per_matrix(matrix_ops, axes=stacked)
    by_role = gs.partition_by_role(matrices, others=optax.identity(), axes=stacked)
    return optax.chain(optax.trace(constant), by_role, optax.scale_by_learning_rate(lr))


# 4. Muon from its parts.

muon = optax.chain(
    optax.trace(0.95, nesterov=True),
    gs.orthogonalize(postprocess=gs.scale_by_aspect_ratio(), axes=stacked),
    optax.scale_by_learning_rate(0.02),
)


# 5. Training with each.


def init_params(key: jax.Array) -> dict[str, jax.Array]:
    """Two matrices, three stacked layers, two biases."""
    keys = jax.random.split(key, 3)
    return {
        "inside": jax.random.normal(keys[0], (8, 16)) / 8**0.5,
        "layers": jax.random.normal(keys[1], (3, 16, 16)) / 4,
        "outside": jax.random.normal(keys[2], (16, 4)) / 4,
        "hidden_bias": jnp.zeros(16),
        "bias": jnp.zeros(4),
    }


def loss(params: dict[str, jax.Array], x: jax.Array, y: jax.Array) -> jax.Array:
    """Return the mean squared error of a small residual network."""
    h = x @ params["inside"] + params["hidden_bias"]
    for layer in params["layers"]:
        h = h + jnp.tanh(h @ layer)
    return jnp.mean((h @ params["outside"] + params["bias"] - y) ** 2)


def train(solver: optax.GradientTransformation, steps: int = 20) -> tuple[Any, list[float]]:
    """Return the parameters after that many steps, and the loss before each."""
    x = jax.random.normal(jax.random.key(1), (64, 8))
    y = jnp.sin(x[:, :4]) * jnp.roll(x, 1, axis=1)[:, :4]
    params = init_params(jax.random.key(0))
    state = solver.init(params)
    losses = []
    for _ in range(steps):
        value, grads = jax.value_and_grad(loss)(params, x, y)
        updates, state = solver.update(grads, state)
        params = optax.apply_updates(params, updates)
        losses.append(float(value))
    return params, losses


def main() -> None:
    """Train with each and print how far it came."""
    solvers = {
        "adam, clipped": adam_then_clip,
        "by hand": custom_optimizer(lr=0.02, constant=0.9),
        "by gradsmith": smithed_optimizer(lr=0.02, constant=0.9),
        "muon from its parts": gs.partition_by_role(muon, others=optax.adam(0.003), axes=stacked),
    }
    for name, solver in solvers.items():
        _, losses = train(solver)
        print(f"{name:24s} loss {losses[0]:.3f} -> {losses[-1]:.3f}")


if __name__ == "__main__":
    main()
