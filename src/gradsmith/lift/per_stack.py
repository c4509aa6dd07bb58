"""The one verb: what an optimizer does to a stack of matrices becomes what it does to any model."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Shaped

from ..layout.bucket import Bucket, plan_buckets
from ..layout.decision_log import decision_log
from ..layout.declare import Axes, MatrixLeaf, matrix_leaves
from ..layout.gathering import dtypes
from ..sites.placement import Placement, check_placement, site_of


class StackState(NamedTuple):
    """The state of a rule, one for each bucket, in the bucket it is computed in.

    The keys name bucket and dtype, `'12x768x3072 float32'`. The dtype is that of the parameters at
    `init`; later gradients of another dtype are converted to it, and their updates back.
    """

    buckets: dict[str, Any]


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
    arguments as they come. A chain of rules is a rule.

    On a mesh every device owns some of the matrices, and their state. `rule` must treat each matrix
    by itself: what it keeps for all of them, such as a counter, must not depend on them.

    `None` and `optax.MaskedNode` pass through. Costs a copy of the updates each way.

    Args:
        rule: What happens to a stack of matrices.
        axes: Which axes of which leaf are fan-in, fan-out and stack, and where it is cut: one
            `MatrixAxes`, a tree or prefix of them, or a function of path and leaf that returns one.
            None is what the names tell: `(in, out)` at rank 2, `(out, in)` for a `weight`.
        placement: Where matrices are computed on a mesh: 'owners' gives each device whole matrices
            of its own, and to `rule` these alone; 'replicated' gives every device all. `Owners`
            has options, and is needed on a mesh of Auto axes.

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
    check_placement(placement)
    rule = optax.with_extra_args_support(rule)

    def make(keys):
        pairs = lambda stacks: zip(keys, stacks, strict=True)
        return lambda stacks: [rule.init(x.astype(_dtype(key))) for key, x in pairs(stacks)]

    def init_fn(params):
        matrices = matrix_leaves(axes, params)
        if not matrices:
            # A leaf, so that `optax.tree.map_params`, which calls `init` with a tree that has no
            # leaves and compares, passes over the state of a real tree as a whole.
            return StackState(jnp.zeros((), jnp.int32))  # pyright: ignore[reportArgumentType]
        buckets = _buckets(matrices)
        held = zip(buckets, dtypes(buckets, matrices), strict=True)
        keys = [f"{bucket.name} {dtype.name}" for bucket, dtype in held]
        write_down(buckets, keys, matrices)
        states = site_of(placement, matrices, buckets).init(make(keys), matrices)
        return StackState(dict(zip(keys, states, strict=True)))

    def update_fn(updates, state, params=None, **extra_args):
        matrices = matrix_leaves(axes, updates)
        if not matrices:
            return updates, state
        buckets = _buckets(matrices)
        keys = [find_key(state, bucket) for bucket in buckets]

        def step(stacks, param_stacks, states, turned):
            del turned  # a bucket of this verb has matrices of one shape
            outs = []
            for i, (key, stack, own) in enumerate(zip(keys, stacks, states, strict=True)):
                theirs = None if param_stacks is None else param_stacks[i].astype(_dtype(key))
                outs.append(rule.update(stack.astype(_dtype(key)), own, theirs, **extra_args))
            return [jnp.asarray(out) for out, _ in outs], [own for _, own in outs]

        leaves, states = site_of(placement, matrices, buckets).update(
            step,
            make(keys),
            matrices,
            None if params is None else _like(matrices, params),
            [state.buckets[key] for key in keys],
        )
        states = StackState(dict(zip(keys, states, strict=True)))
        return jax.tree.unflatten(jax.tree.structure(updates), leaves), states

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)


def per_matrix(
    step: Callable[[Shaped[Array, "m n"]], Shaped[Array, "m n"]] | optax.GradientTransformation,
    *,
    axes: Axes = None,
    placement: Placement = "owners",
) -> optax.GradientTransformationExtraArgs:
    """Make what you wrote for one matrix a transformation of any tree of parameters.

    Args:
        step: A function `(m, n) -> (m, n)` of one update, `m` being fan-in and `n` fan-out; or an
            `optax.GradientTransformation` with state, written for one such array as its parameter.
        axes: As for `per_stack`.
        placement: As for `per_stack`.

    `step` runs under `jax.vmap` over the matrices of a bucket. Its state may be any tree: counters,
    None, dicts, `(m, m)` factors; each matrix has its own. Two things follow from `vmap`. A
    `lax.cond` whose predicate differs between matrices computes both branches, every time: where
    the branch is worth skipping, write a rule with one scalar counter for `per_stack`. And a random
    key that `init` makes is the same for every matrix: fold something of the matrix into it.

    Raises:
        ValueError: As for `per_stack`; or `step` returns another shape than it was given.

    Examples:
        >>> import jax.numpy as jnp, optax
        >>> import gradsmith as gs
        >>> def unit_columns(update):
        ...     return update / jnp.linalg.norm(update, axis=0, keepdims=True)
        >>> optimizer = optax.chain(gs.per_matrix(unit_columns), optax.scale_by_learning_rate(0.5))
        >>> params = {"kernel": jnp.zeros((2, 2))}
        >>> grads = {"kernel": jnp.array([[3.0, 0.0], [0.0, 4.0]])}
        >>> updates, _ = optimizer.update(grads, optimizer.init(params))
        >>> print(updates["kernel"])
        [[-0.5 -0. ]
         [-0.  -0.5]]
    """
    if isinstance(step, optax.GradientTransformation):
        rule = _mapped(step)
    elif callable(step):
        rule = _stateless(step)
    else:
        raise TypeError(
            f"per_matrix takes a function of one matrix or an optax.GradientTransformation, "
            f"got {step!r}"
        )
    return per_stack(rule, axes=axes, placement=placement)


def _mapped(one: optax.GradientTransformation) -> optax.GradientTransformationExtraArgs:
    """Turn a transformation of one matrix into a rule."""
    one = optax.with_extra_args_support(one)

    def update_fn(updates, state, params=None, **extra_args):
        update_one = lambda u, s, p: one.update(u, s, p, **extra_args)
        return jax.vmap(update_one)(updates, state, params)

    return optax.GradientTransformationExtraArgs(jax.vmap(one.init), update_fn)


def _stateless(step: Callable) -> optax.GradientTransformation:
    """Turn a function of one matrix into a rule."""

    def update_one(update):
        out = step(update)
        if jnp.shape(out) != update.shape:
            name = getattr(step, "__name__", repr(step))
            raise ValueError(
                f"{name} returned shape {jnp.shape(out)} for a matrix of shape {update.shape}; "
                f"a rule returns an update of the shape it was given"
            )
        return out

    return optax.stateless(lambda updates, params: jax.vmap(update_one)(updates))


def _like(matrices: list[MatrixLeaf], tree: Any) -> list[MatrixLeaf]:
    """Return the leaves of `tree` with the axes of those they belong to."""
    leaves = jax.tree.leaves(tree)
    if len(leaves) != len(matrices):
        raise ValueError(
            f"the updates have {len(matrices)} leaves and params have {len(leaves)}; "
            f"call update(updates, state, params) with trees of one structure"
        )
    return [own._replace(leaf=leaf) for own, leaf in zip(matrices, leaves, strict=True)]


def _buckets(matrices: list[MatrixLeaf]) -> tuple[Bucket, ...]:
    return plan_buckets([s for _, leaf, axes in matrices for s in axes.stack_shapes(leaf.shape)])


def _dtype(key: str) -> str:
    return key.partition(" ")[2]


def find_key(state: StackState, bucket: Bucket) -> str:
    """Return the key of the bucket in the state, which tells the dtype it was given at `init`."""
    for key in state.buckets:
        if key.partition(" ")[0] == bucket.name:
            return key
    raise ValueError(
        f"the state has no bucket {bucket.name}, only {', '.join(state.buckets)}: it was made by "
        f"init for other parameters than these updates; call init(params) again"
    )


def write_down(buckets: tuple[Bucket, ...], keys: list[str], matrices: list[MatrixLeaf]) -> None:
    """Write into the decision log who computes these matrices, and in which buckets."""
    for path, _, _ in matrices:
        decision_log().steps.setdefault(path, []).append(("the matrix rule", "direction"))
    owners = [own for own in matrices for _ in own.axes.stack_shapes(own.leaf.shape)]
    for bucket, key in zip(buckets, keys, strict=True):
        for index, count in zip(bucket.members, bucket.counts, strict=True):
            path, _, axes = owners[index]
            decision_log().axes.setdefault(path, axes)
            decision_log().buckets.setdefault(path, []).append((key, count))
