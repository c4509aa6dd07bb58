"""Price updates on TPUs that need not be there."""

import math
import sys
from collections.abc import Sequence
from typing import Any

import jax

from ..observe.update_cost import update_cost
from ..xla.topologies import NoCompilerError, devices_of
from .cost_request import CostRequest, Costs
from .loading import UsageError


def costs_on(request: CostRequest, params: Any, topologies: Sequence[str]) -> Costs:
    """Return what updates cost on each topology, by optimizer."""
    rows: Costs = []
    for topology in topologies:
        try:
            devices_of(topology)
        except (ValueError, NoCompilerError) as error:
            raise UsageError(str(error)) from error
        print(f"compiling for {topology}: minutes ...", file=sys.stderr)
        price = lambda tx, topology=topology: update_cost(tx, params, on=topology)
        rows += request.priced(params, price)
    return rows


def shares_of_step(rows: Costs, params: Any, tokens: int) -> str:
    """Return in words what updates are of the flops of a model's step, 6 a parameter and token."""
    step = 6 * tokens * sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))
    shares = [f"{name} {one.flops * math.prod(one.mesh.values()) / step:.1%}" for name, one in rows]
    return f"Of the flops of a step of {tokens:,} tokens: {', '.join(shares)}."
