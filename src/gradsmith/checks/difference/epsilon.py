"""Where an elementwise optimizer adds its epsilon, and how large it is, from its first step.

In the first step `m / (root + eps)` is `c g / (|g| + e)`, and `m / sqrt(v + eps)` is
`c g / sqrt(g^2 + e)`, with one `e` for all `g`. So gradients of many sizes tell one from the other.
"""

from typing import NamedTuple

import jax
import numpy as np

from .ground import Ground
from .scaling import BETAS
from .sides import Side

LARGE = 1e9
"""What makes an epsilon small beside gradients, and leaves a difference of parameters exact."""
FAR = 1e15
"""What makes it vanish."""

SHIFTS = (1.0, 1.5, 2.25, 3.4, 5.0)
"""What the sizes are multiplied by, so that a small leaf too shows enough of them."""


class Epsilon(NamedTuple):
    """An epsilon that was found.

    Attributes:
        place: 'outside' the root, or 'inside'.
        value: Its size, as it acts on the first gradient.
    """

    place: str
    value: float

    def __str__(self) -> str:
        return f"{self.value:.3g} {self.place} the root"


def epsilon(side: Side, ground: Ground) -> Epsilon | None:
    """Return the epsilon of an optimizer whose first step is a sign but for it; else None."""
    still = jax.tree.map(lambda x: np.zeros_like(x[:1]), ground.params)  # so that no decay is seen
    gradients, updates = [], []
    for shift in SHIFTS:
        probe = Ground(still, jax.tree.map(lambda x, s=shift: s * _sizes(x), ground.grads))
        gradients += [x.ravel() for x in jax.tree.leaves(probe.grads)]
        updates += [np.abs(x).ravel() for x in side.updates(probe)]
    gradient, update = np.concatenate(gradients), np.concatenate(updates)
    part = update / update.max(initial=1e-300)
    order = np.argsort(gradient)
    gradient, part = gradient[order], part[order]
    told = (part > 0.02) & (part < 0.9)
    if told.sum() < 4 or not np.all(np.diff(part) > -1e-9):
        return None
    root = gradient[told] / part[told]
    for place, found in (
        ("outside", root - gradient[told]),
        ("inside", root**2 - gradient[told] ** 2),
    ):
        value = float(np.median(found))
        if value > 0 and np.ptp(found) < 1e-3 * value:
            return Epsilon(place, value)
    return None


def _sizes(x: np.ndarray) -> np.ndarray:
    return np.geomspace(1e-14, 1e6, x[0].size).reshape(x[:1].shape).astype(x.dtype)


def says(a: Epsilon, b: Epsilon) -> str:
    """Say how two epsilons differ."""
    if a.place == b.place == "outside":
        for beta in BETAS:
            for ratio, who in ((b.value / a.value, "the second"), (a.value / b.value, "the first")):
                if np.isclose(ratio, (1 - beta) ** -0.5, rtol=1e-2):
                    return f"{a} against {b}: {who} adds it before the debiasing of beta = {beta}"
    return f"{a} against {b}"


def large_gradients(ground: Ground) -> Ground:
    """Return the ground with gradients beside which every epsilon vanishes."""
    return ground._replace(grads=jax.tree.map(lambda g: FAR * g, ground.grads))


def enlarged(ground: Ground) -> Ground:
    """Return the ground with parameters and gradients far above every epsilon."""
    return Ground(*(jax.tree.map(lambda x: LARGE * x, tree) for tree in ground))
