"""What a step knows, and what a reading of it is."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Inexact, Int, PRNGKeyArray

from ...layout.axes import MatrixAxes
from ...xla.dtypes import wide_dtype

MOMENTA = ("momentum", "mu", "trace", "fast", "slow")
"""How states call a mean of gradients."""
SAMPLED = 1024
"""How many entries of a matrix are kept to be compared with."""


@dataclass(frozen=True)
class WatchedLeaf:
    """A parameter in a step.

    Attributes:
        path: Where it is, such as 'blocks/0/kernel'.
        gradient: What went into the transformation.
        update: What came out.
        param: The parameter before the step; None where `update` was given no params.
        state: The arrays of the new state that mirror the parameter, by the name of their field:
            'mu' and 'nu' of Adam.
        axes: Which axes make its matrices; None where it has none.
        by_rule: Whether the transformation computes its matrices, by `per_stack` or its kin.
        group: Which group of a `partition_by_role` has it; None where there is none.
    """

    path: str
    gradient: Inexact[Array, "..."]
    update: Inexact[Array, "..."]
    param: Inexact[Array, "..."] | None
    state: Mapping[str, Array]
    axes: MatrixAxes | None = None
    by_rule: bool = False
    group: str | None = None

    @property
    def momentum(self) -> Inexact[Array, "..."] | None:
        """The mean of gradients in the state; None where it mirrors no parameter."""
        return next((self.state[name] for name in MOMENTA if name in self.state), None)

    def stacks(self, array: Inexact[Array, "..."]) -> list[Inexact[Array, "k m n"]]:
        """Return an array like the leaf as its matrices; what has none as one row."""
        if self.axes is None:
            return [array.reshape(1, 1, -1)]
        return self.axes.split(array)

    def total(self, array: Any) -> Float[Array, "..."]:
        """Return the sum over each matrix: one number, or one a matrix where there are several."""
        wide = array.astype(wide_dtype(array.dtype))
        return self.each([jnp.sum(stack, axis=(-2, -1)) for stack in self.stacks(wide)])

    def mean(self, array: Any) -> Float[Array, "..."]:
        """Return the mean over each matrix, as `total`."""
        total = self.total(array)
        return total / jnp.asarray(self.entries, total.dtype)

    @property
    def entries(self) -> np.ndarray:
        """How many entries each matrix has, as `total`."""
        if self.axes is None:
            return np.array(math.prod(self.update.shape))
        runs = [run.stack_shape for run in self.axes.runs(self.update.shape)]
        sizes = np.concatenate([np.full(k, m * n) for k, m, n in runs])
        return sizes.reshape(()) if len(sizes) == 1 else sizes

    def square(self, array: Any) -> Float[Array, "..."]:
        """Return the sum of squares over each matrix, as `total`."""
        return self.product(array, array)

    def product(self, one: Any, other: Any) -> Float[Array, "..."]:
        """Return the real inner product over each matrix, as `total`."""
        wide = [x.astype(wide_dtype(x.dtype)) for x in (one, other)]
        return self.total((wide[0] * wide[1].conj()).real)

    def samples(self, name: str, array: Any) -> dict[str, Inexact[Array, "k samples"]]:
        """Return a sample of each stack of an array like the leaf, by a name of its own."""
        stacks = enumerate(self.stacks(array))
        return {f"{self.path}/{name} {index}": sample(stack) for index, stack in stacks}

    def each(self, parts: list[Array]) -> Array:
        """Return what each stack has, one entry a matrix; without that axis if there is one."""
        whole = parts[0] if len(parts) == 1 else jnp.concatenate(parts)
        return whole[0] if len(whole) == 1 else whole


@dataclass(frozen=True)
class WatchedStep:
    """What a reading may look at.

    Attributes:
        number: The number of the update, from 1.
        leaves: The parameters of floating point that got an update.
        state: The whole new state of the transformation.
        key: A random key, another one in each step.
        kept: What the reading itself has kept; see `Reading`.
    """

    number: Int[Array, ""]
    leaves: tuple[WatchedLeaf, ...]
    state: Any
    key: PRNGKeyArray
    kept: Mapping[str, Array] = field(default_factory=dict)

    def remembering(self, kept: Mapping[str, Array]) -> "WatchedStep":
        """Return the step as a reading that has kept this sees it."""
        return replace(self, kept=kept)


@dataclass(frozen=True)
class Reading:
    """What is read of a step.

    A function of a `WatchedStep` that returns arrays by name is a reading already: give it to
    `gradsmith.watch`. `Reading` adds a memory, to compare with another step.

    Attributes:
        read: Returns arrays by name; a name begins with the path of its leaf.
        keep: Returns the arrays that the next `read` finds in `step.kept`. They are state.
        keeps_before: Whether `keep` sees the step before a reading; else the step of the reading,
            after `read`.

    Examples:
        >>> import jax.numpy as jnp, optax
        >>> import gradsmith as gs
        >>> def zeros(step):
        ...     return {f"{x.path}/zeros": x.mean(x.update == 0) for x in step.leaves}
        >>> tx = gs.watch(optax.sgd(0.1), every=1, readings=[zeros])
        >>> params = {"kernel": jnp.ones((2, 2))}
        >>> _, state = tx.update({"kernel": jnp.eye(2)}, tx.init(params), params)
        >>> print(gs.readings(state)["kernel/zeros"])
        0.5
    """

    read: Callable[[WatchedStep], Mapping[str, Array]]
    keep: Callable[[WatchedStep], Mapping[str, Array]] | None = None
    keeps_before: bool = False


def sample(stack: Inexact[Array, "k m n"]) -> Inexact[Array, "k samples"]:
    """Return `SAMPLED` entries of every matrix, always the same ones; all of a smaller matrix.

    They are spread over all rows and columns at random, so that a matrix of low rank is told as
    well as any. A sum over signs of all entries, which would be exact for sparse ones too, costs a
    table of signs as large as the matrix.
    """
    k, m, n = stack.shape
    if m * n <= SAMPLED:
        return stack.reshape(k, m * n)
    random = np.random.default_rng(0)
    rows, columns = (random.integers(0, side, SAMPLED, np.int32) for side in (m, n))
    return stack[:, rows, columns]


def ratio(one: Array, other: Array) -> Array:
    """Return `one / other`, and 0 where `other` is 0."""
    return jnp.where(other == 0, 0, one / jnp.where(other == 0, 1, other))


def cosine(product: Array, square: Array, other: Array) -> Array:
    """Return the cosine of two vectors by their product and squares; 0 where one is 0."""
    return ratio(ratio(product, jnp.sqrt(square)), jnp.sqrt(other))
