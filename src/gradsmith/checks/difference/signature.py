"""What kind of optimizer made an update, told from the update alone."""

import numpy as np

FLAT = 0.05
"""How much the entries of an update that has equal ones may differ."""

TURNED = 0.1
"""How far the singular vectors may be from the gradient's: Newton-Schulz in bfloat16 turns some."""


def signature(update: np.ndarray, gradient: np.ndarray) -> str | None:
    """Return what an optimizer did to a gradient in its first step; None where it is nothing known.

    Args:
        update: What it made, of any shape.
        gradient: What it was given.
    """
    if not update.any():
        return "leaves it as it is"
    if abs(_cosine(update, gradient)) > 1 - 1e-9:
        return "multiplies the gradient by a number"
    sizes = np.abs(update[gradient != 0])
    if np.ptp(sizes) < FLAT * sizes.max():
        return "makes all entries of one size, as Adam does at first"
    if update.ndim == 2:
        left, _, right = np.linalg.svd(gradient, full_matrices=False)
        values = np.diagonal(left.T @ update @ right.T)
        turned = np.linalg.norm(update - (left * values) @ right)
        if turned < TURNED * np.linalg.norm(update) and np.ptp(np.abs(values)) < 0.6 * np.max(
            np.abs(values)
        ):
            return "makes all singular values alike, as Muon does"
    return None


def _cosine(x: np.ndarray, y: np.ndarray) -> float:
    return float(np.sum(x * y) / (np.linalg.norm(x) * np.linalg.norm(y) or 1.0))
