"""Keep of a stored state what fits the optimizer, the parameters and the mesh of today."""

from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from jax.sharding import Mesh

from ..layout.key import BucketKey
from ..layout.paths import path_name
from .state_shardings import mesh_of_params, state_shardings

_SHOWN = 8  # paths in a sentence


class StateFit(NamedTuple):
    """A state, and what of it was not stored as it is now.

    Attributes:
        state: The state, ready for `update`.
        new: The paths of arrays that nothing was stored for; they are as `init` makes them.
        missing: The paths of stored arrays that the state has no place for.
        reshaped: The paths of arrays stored with a shape that does not fit; as `init` makes them.
        converted: The paths of arrays that were stored in another dtype.
    """

    state: Any
    new: tuple[str, ...]
    missing: tuple[str, ...]
    reshaped: tuple[str, ...]
    converted: tuple[str, ...]

    @property
    def complete(self) -> bool:
        """Whether everything stored was kept, and nothing had to be made."""
        return not (self.new or self.missing or self.reshaped or self.converted)

    def __str__(self) -> str:
        said = {
            "new, as init makes them": self.new,
            "stored, but no longer part of the state": self.missing,
            "stored with another shape, now as init makes them": self.reshaped,
            "stored in another dtype, converted": self.converted,
        }
        lines = [f"{what}: {_listed(paths)}" for what, paths in said.items() if paths]
        return "\n".join(lines) or "everything was kept"


def fit_state(
    tx: optax.GradientTransformation, params: Any, stored: Any, *, allow_incomplete: bool = False
) -> StateFit:
    """Return the state of `tx` for `params`, made of a stored state.

    Use it for a checkpoint of another mesh, and for a chain that has changed since. Arrays are
    matched by path. What a rule keeps for a bucket has as many places as divide evenly among the
    owners, so the first matrices may stand twice. These arrays are cut to the number of matrices
    and filled anew. Everything that fits is kept to the bit.

    Args:
        tx: The optimizer of today.
        params: Its parameters, on the mesh of today if there is one.
        stored: The stored state: as it was, or as Orbax restores it without a target, in dicts and
            lists. NumPy arrays are enough.
        allow_incomplete: Keep what fits, if not everything does. The result says what is new,
            missing, reshaped and converted.

    Raises:
        ValueError: Not everything fits, and `allow_incomplete` is not set.

    Examples:
        >>> import jax.numpy as jnp, optax
        >>> import gradsmith as gs
        >>> params = {"kernel": jnp.ones((2, 2))}
        >>> stored = optax.chain(optax.trace(0.9)).init(params)
        >>> tx = optax.chain(optax.trace(0.9), optax.scale_by_schedule(lambda step: 0.1))
        >>> print(gs.fit_state(tx, params, stored, allow_incomplete=True))
        new, as init makes them: 1/count
    """
    state = _init(tx, params)
    found = {_place(path_name(path)): (path_name(path), x) for path, x in _leaves(stored)}
    kept, new, reshaped, converted = [], [], [], []
    for path, fresh in _leaves(state):
        name = path_name(path)
        place = _place(name)
        if place not in found:  # Orbax restores a variable of Flax as a dict of its value
            place += "/value"
        if place not in found:
            new.append(name)
            kept.append(fresh)
            continue
        _, old = found.pop(place)
        old = _refilled(name, old, fresh.shape)
        if np.shape(old) != fresh.shape:
            reshaped.append(name)
            kept.append(fresh)
            continue
        if old.dtype != fresh.dtype:
            converted.append(name)
            old = old.astype(fresh.dtype)
        kept.append(jax.device_put(old, fresh.sharding))
    missing = tuple(name for name, _ in found.values())
    fitted = jax.tree.unflatten(jax.tree.structure(state), kept)
    fit = StateFit(fitted, tuple(new), missing, tuple(reshaped), tuple(converted))
    if not (fit.complete or allow_incomplete):
        raise ValueError(
            f"the stored state is not that of this optimizer and these parameters:\n{fit}\n"
            "To go on with what fits: fit_state(..., allow_incomplete=True)"
        )
    return fit


def _listed(paths: tuple[str, ...]) -> str:
    rest = len(paths) - _SHOWN
    return ", ".join(paths[:_SHOWN]) + (f" and {rest} more" if rest > 0 else "")


def _init(tx: optax.GradientTransformation, params: Any) -> Any:
    mesh = mesh_of_params(params)
    if mesh is None:
        return tx.init(params)
    assert isinstance(mesh, Mesh)  # arrays lie on devices
    with jax.set_mesh(mesh):
        return jax.jit(tx.init, out_shardings=state_shardings(tx, params))(params)


def _leaves(tree: Any) -> list[tuple[tuple, Any]]:
    return jax.tree_util.tree_leaves_with_path(tree)


def _place(name: str) -> str:
    """Return a path without the dtype of its bucket, which may have changed."""
    parts = [(part, BucketKey.parse(part)) for part in name.split("/")]
    return "/".join(part if key is None else key.shape_name for part, key in parts)


def _refilled(name: str, old: Any, shape: tuple[int, ...]) -> Any:
    """Return what is stored for a bucket with as many matrices as are needed now."""
    key = next(filter(None, map(BucketKey.parse, name.split("/"))), None)
    now = np.shape(old)
    if key is None or len(now) != len(shape):
        return old
    differs = [axis for axis, size in enumerate(shape) if size != now[axis]]
    if len(differs) != 1 or min(now[differs[0]], shape[differs[0]]) < key.matrices:
        return old
    (axis,) = differs
    again = np.resize(np.arange(key.matrices), shape[axis])
    return np.take(np.asarray(old), again, axis)
