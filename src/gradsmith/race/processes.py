"""Processes that `jax.distributed` has joined: what they tell each other.

All of them compute each run together. The first one decides, and has the folder to itself. Every
function here is called by all of them at the same moment; for a single process it does nothing.
"""

import pickle
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jaxtyping import PyTree

T = TypeVar("T")

BLOCK = 1 << 24  # bytes that are told at a time, at most


def joined() -> bool:
    """Whether there are several."""
    return jax.process_count() > 1


def is_first() -> bool:
    """Whether this is the one that decides, or the only one."""
    return jax.process_index() == 0


def agreed(value: T) -> T:
    """The value of the first process, in each of them; what the others give is dropped.

    Args:
        value: Whatever `pickle` takes.

    Examples:
        >>> agreed({"rate": 0.1})
        {'rate': 0.1}
    """
    if not joined():
        return value
    content = pickle.dumps(value) if is_first() else b""
    length = int.from_bytes(_told(len(content).to_bytes(8, "big"), 8), "big")
    # Few sizes, because each is a program: powers of two, and the largest one for what is large.
    size = min(BLOCK, 1 << max(8, (length - 1).bit_length()))
    blocks = [_told(content[at : at + size], size) for at in range(0, length, size)]
    return pickle.loads(b"".join(blocks)[:length])


def all_alike(text: str) -> bool:
    """Whether all processes give the same text."""
    if not joined():
        return True
    return bool(multihost_utils.process_allgather(np.array(text == agreed(text))).all())


def whole(tree: PyTree) -> PyTree:
    """The tree with whole arrays of NumPy, each of them in every process.

    Keys of random numbers become their data. For a single process the tree stays as it is.
    """
    if not joined():
        return tree

    def gather(leaf) -> np.ndarray:
        leaf = _data(leaf)
        if not isinstance(leaf, jax.Array) or leaf.is_fully_addressable:
            return np.asarray(leaf)
        return multihost_utils.process_allgather(leaf, tiled=True)

    return jax.tree.map(gather, tree)


def as_it_lies(tree: PyTree, like: PyTree) -> PyTree:
    """What `whole` made of a tree, put where the arrays of another such tree lie."""
    if not joined():
        return tree

    def put(leaf: np.ndarray, like):
        if not isinstance(like, jax.Array):
            return leaf
        home = _data(like).sharding
        array = jax.make_array_from_callback(leaf.shape, home, lambda index: leaf[index])
        if _is_key(like):
            return jax.random.wrap_key_data(array, impl=jax.random.key_impl(like))
        return array

    return jax.tree.map(put, tree, like)


def _data(leaf):
    return jax.random.key_data(leaf) if _is_key(leaf) else leaf


def _is_key(leaf) -> bool:
    return jnp.issubdtype(jnp.result_type(leaf), jax.dtypes.prng_key)


def _told(content: bytes, size: int) -> bytes:
    """The bytes of the first process, with zeros up to the size."""
    block = np.frombuffer(content.ljust(size, b"\0"), np.uint8)
    return multihost_utils.broadcast_one_to_all(block).tobytes()
