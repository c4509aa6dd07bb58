"""What an optimizer costs, measured beside the checks."""

import time

import jax
import numpy as np

from .bench import Bench
from .program import equations


def measure(bench: Bench) -> dict[str, float]:
    """Size of the state, length of the program, time of one compilation.

    Returns:
        `state_bytes_per_parameter_byte`: 2 for Adam in float32, counters aside.
        `equations_per_leaf`: equations in the program of `update`, those inside calls included,
        divided by the number of parameter arrays.
        `compile_seconds`: to trace and compile one step of the small problem.
    """
    args = (bench.grads, bench.state, bench.params)
    start = time.perf_counter()
    jax.jit(lambda *args: bench.update(*args)).lower(*args).compile()
    seconds = time.perf_counter() - start
    leaves = len(jax.tree.leaves(bench.params))
    return {
        "state_bytes_per_parameter_byte": _bytes(args[1]) / _bytes(bench.params),
        "equations_per_leaf": len(list(equations(bench.program(*args)))) / leaves,
        "compile_seconds": seconds,
    }


def _bytes(tree) -> float:
    """Bytes of the arrays that are not scalars: counters would drown in so small a problem."""
    return float(sum(leaf.nbytes for leaf in jax.tree.leaves(tree) if np.ndim(leaf)))
