"""Where an elementwise optimizer adds its epsilon, and how large it is, from its first step.

In the first step `m / (root + eps)` is `c g / (|g| + e)`, and `m / sqrt(v + eps)` is
`c g / sqrt(g^2 + e)`, with one `e` for all `g`. So gradients of many sizes tell one from the other.
"""

from typing import NamedTuple

import jax
import numpy as np

from .ground import Ground
from .scaling import BETAS, norm
from .sides import Side

LARGE = 1e9
"""What makes an epsilon vanish beside the gradients."""


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
    sizes = lambda x: np.geomspace(1e-14, 1e6, x[0].size).reshape(x[:1].shape).astype(x.dtype)
    probe = Ground(jax.tree.map(lambda x: x[:1], ground.params), jax.tree.map(sizes, ground.grads))
    gradient = np.concatenate([x.ravel() for x in jax.tree.leaves(probe.grads)])
    update = np.concatenate([np.abs(x).ravel() for x in side.updates(probe)])
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


def says(a: Epsilon, b: Epsilon) -> str:
    """Say how two epsilons differ."""
    if a.place == b.place == "outside":
        for beta in BETAS:
            for ratio, who in ((b.value / a.value, "the second"), (a.value / b.value, "the first")):
                if np.isclose(ratio, (1 - beta) ** -0.5, rtol=1e-2):
                    return f"{a} against {b}: {who} adds it before the debiasing of beta = {beta}"
    return f"{a} against {b}"


def left_beside_large_gradients(a: Side, b: Side, ground: Ground) -> float:
    """Return the difference where the gradients are far above every epsilon, over the updates."""
    large = ground._replace(grads=jax.tree.map(lambda g: LARGE * g, ground.grads))
    of_a, of_b = a.updates(large), b.updates(large)
    difference = [x - y for x, y in zip(of_a, of_b, strict=True)]
    return norm(difference) / max(norm(of_a), norm(of_b), 1e-300)
