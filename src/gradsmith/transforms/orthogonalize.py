"""Replace every matrix of an update by its polar factor: of a whole tree, or as a rule.

`orthogonalize` is the transformation, and the cheap road; `polar_factor` is the rule of the same
arithmetic, to stand among other rules inside `per_stack`.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import optax
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array

from ..layout.bucket import MatrixShape
from ..layout.declare import Axes, matrix_leaves
from ..lift.engine import lift
from ..lift.kernel import finished
from ..lift.per_gram import per_gram, without_state
from ..lift.per_stack import OnStacks
from ..matrix.norms import Normalizer, largest_entry
from ..matrix.polar.coefficients import Schedule
from ..matrix.polar.gram_newton_schulz import GramFactor
from ..matrix.polar.method import PolarMethod
from ..matrix.polar.plan import Method, Request
from ..sites.placement import Placement
from ..xla.arithmetic import Precision, kept_narrow
from ..xla.chunks import in_chunks
from ..xla.dtypes import wide_dtype
from ..xla.targets import current_target
from .arguments import check_fixed


def orthogonalize(
    method: Method | None = None,
    *,
    coefficients: str | Schedule | None = None,
    steps: int | None = None,
    max_error: float | None = None,
    normalizer: Normalizer | None = None,
    eps: ArrayLike = 0.0,
    precision: Precision | None = None,
    postprocess: optax.GradientTransformation | None = None,
    axes: Axes = None,
    placement: Placement = "owners",
) -> optax.GradientTransformationExtraArgs:
    """Give every matrix of a tree singular values of about 1, in the cheapest way.

    If the method is a function of Gram matrices alone, this is a `per_gram`. Then the matrices are
    not gathered, and all Gram matrices of one size are computed together. Otherwise it is
    `per_stack` of the rule `polar_factor`: for 'svd', for schedules of many steps, and for narrow
    arithmetic, which has to return to the matrix on its way. The two ways differ by rounding; see
    `gradsmith.matrix.gram_newton_schulz`.

    A direction: stands before the learning rate. No state. All leaves must be matrices, or stacks
    of them: `partition_by_role` gives the others to another transformation.

    Args:
        method: How; see `gradsmith.matrix.orthogonalize`, also for the next six.
        coefficients: The schedule of 'newton_schulz', by default Keller Jordan's.
        steps: The number of its steps, where the schedule leaves a choice.
        max_error: Instead of these three: the accuracy, for the cheapest method that keeps it.
        normalizer: What 'newton_schulz' divides by.
        eps: What it adds to that.
        precision: The arithmetic of its products; by default the target's fastest.
        postprocess: A rule without state for what comes out, such as a shape scale.
        axes: Which axes of which leaf are fan-in, fan-out and stack; see `per_stack`.
        placement: Where matrices are computed on a mesh; see `per_stack`.

    Raises:
        ValueError: There is no such method or schedule, or no such number of its steps; at `init`,
            the target lacks the precision, nothing keeps `max_error` in the dtype of the matrices,
            or as `per_stack`.
        TypeError: `steps` or `max_error` is an array: they choose the program.

    Examples:
        >>> import jax.numpy as jnp, optax
        >>> import gradsmith as gs
        >>> muon = optax.chain(
        ...     gs.momentum(0.95),
        ...     gs.orthogonalize("svd", postprocess=gs.scale_by_aspect_ratio()),
        ...     optax.scale_by_learning_rate(0.5),
        ... )
        >>> params = {"kernel": jnp.zeros((2, 2))}
        >>> grads = {"kernel": jnp.array([[4.0, 0.0], [0.0, 3.0]])}
        >>> updates, _ = muon.update(grads, muon.init(params))
        >>> print(updates["kernel"])
        [[-0.5 -0. ]
         [-0.  -0.5]]

    References:
        Jordan et al., Muon, 2024, https://kellerjordan.github.io/posts/muon/
    """
    check_fixed("orthogonalize", steps=steps, max_error=max_error)
    request = Request(method, coefficients, steps, max_error, normalizer, precision=precision)
    finish = without_state(postprocess)

    def orthogonalized(grams: Array, eps: Array) -> Array:
        alone = len(grams) == 1
        # XLA may copy what it transposes in a stack of one matrix; in a matrix it never does.
        some, added = (grams[0], eps[0]) if alone else (grams, eps)
        factor = _factor(dataclasses.replace(request, eps=added), some.shape[-1], some.dtype)
        return factor(some)[None] if alone else factor(some)

    on_grams = per_gram(
        orthogonalized,
        scale_free=True,
        length=eps,
        postprocess=postprocess,
        axes=axes,
        placement=placement,
    )
    polar = lambda stack, unit: _run(request, eps, stack, unit)
    kept = lambda stack: kept_narrow(stack, _way(request, eps, stack).arithmetic)
    on_stacks = lift(_OnWhole(polar, kept, finish), axes=axes, placement=placement)

    def road() -> optax.GradientTransformationExtraArgs:
        """Return the transformation for what is compiled for; neither keeps a state."""
        if any(not arithmetic.full for arithmetic in request.arithmetics()):
            return on_stacks
        try:
            _factor(request, 1, jnp.float32)
        except ValueError:
            return on_stacks
        return on_grams

    def init_fn(params: Any) -> Any:
        if axes is None and getattr(params, "ndim", 0) == 3:
            raise ValueError(
                "orthogonalize takes a tree of parameters, and this is one stack of matrices. "
                "Inside per_stack use the rule gradsmith.polar_factor; for a leaf of several "
                "matrices say which axes they have, axes=gradsmith.MatrixAxes(batch_axis=0)"
            )
        leaves = matrix_leaves(axes, params)
        arrays = dict.fromkeys((leaf.axes, leaf.array.shape, leaf.array.dtype) for leaf in leaves)
        for declared, shape, dtype in arrays:
            for _, m, n in declared.stack_shapes(shape):
                request.plan(m, n, dtype)  # what cannot be kept is refused here
        return road().init(params)

    def update_fn(updates: Any, state: Any, params: Any = None, **extra: Any):
        return road().update(updates, state, params, **extra)

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)


def polar_factor(
    method: Method | None = None,
    *,
    coefficients: str | Schedule | None = None,
    steps: int | None = None,
    max_error: float | None = None,
    normalizer: Normalizer | None = None,
    eps: ArrayLike = 0.0,
    precision: Precision | None = None,
) -> optax.GradientTransformation:
    """Give every matrix of a stack singular values of about 1 (a rule).

    Use it inside `per_stack`, among other rules. If there are no others, `orthogonalize` does the
    same in a cheaper form.

    A direction: stands before the learning rate, inside `per_stack`. No state. Costs are those of
    `gradsmith.matrix.orthogonalize`.

    Args:
        method: How; see `gradsmith.matrix.orthogonalize`, also for the next six.
        coefficients: The schedule of 'newton_schulz', by default Keller Jordan's.
        steps: The number of its steps, where the schedule leaves a choice.
        max_error: Instead of these three: the accuracy, for the cheapest method that keeps it.
        normalizer: What 'newton_schulz' divides by.
        eps: What it adds to that.
        precision: The arithmetic of its products; by default the target's fastest.

    Raises:
        ValueError: There is no such method or schedule, or no such number of its steps; at `init`,
            nothing keeps `max_error` in the dtype of the matrices.
        TypeError: `steps` or `max_error` is an array: they choose the program.

    Examples:
        >>> import jax.numpy as jnp
        >>> import gradsmith as gs
        >>> rule = gs.polar_factor("svd")
        >>> stack = jnp.array([[[4.0, 0.0], [0.0, 3.0]]])
        >>> updates, _ = rule.update(stack, rule.init(stack))
        >>> print(updates)
        [[[1. 0.]
          [0. 1.]]]

    References:
        Jordan et al., Muon, 2024, https://kellerjordan.github.io/posts/muon/
    """
    check_fixed("polar_factor", steps=steps, max_error=max_error)
    request = Request(method, coefficients, steps, max_error, normalizer, precision=precision)

    def init_fn(params: Any) -> optax.EmptyState:
        _, m, n = params.shape
        request.plan(m, n, params.dtype)  # what cannot be kept is refused here
        return optax.EmptyState()

    def update_fn(updates: Any, state: Any, params: Any = None) -> Any:
        del params
        return _run(request, eps, jnp.asarray(updates)), state

    return optax.GradientTransformation(init_fn, update_fn)


class _OnWhole(OnStacks):
    """The kernel of methods that need the matrices: only their largest entries go through the rule.

    So matrices are neither put into one stack nor taken out again, and their largest entries are
    read where they are made. At owners `(n, m)` meets `(m, n)`, transposed.
    """

    def __init__(self, polar: Callable, kept: Callable, finish: optax.GradientTransformation):
        super().__init__("orthogonalized", lambda entries: entries)
        self.polar, self.kept, self.finish = polar, kept, finish

    def meets(self, shape: MatrixShape) -> MatrixShape:
        """As `Kernel.meets`."""
        return min(shape), max(shape)

    def dtype(self, dtype: Any) -> jnp.dtype:
        """As `Kernel.dtype`."""
        return wide_dtype(dtype)

    def reduced(self, shape: MatrixShape) -> MatrixShape:
        """As `Kernel.reduced`."""
        del shape
        return 1, 1

    def reduce(self, stack: Array, scales: None) -> Array:
        """As `Kernel.reduce`."""
        del scales
        return largest_entry(self.kept(stack).astype(wide_dtype(stack.dtype)))

    def apply(self, result: Array, stack: Array, scales: None, transposed: Any) -> Array:
        """As `Kernel.apply`."""
        del scales
        return finished(self.finish, self.polar(stack, result.real), transposed)


def _run(request: Request, eps: ArrayLike, stack: Array, unit: Array | None = None) -> Array:
    """Return the polar factors of a stack, some at a time."""
    way = _way(request, eps, stack)
    kept = kept_narrow(stack, way.arithmetic)
    given = [] if unit is None else [unit]
    # As many at once as of those that are not rounded: what a chunk is computed in is as wide.
    at_once = current_target().chunk_bytes * kept.dtype.itemsize // stack.dtype.itemsize
    return in_chunks(way.run, at_once, kept, *given).astype(stack.dtype)


def _way(request: Request, eps: ArrayLike, stack: Array) -> PolarMethod:
    """Return how the matrices of a stack are done."""
    added = jnp.asarray(eps, jnp.finfo(wide_dtype(stack.dtype)).dtype)
    _, m, n = stack.shape
    return dataclasses.replace(request, eps=added).plan(m, n, stack.dtype).way


def _factor(request: Request, n: int, dtype: DTypeLike) -> GramFactor:
    factor = request.plan(n, n, dtype, from_gram=True).factor()
    assert factor is not None
    return factor
