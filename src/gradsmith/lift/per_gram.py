"""The second verb: rules that need only the small Gram matrix of each matrix.

The polar factor, one-sided Shampoo and whatever else is `Q(X X^H) X` need not gather the matrices:
their Gram matrices are smaller, and those of `(m, n)` and of `(n, m)` have one size.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike
from jaxtyping import Array, Inexact

from ..layout.axes import StackShape
from ..layout.bucket import Bucket, plan_buckets
from ..layout.declare import Axes, MatrixLeaf, matrix_leaves
from ..layout.gathering import dtypes, join, split
from ..matrix.norms import largest_entry
from ..matrix.symmetric import apply, gram
from ..sites.in_place import divided, lone
from ..sites.owners import AtOwners
from ..sites.placement import Everywhere, Placement, check_placement, home, site_of
from ..sites.placement import whole as whole_leaf
from ..xla.chunks import in_chunks
from ..xla.dtypes import common_dtype, wide_dtype
from ..xla.order import after
from ..xla.targets import CHUNK_BYTES, PARTS, platform
from .per_stack import StackState, find_key, per_stack, write_down

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

    For every matrix `X`, the rule gets the smaller of `X X^H` and `X^H X` as one of a stack of all
    of that size, and returns as many `Q`; the update becomes `Q X`, or `X Q^H`. The matrices are
    neither gathered nor transposed, and the arithmetic is float32 or better.

    `None` and `optax.MaskedNode` pass through. Costs the two products with `X`, `4 m^2 n` flops a
    matrix for `m <= n`, beside the rule. On CPUs, temporaries are an eighth of the matrices or the
    largest leaf, and the Gram matrices of one size after the other.

    Args:
        rule: A function `(k, n, n) -> (k, n, n)`; or, to keep a state such as running averages, an
            `optax.GradientTransformation` whose parameter is one such array.
        scale_free: Says that `rule(c R) = rule(R) / sqrt(c)`, as inverse roots do. Every matrix is
            then divided by its largest entry first, and neither 1e-30 nor 1e30 is too small or too
            large to be squared.
        length: A number in the units of the matrices, such as an eps beside their norm. A function
            gets it as a second argument `(k, 1, 1)`, divided by what each matrix was divided by.
        postprocess: A rule without state for what comes out, such as a shape scale. It gets the
            stack `(k, fan_in, fan_out)` of one leaf after the other; nothing is gathered.
        axes: As for `per_stack`.
        placement: As for `per_stack`. On a mesh the matrices themselves travel to their owners,
            those of `(n, m)` transposed and together with those of `(m, n)`. One that is alone of
            its size and whole along its short side stays: its Gram matrix is summed from pieces.
        chunk_bytes: How many bytes of Gram matrices a function gets at once; more come in turns.
            By default 512 KiB on CPUs, where that is also fastest, and 512 MiB on accelerators. A
            transformation gets all at once.

    Raises:
        ValueError: As for `per_stack`; or a length is given for a rule that keeps a state.

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
    check_placement(placement)
    has_state = isinstance(rule, optax.GradientTransformation)
    if has_state and length is not None:
        raise ValueError("per_gram gives a length to a function, and the rule keeps a state")
    gram_rule = optax.with_extra_args_support(rule) if has_state else _in_chunks(rule, chunk_bytes)
    finish = optax.identity() if postprocess is None else postprocess

    def init_grams(buckets: Sequence[Bucket], kinds: Sequence[Any]) -> list[Any]:
        pairs = zip(buckets, kinds, strict=True)
        return [gram_rule.init(jnp.zeros(bucket.shape, kind)) for bucket, kind in pairs]

    def transform(stacks, kinds, states, turned: Sequence[Array | None] | None = None, **extra):
        """Return what becomes of stacks `(k, m, n)` of any shapes, and the states of the rule.

        Part after part: the last to give its Gram matrices is the first to be multiplied, so that
        its room is free again for the rest. Where a matrix has come turned, the finishing rule gets
        it as it will be at home.
        """
        wide = [stack.astype(wide_dtype(stack.dtype)) for stack in stacks]
        # By the root of the scale on either side of a product: the scale itself may be too small.
        scale = largest_entry if scale_free else lambda x: jnp.ones((len(x), 1, 1))
        scales = [scale(x) for x in wide]
        roots = [jnp.sqrt(own) for own in scales]
        lengths = [] if length is None else [jnp.asarray(length, own.dtype) / own for own in scales]
        sizes = [x.size * x.dtype.itemsize for x in wide]
        buckets = _buckets([_shape(stack) for stack in stacks])
        outs, kept, turn = dict[int, Array](), [], jnp.int32(0)

        def root(index):
            return jnp.where(turn < 0, 0.0, roots[index]).astype(wide[index].dtype)

        for bucket, kind, own in zip(buckets, kinds, states, strict=True):
            parts = bucket.parts(sizes, sum(sizes) // PARTS[platform()])
            grams: Any = None
            for part in parts:
                each = {i: gram(wide[i], root(i), root(i)) for i in part.members}
                some = part.gather(each, kind)
                if grams is None:  # zeros to write all of them into would be there from the start
                    rest = bucket.shape[0] - len(some)
                    grams = jnp.pad(some, [(0, rest), (0, 0), (0, 0)])
                else:
                    grams = jax.lax.dynamic_update_slice_in_dim(grams, some, turn, 0)
                turn = after(turn + len(some), some)
            if length is not None:
                extra["gram_lengths"] = bucket.gather(lengths, jnp.finfo(kind).dtype)
            q, own = gram_rule.update(grams, own, **extra)
            kept.append(own)
            for part in reversed(parts):
                k = part.shape[0]
                turn = turn - k
                factors = part.scatter(jax.lax.dynamic_slice_in_dim(jnp.asarray(q), turn, k))
                for i in reversed(part.members):
                    factor = factors[i].astype(wide[i].dtype) / root(i)
                    out = apply(factor, wide[i]) / root(i)
                    outs[i] = finished(out, None if turned is None else turned[i])
                turn = after(turn, outs[part.members[0]])
        return [outs[i] for i in range(len(wide))], kept

    def finished(stack: Array, mask: Any) -> Array:
        done = jnp.asarray(finish.update(stack, finish.init(stack))[0])
        if mask is None:
            return done
        other = jnp.asarray(finish.update(stack.mT, finish.init(stack.mT))[0])
        return jnp.where(mask[:, None, None], other.mT, done)

    def init_stack(params: Any) -> Any:
        return init_grams(_buckets([_shape(params)]), [wide_dtype(params.dtype)])[0]

    def update_stack(updates: Any, state: Any, params: Any = None, **extra_args: Any):
        del params
        kinds = [wide_dtype(updates.dtype)]
        (out,), (state,) = transform([updates], kinds, [state], **extra_args)
        return out.astype(updates.dtype), state

    whole = optax.GradientTransformationExtraArgs(init_stack, update_stack)
    if has_state and placement != "replicated":
        return per_stack(whole, axes=axes, placement=placement)

    def init_fn(params: Any) -> StackState:
        leaves = matrix_leaves(axes, params)
        if not leaves:
            # A leaf, for `optax.tree.map_params`: see `per_stack`.
            return StackState(jnp.zeros((), jnp.int32))  # pyright: ignore[reportArgumentType]
        buckets = _buckets([shape for own in leaves for shape in _shapes(own)])
        kinds = [wide_dtype(dtype) for dtype in dtypes(buckets, leaves)]
        keys = [f"{b.name} {kind.name}" for b, kind in zip(buckets, kinds, strict=True)]
        write_down(buckets, keys, leaves)
        return StackState(dict(zip(keys, init_grams(buckets, kinds), strict=True)))

    def update_fn(updates: Any, state: Any, params: Any = None, **extra_args: Any):
        del params
        leaves = matrix_leaves(axes, updates)
        if not leaves:
            return updates, state
        site = site_of(placement, leaves, _meeting(leaves))
        if not isinstance(site, Everywhere):
            step = functools.partial(at_owners, **extra_args)
            joined = dict[int, Array]()
            for part, which in _parts(site, placement, leaves):
                nothing = [() for _ in part.buckets]
                own = [leaves[index] for index in which]
                outs, _ = part.update(step, lambda stacks, n=nothing: n, own, None, nothing)
                joined |= zip(which, outs, strict=True)
            outs = [joined[index] for index in range(len(leaves))]
            return jax.tree.unflatten(jax.tree.structure(updates), outs), state
        stacks = split(leaves, [whole_leaf(own.leaf) for own in leaves])
        keys = [find_key(state, b) for b in _buckets([_shape(stack) for stack in stacks])]
        kinds = [key.partition(" ")[2] for key in keys]
        own = [state.buckets[key] for key in keys]
        outs, own = transform(stacks, kinds, own, **extra_args)
        state = StackState(dict(zip(keys, own, strict=True)))
        joined = join(dict(enumerate(outs)), leaves, [own.leaf.shape for own in leaves])
        return jax.tree.unflatten(jax.tree.structure(updates), home(joined, leaves)), state

    def at_owners(stacks, params, nothing, turned, **extra_args):
        """Update the stacks of one owner, of any shapes: Gram matrices of one size meet here."""
        del params
        grams = _buckets([_shape(stack) for stack in stacks])
        dtypes_of = lambda bucket: (stacks[index].dtype for index in bucket.members)
        kinds = [wide_dtype(common_dtype(*dtypes_of(bucket))) for bucket in grams]
        states = [optax.EmptyState()] * len(grams)
        return transform(stacks, kinds, states, turned, **extra_args)[0], nothing

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)


def _in_chunks(
    f: Callable[..., Grams], chunk_bytes: int | None
) -> optax.GradientTransformationExtraArgs:
    """Make a rule of a function that gets no more than so many bytes at once."""

    def update_fn(
        updates: Any, state: Any, params: Any = None, *, gram_lengths: Any = None, **extra_args: Any
    ):
        del params, extra_args
        limit = CHUNK_BYTES[platform()] if chunk_bytes is None else chunk_bytes
        given = () if gram_lengths is None else (gram_lengths,)

        def stacked(grams: Array, *given: Array) -> Array:
            if grams.ndim > 2:
                return f(grams, *given)
            return f(grams[None], *(x[None] for x in given))[0]

        return in_chunks(stacked, limit, updates, *given), state

    return optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), update_fn)


def _parts(site: Any, placement: Placement, leaves: Sequence[MatrixLeaf]) -> list[Any]:
    """Return the sites of leaves that would be at this one, each with the indices of its leaves."""
    alone = lone(site, leaves) if isinstance(site, AtOwners) else []
    if not alone:
        return [(site, range(len(leaves)))]
    rest = [index for index in range(len(leaves)) if index not in alone]
    parts: list[Any] = [(divided(site, leaves, alone), alone)]
    if rest:
        others = [leaves[index] for index in rest]
        parts.append((site_of(placement, others, _meeting(others)), rest))
    return parts


def _shape(stack: Array) -> StackShape:
    k, m, n = stack.shape
    return k, m, n


def _shapes(own: MatrixLeaf) -> list[StackShape]:
    return own.axes.stack_shapes(own.leaf.shape)


def _buckets(shapes: Sequence[StackShape]) -> tuple[Bucket, ...]:
    """Return the buckets of the Gram matrices of stacks of these shapes."""
    return plan_buckets([(k, min(m, n), min(m, n)) for k, m, n in shapes])


def _meeting(leaves: Sequence[MatrixLeaf]) -> tuple[Bucket, ...]:
    """Return the buckets in which matrices travel: `(n, m)` and `(m, n)` meet."""
    shapes = [shape for own in leaves for shape in _shapes(own)]
    return plan_buckets([(k, min(m, n), max(m, n)) for k, m, n in shapes])
