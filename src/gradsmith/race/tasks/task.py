"""What a race needs to know about a problem."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
from jaxtyping import PRNGKeyArray, PyTree

from .stream import Batch, Stream


@dataclasses.dataclass(frozen=True)
class Task:
    """A problem to race on: how to start, what to minimise, on which data, down to where.

    The functions are traced: they compute with `jax.numpy`, and everything random in them comes
    from the key they get. The same key gives the same parameters and batches to every entry.

    Args:
        name: What reports call the problem.
        init: `key -> params`, any pytree of floating-point arrays.
        loss: `(params, batch) -> ()`, the scalar to minimise.
        batch: `key -> batch`, the training data of one step, called inside the compiled step; or a
            `Stream` of batches that the host makes.
        selection: A batch that training never sees, on which settings are chosen.
        report: Another one, on which the entries are compared.
        target: The validation loss that counts as solved, for the column "steps to the target".
        steps: Steps of one run.
        examples_per_step: How many units of data one step consumes.
        unit: What those units are called: examples, tokens, characters.
        bound: A training or validation loss above this, or not finite, means diverged.
        stacked: Patterns of the paths of leaves `(stack, in, out)` that hold many matrices, such
            as experts. No optimizer is told unless it asks: the command line tells those of
            gradsmith.
        origin: What else decides the outcome and can be written down, such as the sizes of the
            model: a race does not go on when it has changed.

    Raises:
        ValueError: `steps` or `examples_per_step` is below 1, or `target` is not below `bound`.

    Examples:
        >>> import jax, jax.numpy as jnp
        >>> task = Task(
        ...     name="parabola",
        ...     init=lambda key: {"x": jax.random.normal(key, (3,))},
        ...     loss=lambda params, batch: jnp.sum((params["x"] - batch) ** 2),
        ...     batch=lambda key: 1.0 + 0.1 * jax.random.normal(key, (3,)),
        ...     selection=jnp.ones(3),
        ...     report=jnp.ones(3),
        ...     target=0.01,
        ...     steps=100,
        ...     examples_per_step=1,
        ... )
    """

    name: str
    init: Callable[[PRNGKeyArray], PyTree]
    loss: Callable[[PyTree, Batch], jax.Array]
    batch: Callable[[PRNGKeyArray], Batch] | Stream
    selection: Batch
    report: Batch
    target: float
    steps: int
    examples_per_step: int
    unit: str = "examples"
    bound: float = math.inf
    stacked: tuple[str, ...] = ()
    origin: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        for name in ("steps", "examples_per_step"):
            if getattr(self, name) < 1:
                raise ValueError(f"Task needs {name} >= 1, got {getattr(self, name)}")
        if not self.target < self.bound:
            raise ValueError(
                f"Task needs target < bound, got target {self.target} and bound {self.bound}"
            )

    def settings(self) -> dict[str, Any]:
        """What of the task can be written down, for `config.json` and the records."""
        names = ("name", "target", "steps", "examples_per_step", "unit")
        bound = None if math.isinf(self.bound) else self.bound  # JSON has no infinity
        return {name: getattr(self, name) for name in names} | {"bound": bound, **self.origin}
