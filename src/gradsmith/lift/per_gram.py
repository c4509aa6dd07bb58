"""The second verb: rules that need only the small Gram matrix of each matrix.

Such are all rules that can be written as `Q(X X^H) X`: the polar factor, one-sided Shampoo. They
need not gather the matrices. Gram matrices are smaller, and those of `(m, n)` and of `(n, m)` have
one size.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike
from jaxtyping import Array, Inexact

from ..layout.bucket import MatrixShape
from ..layout.declare import Axes
from ..layout.gathering import Stack
from ..matrix.norms import largest_entry
from ..matrix.symmetric import apply, gram
from ..sites.placement import Placement
from ..xla.dtypes import wide_dtype
from .engine import lift
from .kernel import finished
from .names import name_of

Grams = Inexact[Array, "k s s"]


def per_gram(
    rule: Callable[..., Grams] | optax.GradientTransformation,
    *,
    scale_free: bool = False,
    length: ArrayLike | None = None,
    postprocess: optax.GradientTransformation | None = None,
    axes: Axes = None,
    placement: Placement = "owners",
    chunk_bytes: int | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Make a function of Gram matrices a transformation of any tree of parameters.

    The rule gets a stack of Gram matrices of one size: of every matrix `X` the smaller of `X X^H`
    and `X^H X`. It returns as many `Q`, and the update becomes `Q X`, or `X Q^H`. The matrices are
    neither gathered nor transposed, and the arithmetic is float32 or better.

    `None` and `optax.MaskedNode` pass through. Beside the rule it costs the two products with `X`,
    `4 m^2 n` flops a matrix for `m <= n`. If the target computes in parts, temporaries are one
    part of the matrices or the largest leaf, and the Gram matrices of one size after the other.

    Args:
        rule: A function `(k, s, s) -> (k, s, s)`; or, to keep a state such as running averages, an
            `optax.GradientTransformation` whose parameter is one such array. A function gets all
            Gram matrices of one size. A transformation keeps a state for each shape of matrices,
            where `(m, n)` and `(n, m)` are one.
        scale_free: Says that `rule(c R) = rule(R) / sqrt(c)`, as for inverse roots. Then every
            matrix is first divided by its largest entry, so that 1e-30 and 1e30 can be squared.
        length: A number in the units of the matrices, such as an eps that is added to their norm.
            A function gets it as a second argument `(k, 1, 1)`, divided by the same numbers as
            the matrices.
        postprocess: A rule without state that changes the result, such as a shape scale. It gets
            the stack `(k, fan_in, fan_out)` of one leaf after the other; nothing is gathered.
        axes: As for `per_stack`.
        placement: As for `per_stack`. On a mesh the matrices themselves travel to their owners.
            Those of `(n, m)` travel transposed, with those of `(m, n)`. A matrix that is alone of
            its size and whole along its short side stays: its Gram matrix is summed from pieces.
        chunk_bytes: How many bytes of Gram matrices a function gets at once; more come in chunks.
            By default as the target says, `Target.chunk_bytes`. A transformation gets all at once.

    Raises:
        ValueError: As for `per_stack`; or `postprocess` keeps a state; or a length is given for a
            rule that keeps one.

    Examples:
        >>> import jax.numpy as jnp
        >>> import gradsmith as gs
        >>> def whiten(grams):
        ...     values, vectors = jnp.linalg.eigh(grams)
        ...     return (vectors / jnp.sqrt(values)[:, None, :]) @ vectors.mT
        >>> tx = gs.per_gram(whiten)
        >>> grads = {"kernel": jnp.array([[4.0, 0.0, 0.0], [0.0, 3.0, 0.0]])}
        >>> updates, _ = tx.update(grads, tx.init(grads))
        >>> print(updates["kernel"].round(3))
        [[1. 0. 0.]
         [0. 1. 0.]]
    """
    keeps_state = isinstance(rule, optax.GradientTransformation)
    if length is not None and keeps_state:
        raise ValueError("per_gram gives a length to a function, and this rule keeps a state")
    on_grams = optax.with_extra_args_support(rule) if keeps_state else _on_some(rule)
    finish = without_state(postprocess)
    kernel = _OnGrams(name_of(rule), on_grams, scale_free, length, finish, chunk_bytes)
    return lift(kernel, axes=axes, placement=placement)


@dataclass(eq=False)
class _OnGrams:
    """The kernel: Gram matrix, rule, product."""

    name: str
    rule: optax.GradientTransformationExtraArgs | Callable[..., Grams]
    scale_free: bool
    length: ArrayLike | None
    postprocess: optax.GradientTransformation
    chunk_bytes: int | None
    by_grams: bool = True

    def meets(self, shape: MatrixShape) -> MatrixShape:
        """As `Kernel.meets`."""
        return min(shape), max(shape)

    def dtype(self, dtype: Any) -> jnp.dtype:
        """As `Kernel.dtype`."""
        return wide_dtype(dtype)

    def reduced(self, shape: MatrixShape) -> MatrixShape:
        """As `Kernel.reduced`."""
        return min(shape), min(shape)

    def scales(self, stack: Stack) -> Array:
        """Return the root of the scale, for either side of a product.

        The scale itself may be too small a number, and a scaled copy of the matrix too large.
        """
        if not self.scale_free:
            return jnp.ones((len(stack), 1, 1), wide_dtype(stack.real.dtype))
        return jnp.sqrt(largest_entry(stack.astype(wide_dtype(stack.dtype))))

    def reduce(self, stack: Stack, scales: Array) -> Stack:
        """As `Kernel.reduce`."""
        wide = stack.astype(wide_dtype(stack.dtype))
        root = scales.astype(wide.dtype)
        return gram(wide, root, root)

    def numbers(self, scales: Sequence[Array]) -> tuple[Array, ...]:
        """As `Kernel.numbers`: the length in the units of the matrices."""
        if self.length is None:
            return ()
        roots = jnp.concatenate(scales)
        return (jnp.asarray(self.length, roots.dtype) / roots**2,)

    def apply(self, result: Grams, stack: Stack, scales: Array, transposed: Any) -> Stack:
        """As `Kernel.apply`."""
        wide = stack.astype(wide_dtype(stack.dtype))
        root = scales.astype(wide.dtype)
        out = apply(result.astype(wide.dtype) / root, wide) / root
        return finished(self.postprocess, out, transposed)


def _on_some(f: Callable[..., Grams]) -> Callable[..., Array]:
    """Let a function of stacks take one matrix, too."""

    def on_some(grams: Array, *lengths: Array) -> Array:
        alone = grams.ndim == 2
        given = [x[None] if alone else x for x in (grams, *lengths)]
        out = jnp.asarray(f(*given)).astype(grams.dtype)
        return out[0] if alone else out

    return on_some


def without_state(rule: optax.GradientTransformation | None) -> optax.GradientTransformation:
    """Refuse a rule that keeps something: it is called for each leaf, and what it kept is lost."""
    if rule is None:
        return optax.identity()
    state = jax.eval_shape(rule.init, jax.ShapeDtypeStruct((1, 1, 1), jnp.float32))
    if jax.tree.leaves(state):
        raise ValueError(
            f"postprocess={name_of(rule)} keeps a state, which would be lost. Put it behind: "
            f"optax.chain(..., per_stack({name_of(rule)}(...)))"
        )
    return rule
