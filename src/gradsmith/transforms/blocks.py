"""Large matrices in blocks: each is a matrix of its own to the rule inside."""

import jax.numpy as jnp
import optax
from jaxtyping import Array, Shaped

from .arguments import check_fixed


def per_block(
    rule: optax.GradientTransformation, max_side: int
) -> optax.GradientTransformationExtraArgs:
    """Let a rule see blocks of at most `max_side` a side, as if each were a matrix (a rule).

    A side is cut into the fewest possible blocks of one size. The last block is filled up with
    zeros. What a rule would keep for `m x m` it then keeps for `m / max_side` blocks of
    `max_side x max_side`. The result is another one: the polar factors of the blocks are not the
    blocks of the polar factor. A shape scale belongs outside, where it sees the true shape.

    A direction: stands before the learning rate, inside `per_stack`.

    Args:
        rule: What happens to a stack of blocks.
        max_side: The longest side of a block.

    Raises:
        ValueError: `max_side` is less than 1.
        TypeError: `max_side` is an array: it decides shapes.

    Examples:
        >>> import jax.numpy as jnp
        >>> import gradsmith as gs
        >>> rule = gs.per_block(gs.scale_by_soap(), 1024)
        >>> state = rule.init(jnp.zeros((2, 768, 3072)))
        >>> print(state.bases.fan_out.shape)
        (6, 1024, 1024)

    References:
        Anil et al., Scalable Second Order Optimization for Deep Learning, 2020, arXiv:2002.09018.
    """
    check_fixed("per_block", max_side=max_side)
    if max_side < 1:
        raise ValueError(f"per_block needs max_side >= 1, got {max_side}")
    rule = optax.with_extra_args_support(rule)

    def init_fn(params):
        return rule.init(_cut(params, max_side))

    def update_fn(updates, state, params=None, **extra_args):
        blocks = None if params is None else _cut(params, max_side)
        out, state = rule.update(_cut(updates, max_side), state, blocks, **extra_args)
        return _assemble(jnp.asarray(out), updates.shape, max_side), state

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)


def _grid(side: int, max_side: int) -> tuple[int, int]:
    """Return the number of blocks along a side, and their length."""
    count = max(1, -(-side // max_side))
    return count, -(-side // count)


def _cut(stack: Shaped[Array, "k m n"], max_side: int) -> Shaped[Array, "blocks _ _"]:
    k, m, n = stack.shape
    (rows, p), (columns, q) = _grid(m, max_side), _grid(n, max_side)
    padded = jnp.pad(stack, [(0, 0), (0, rows * p - m), (0, columns * q - n)])
    grid = padded.reshape(k, rows, p, columns, q).transpose(0, 1, 3, 2, 4)
    return grid.reshape(k * rows * columns, p, q)


def _assemble(
    blocks: Shaped[Array, "blocks _ _"], shape: tuple[int, ...], max_side: int
) -> Shaped[Array, "k m n"]:
    """Return the stack of that shape whose blocks these are; the inverse of `_cut`."""
    k, m, n = shape
    (rows, p), (columns, q) = _grid(m, max_side), _grid(n, max_side)
    grid = blocks.reshape(k, rows, columns, p, q).transpose(0, 1, 3, 2, 4)
    return grid.reshape(k, rows * p, columns * q)[:, :m, :n]
