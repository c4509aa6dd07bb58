"""A torch optimizer on one side."""

import importlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from .ground import Ground
from .sides import Updates


class TorchSide:
    """A torch optimizer, on the CPU.

    A leaf called `kernel` is `(in, out)`; torch gets it as the weight `(out, in)`. All other leaves
    are given as they are.
    """

    subtracts = True

    def __init__(self, factory: Callable[..., Any], name: str, **arguments: Any):
        self._factory = factory
        self.name = name
        self._given = arguments

    @property
    def arguments(self) -> Mapping[str, Any]:
        """Those that were given; torch's own defaults are not parameters that can be read."""
        return self._given

    def updates(self, ground: Ground) -> Updates:
        """As `Side.updates`: what a step did to each parameter."""
        torch = importlib.import_module("torch")  # an extra
        paths = [path for path, _ in jax.tree_util.tree_leaves_with_path(ground.params)]
        swapped = [_is_kernel(path) for path in paths]
        sequences = lambda tree: [
            x.swapaxes(1, 2) if swap else x
            for x, swap in zip(jax.tree.leaves(tree), swapped, strict=True)
        ]
        params, grads = sequences(ground.params), sequences(ground.grads)
        weights = [torch.nn.Parameter(torch.tensor(x[0].copy())) for x in params]
        optimizer = self._factory(weights, **self._given)
        outs = []
        for t in range(ground.steps):
            for weight, values, gradient in zip(weights, params, grads, strict=True):
                weight.data.copy_(torch.tensor(values[t].copy()))
                weight.grad = torch.tensor(gradient[t].copy())
            optimizer.step()
            moved = [weight.detach().numpy() for weight in weights]
            outs.append([new - old[t] for new, old in zip(moved, params, strict=True)])
        stacked = [np.stack(each) for each in zip(*outs, strict=True)]
        return [x.swapaxes(1, 2) if swap else x for x, swap in zip(stacked, swapped, strict=True)]

    def eps(self, ground: Ground) -> float:
        """As `Side.eps`, of what two steps compute."""
        torch = importlib.import_module("torch")
        overrides = importlib.import_module("torch.overrides")
        seen = [0.0]

        class Watch(overrides.TorchFunctionMode):
            def __torch_function__(self, function, types, args=(), kwargs=None):
                made = function(*args, **(kwargs or {}))
                for x in made if isinstance(made, tuple | list) else (made,):
                    if isinstance(x, torch.Tensor) and x.ndim and x.is_floating_point():
                        seen.append(torch.finfo(x.dtype).eps)
                return made

        with Watch():
            self.updates(Ground(*(jax.tree.map(lambda x: x[:2], tree) for tree in ground)))
        return max(seen)

    def scalar_eps(self, ground: Ground) -> float:
        """As `Side.scalar_eps`: torch computes such numbers in Python."""
        return 0.0


def _is_kernel(path: tuple) -> bool:
    return jax.tree_util.keystr(path[-1:], simple=True) == "kernel" if path else False
