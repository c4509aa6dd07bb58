"""Look at every so many steps of any optimizer, from inside, and change nothing."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import optax
from jax.sharding import PartitionSpec
from jax.typing import ArrayLike
from jaxtyping import Array, Int

from ..layout.declare import Axes
from ..layout.paths import arrays, path_name
from ..sites.shards import explicit_mesh, in_auto_axes
from ..transforms.arguments import check_cadence
from ..xla.trace_without_mesh import shape_without_mesh
from ..xla.varying import mean_of_devices
from .readings.bases import bases
from .readings.directions import directions
from .readings.shares import shares
from .readings.sizes import sizes
from .readings.spectra import spectra
from .readings.step import Reading, WatchedStep
from .seen import plan_of, step_of

GROUPS: dict[str, Reading | Callable] = {
    "sizes": sizes,
    "directions": directions,
    "spectra": spectra,
    "shares": shares,
    "bases": bases,
}


class WatchState(NamedTuple):
    """The state of the watched transformation, and what was read of it last."""

    inner_state: Any
    step: Int[Array, ""]  # finished updates
    read_at: Int[Array, ""]  # the number of the update that was read; 0 before the first reading
    readings: Any  # a dict of float32 arrays by name
    kept: Any  # what each reading keeps, by its number


def watch(
    tx: optax.GradientTransformation,
    *,
    every: ArrayLike = 50,
    readings: Sequence[str | Reading | Callable[[WatchedStep], Mapping[str, Array]]] | None = None,
    axes: Axes = None,
) -> optax.GradientTransformationExtraArgs:
    """Do what `tx` does, and read what it does to the model in every so many steps.

    Updates are those of `tx` to the bit. Steps between two readings only compute whether a reading
    is due. The step before a reading keeps what the reading compares with. Under `jax.vmap` over
    states the counters differ for the compiler, and every step computes everything. State: a few
    numbers for each matrix, and a sample of about a thousand. `update_cost` tells the cost of a
    step that is read. Subtract that of `tx` and divide by `every` for the mean.

    Each matrix of a stack has numbers of its own. `axes` says which axes make a matrix, or else a
    rule of `tx`, or else the names. A leaf whose axes nobody tells is read as a vector. On a mesh
    XLA splits the work as the leaves are split. Inside `jax.shard_map` a reading is the mean over
    devices of what each sees. If `update` gets no params, readings that need them are NaN.

    Args:
        tx: Any Optax transformation: a whole optimizer, or a part of a chain.
        every: The number of steps between readings. The first is of step number `every`.
        readings: Groups by name, 'sizes', 'directions', 'spectra', 'shares', 'bases', and readings
            of your own; by default all groups. See `Reading`.
        axes: As for `per_stack`.

    Raises:
        ValueError: `every` is less than 1; no group has that name; or, at `init`, two readings have
            one name.
        TypeError: `readings` is a string; or, at `init`, a reading returns something else than
            arrays by name.

    Examples:
        >>> import jax.numpy as jnp
        >>> import gradsmith as gs
        >>> optimizer = gs.watch(gs.muon(0.02), every=2)
        >>> params = {"kernel": jnp.ones((4, 8))}
        >>> state = optimizer.init(params)
        >>> for _ in range(2):
        ...     updates, state = optimizer.update(params, state, params)
        >>> for name in ("step", "kernel/update_ratio", "kernel/cosine_gradient"):
        ...     print(name, gs.readings(state)[name].round(2))
        step 2
        kernel/update_ratio -2.46
        kernel/cosine_gradient 1.0
    """
    check_cadence("watch", every=every)
    if isinstance(readings, str):
        raise TypeError(f"readings are several: write readings=({readings!r},)")
    tx = optax.with_extra_args_support(tx)
    chosen = [_reading(one) for one in (GROUPS if readings is None else readings)]

    def init_fn(params: Any) -> WatchState:
        inner, zero = tx.init(params), lambda: jnp.zeros((), jnp.int32)  # each may be donated
        params = arrays(params)
        if not jax.tree.leaves(params):
            # Leaves, so that `optax.tree.map_params`, which compares, passes over the readings.
            return WatchState(inner, zero(), zero(), zero(), zero())
        plan = plan_of(tx, axes, params)

        def look(params: Any, inner: Any) -> tuple[Any, Any]:
            step = step_of(plan, jnp.ones((), jnp.int32), params, params, params, inner)
            kept = _keep(chosen, step, _keep(chosen, step, {}, early=True), early=False)
            return _read(chosen, step, kept), kept

        seen = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), (params, inner))
        shapes = shape_without_mesh(look, *seen)
        empty = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
        return WatchState(inner, zero(), zero(), *empty)

    def update_fn(updates: Any, state: Any, params: Any = None, **extra: Any):
        out, inner = tx.update(updates, state.inner_state, params, **extra)
        number = jnp.asarray(optax.safe_increment(state.step))
        state = state._replace(inner_state=inner, step=number)
        if not isinstance(state.readings, dict):
            return out, state
        gradients = arrays(updates)
        plan = plan_of(tx, axes, gradients)
        seen = (number, gradients, arrays(out), arrays(params), inner)

        def read(kept: Any, *seen: Any) -> tuple[Any, Any]:
            step = step_of(plan, *seen)
            return _read(chosen, step, kept), _keep(chosen, step, kept, early=False)

        def keep(kept: Any, *seen: Any) -> Any:
            return _keep(chosen, step_of(plan, *seen), kept, early=True)

        due, soon = (jax.lax.rem(x, jnp.asarray(every, x.dtype)) == 0 for x in (number, number + 1))
        old = state.readings, state.kept
        found, kept = _where(due, read, old, state.kept, *seen)
        if any(one.keep is not None and one.keeps_before for one in chosen):
            kept = _where(soon, keep, kept, kept, *seen)
        read_at = jnp.where(due, number, state.read_at)
        return out, state._replace(read_at=read_at, readings=found, kept=kept)

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)


def readings(state: Any) -> dict[str, Array]:
    """Return what `watch` has read last, by path and reading, and the number of that step.

    The dict is flat, and its arrays are small: a number for a leaf of one matrix, `(k,)` for a leaf
    of several, `(8,)` or `(k, 8)` for a spectrum. A jitted step can return it. Before the first
    reading, `step` is 0, and so are all others. If there are several `watch`, names begin with the
    path of each in the state.

    Args:
        state: The state of the whole optimizer; the `watch` may be anywhere in it.

    Raises:
        ValueError: There is none.
    """
    found = list(_watched(state, ()))
    if not found:
        raise ValueError(
            "nothing in this state is watched: build it with gradsmith.watch(optimizer, every=50)"
        )
    named = {}
    for path, one in found:
        prefix = "" if len(found) == 1 else path_name(path) + "/"
        read = one.readings if isinstance(one.readings, dict) else {}
        named |= {f"{prefix}{name}": x for name, x in {"step": one.read_at, **read}.items()}
    return named


def _watched(node: Any, path: tuple) -> Iterator[tuple[tuple, WatchState]]:
    is_watched = lambda x: isinstance(x, WatchState)
    for below, child in jax.tree_util.tree_leaves_with_path(node, is_leaf=is_watched):
        if is_watched(child):
            yield (*path, *below), child
            yield from _watched(child.inner_state, (*path, *below))


def _reading(one: Any) -> Reading:
    if isinstance(one, str) and one not in GROUPS:
        raise ValueError(f"no group of readings is called {one!r}; there are {', '.join(GROUPS)}")
    chosen: Any = GROUPS[one] if isinstance(one, str) else one
    if isinstance(chosen, Reading):
        return chosen
    if not callable(chosen):
        raise TypeError(
            f"a reading is the name of a group, a gradsmith.Reading, or a function of a step that "
            f"returns arrays by name; got {one!r}"
        )
    return Reading(cast(Any, chosen))


def _read(
    chosen: Sequence[Reading], step: WatchedStep, kept: Mapping[str, Any]
) -> dict[str, Array]:
    found: dict[str, Array] = {}
    for index, one in enumerate(chosen):
        name = getattr(one.read, "__name__", repr(one.read))
        read = one.read(step.remembering(kept.get(str(index), {})))
        if not isinstance(read, Mapping):
            raise TypeError(f"the reading {name} returned {read!r}; it returns arrays by name")
        if twice := found.keys() & read.keys():
            raise ValueError(f"two readings are called {min(twice)!r}; rename that of {name}")
        found |= {key: jnp.asarray(value).astype(jnp.float32) for key, value in read.items()}
    return found


def _keep(
    chosen: Sequence[Reading], step: WatchedStep, kept: Mapping[str, Any], early: bool
) -> dict[str, Any]:
    """Return what is kept, anew where it is the time for it."""
    new = {
        str(index): {**kept.get(str(index), {}), **one.keep(step)}
        for index, one in enumerate(chosen)
        if one.keep is not None and one.keeps_before == early
    }
    return {**kept, **new}


def _where(due: Array, look: Callable[..., Any], old: Any, *seen: Any) -> Any:
    """Return what `look` sees if it is due, else what there was.

    A name that `look` no longer has, because there are no params or a leaf is masked, is NaN.
    """
    places, structure = jax.tree_util.tree_flatten_with_path(old)

    def flat(*seen: Any) -> list[Array]:
        found = dict(jax.tree_util.tree_leaves_with_path(look(*seen)))
        lost = lambda x: jnp.full(x.shape, jnp.nan, x.dtype)
        new = [found[path].astype(x.dtype) if path in found else lost(x) for path, x in places]
        return mean_of_devices(new)

    mesh = explicit_mesh(seen)
    everywhere = [PartitionSpec()] * len(places)
    run = flat if mesh is None else in_auto_axes(flat, everywhere, mesh)
    same = lambda *seen: [x for _, x in places]
    return jax.tree.unflatten(structure, jax.lax.cond(due, run, same, *seen))
