"""The first verb: a rule for a stack of matrices becomes a transformation of any model."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import optax
from jaxtyping import Array

from ..layout.bucket import MatrixShape
from ..layout.declare import Axes
from ..layout.gathering import Stack
from ..sites.placement import Placement
from .engine import lift
from .names import name_of


def per_stack(
    rule: optax.GradientTransformation,
    *,
    axes: Axes = None,
    placement: Placement = "owners",
) -> optax.GradientTransformationExtraArgs:
    """Make a rule a transformation of any tree of parameters.

    A rule is an ordinary `optax.GradientTransformation` whose parameter is one array `(k, m, n)`:
    `k` matrices of `fan_in = m` rows and `fan_out = n` columns. All leaves whose matrices have one
    shape meet in one such array. The rule gets the stacked `params` if `update` got any, and extra
    arguments as they come. `optax.chain` makes one rule of several.

    On a mesh every device owns some of the matrices, and their state. So `rule` must treat each
    matrix by itself. What it keeps for all of them, such as a counter, must not depend on them.

    `None` and `optax.MaskedNode` pass through. Costs a copy of the updates each way.

    Args:
        rule: What happens to a stack of matrices.
        axes: Which axes of which leaf are fan-in, fan-out and stack, and where it is cut: one
            `MatrixAxes`, a tree or prefix of them, or a function of path and leaf that returns one.
            By default names and rank tell: `(in, out)` at rank 2, `(out, in)` for a `weight`.
        placement: Where matrices are computed on a mesh. 'owners' gives each device whole matrices
            of its own, and `rule` sees only these. 'replicated' gives every device all matrices.
            `Owners` has options, and is needed on a mesh of Auto axes.

    Raises:
        ValueError: At `init`, where a leaf is no matrix, or has axes that nobody declared.

    Examples:
        >>> import jax.numpy as jnp, optax
        >>> import gradsmith as gs
        >>> muon = optax.chain(
        ...     optax.trace(0.95, nesterov=True),
        ...     gs.per_stack(optax.chain(gs.polar_factor("svd"), gs.scale_by_aspect_ratio())),
        ...     optax.scale_by_learning_rate(0.5),
        ... )
        >>> params = {"kernel": jnp.zeros((2, 2))}
        >>> grads = {"kernel": jnp.array([[4.0, 0.0], [0.0, 3.0]])}
        >>> updates, _ = muon.update(grads, muon.init(params))
        >>> print(updates["kernel"])
        [[-0.5 -0. ]
         [-0.  -0.5]]
    """
    kernel = OnStacks(name_of(rule), optax.with_extra_args_support(rule))
    return lift(kernel, axes=axes, placement=placement)


@dataclass(eq=False)
class OnStacks:
    """The kernel: the rule sees the matrices themselves."""

    name: str
    rule: optax.GradientTransformationExtraArgs | Callable[..., Stack]
    by_grams: bool = False
    chunk_bytes: int | None = None

    def meets(self, shape: MatrixShape) -> MatrixShape:
        """As `Kernel.meets`."""
        return shape

    def dtype(self, dtype: Any) -> jnp.dtype:
        """As `Kernel.dtype`."""
        return dtype

    def reduced(self, shape: MatrixShape) -> MatrixShape:
        """As `Kernel.reduced`."""
        return shape

    def scales(self, stack: Stack) -> None:
        """As `Kernel.scales`."""
        del stack

    def reduce(self, stack: Stack, scales: None) -> Stack:
        """As `Kernel.reduce`."""
        del scales
        return stack

    def numbers(self, scales: Sequence[None]) -> tuple[Array, ...]:
        """As `Kernel.numbers`."""
        del scales
        return ()

    def apply(self, result: Stack, stack: Stack, scales: None, transposed: Any) -> Stack:
        """As `Kernel.apply`."""
        del stack, scales, transposed
        return result
