"""What `gradsmith cost` is asked to price, and what it stands beside."""

import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import optax
import optax.contrib

import gradsmith

from ..layout.paths import leaves_with_path
from ..observe.state_shardings import state_shapes
from ..observe.update_cost import UpdateCost
from .loading import UsageError, load, transformation
from .parameters import abstract, gpt2, spread

Costs = list[tuple[str, UpdateCost]]
"""The optimizers, each with its cost; with several topologies one stands there several times."""


class CostRequest(NamedTuple):
    """An optimizer, and the parameters that it updates.

    Attributes:
        optimizer: Its name, or where it is.
        arg: `name=value` for its factory.
        alone: Whether nothing stands beside it.
        model: `gpt2`, or where the parameters are.
        sizes: Those of the axes of a mesh.
        split: What the first axis splits.
    """

    optimizer: str
    arg: tuple[str, ...]
    alone: bool
    model: str
    sizes: dict[str, int]
    split: str

    def params(self) -> Any:
        """Return the shapes of the parameters, on the mesh."""
        tree = abstract(gpt2 if self.model == "gpt2" else load(self.model), self.model)
        return spread(tree, self.sizes, self.split)

    def transformation(self) -> optax.GradientTransformation:
        """Return the optimizer."""
        return transformation(self.optimizer, self.arg)

    def priced(
        self, params: Any, price: Callable[[optax.GradientTransformation], UpdateCost]
    ) -> Costs:
        """Price the optimizer, and Optax's Muon and AdamW unless it is alone."""
        tx = self.transformation()
        makers = {self.optimizer: lambda: tx}
        if not self.alone:
            makers["optax.contrib.muon"] = lambda: _contrib_muon(tx, params)
            makers["optax.adamw"] = lambda: optax.adamw(1.0)
        costs: Costs = []
        for name, make in makers.items():
            try:
                costs.append((name, price(make())))
            except Exception as error:
                if name == self.optimizer:
                    raise UsageError(f"{name} does not compile: {error}") from error
                print(f"{name} is left out: {error}", file=sys.stderr)
        return costs


def _contrib_muon(tx: optax.GradientTransformation, params: Any) -> optax.GradientTransformation:
    """Return Optax's muon for the matrices that `tx` lifts, or else for those that ours would."""
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), params)
    axes = state_shapes(tx, shapes)[1].axes or state_shapes(gradsmith.muon(1.0), shapes)[1].axes

    def dimensions(params: Any) -> Any:
        numbers = []
        for path, leaf in leaves_with_path(params):
            _, rows, columns = axes[path].sides(len(leaf.shape)) if path in axes else ((), (), ())
            numbers.append(optax.contrib.MuonDimensionNumbers(rows, columns) if rows else None)
        return jax.tree.unflatten(jax.tree.structure(params), numbers)

    cut = [path for path, own in axes.items() if own.cut_axis is not None]
    if cut:
        more = f" and {len(cut) - 1} more" if len(cut) > 1 else ""
        print(
            f"optax.contrib.muon cannot cut a leaf; it takes {cut[0]}{more} whole", file=sys.stderr
        )
    return optax.contrib.muon(1.0, muon_weight_dimension_numbers=dimensions)
