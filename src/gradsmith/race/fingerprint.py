"""What a program is known by: results of another one are never taken for its own."""

import hashlib
import re

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

_CALLS_PYTHON = re.compile(r"custom_call @\w*callback|stablehlo\.(send|recv)\b")


def program_fingerprint(*programs: jax.stages.Lowered) -> str | None:
    """The hash of the programs with all their constants; None if one calls back into Python.

    A program holds everything that decides what it computes, wherever it was written: the file of
    the factory, what that imports, an installed package, an option. A change that leaves the
    program as it was, such as a comment, leaves the hash.

    What a callback does is not in the program. Then there is nothing to go by.

    Examples:
        >>> import jax
        >>> one, other = (jax.jit(lambda x: x * c).lower(1.0) for c in (2.0, 3.0))
        >>> program_fingerprint(one) == program_fingerprint(other)
        False
    """
    found = hashlib.sha256()
    for program in programs:
        text = program.as_text()
        if _CALLS_PYTHON.search(text):
            return None
        found.update(text.encode())
    return found.hexdigest()


def data_fingerprint(data: PyTree) -> str:
    """The hash of the arrays of a tree, with their shapes and dtypes, and of its structure.

    Examples:
        >>> data_fingerprint({"a": np.zeros(2)}) == data_fingerprint({"b": np.zeros(2)})
        False
    """
    leaves, structure = jax.tree.flatten(data)
    found = hashlib.sha256(str(structure).encode())
    for leaf in leaves:
        if jnp.issubdtype(jnp.result_type(leaf), jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        array = np.ascontiguousarray(leaf)
        found.update(f"{array.dtype}{array.shape}".encode())
        found.update(array.tobytes())
    return found.hexdigest()
