"""Polar Express: the best Newton-Schulz schedule for a given lower bound and number of steps."""

import math

import numpy as np

from .coefficients import Schedule, Step, image_of


def polar_express(
    steps: int = 5,
    lower: float = 1e-3,
    *,
    cushion: float = 0.024,
    safety: float = 1.01,
) -> Schedule:
    """Return the quintic schedule that keeps all of `[lower, 1]` closest to 1.

    Each step is the minimax polynomial on the interval that the steps before it left. No other odd
    composition is better. Without cushion and safety its band is exactly `[s, 2 - s]` with `s` the
    image of `lower`. But then one rounding error above 1 makes it diverge, so both are on by
    default.

    Costs some milliseconds on the host; the coefficients are constants of whatever is compiled.

    Args:
        steps: How many.
        lower: The smallest singular value, over the Frobenius norm, that should come near 1.
        cushion: No step is optimized for an interval whose ends differ by more than the factor
            `1 / cushion`; it is centred again on the true interval. This limits the slope, and so
            the growth of rounding errors.
        safety: The iteration starts from `x / (safety ||x||_F)`, and every step but the last leaves
            as much room above the interval it was made for.

    Raises:
        ValueError: An argument is out of its range.

    Examples:
        >>> from gradsmith import matrix
        >>> schedule = matrix.polar_express(4, 1e-2)
        >>> low, high = schedule.band
        >>> print(schedule.name, 0.95 < low < 1 < high < 1.05)
        polar_express(4, 0.01) True

    References:
        Amsel, Persson, Musco and Gower, The Polar Express, 2025, arXiv:2505.16932, theorem 1.
    """
    if steps < 1:
        raise ValueError(f"polar_express needs steps >= 1, got {steps}")
    if not 0 < lower < 1:
        raise ValueError(f"polar_express needs 0 < lower < 1, got {lower}")
    if not 0 <= cushion < 1:
        raise ValueError(f"polar_express needs 0 <= cushion < 1, got {cushion}")
    if safety < 1:
        raise ValueError(f"polar_express needs safety >= 1, got {safety}")
    triples = minimax_steps(steps, lower, cushion=cushion, safety=safety)
    sigma = np.concatenate([np.geomspace(lower, 1, 20_001), np.linspace(lower, 1, 20_001)]) / safety
    sigma = image_of(triples, sigma)
    return Schedule(
        f"polar_express({steps}, {lower:g})",
        triples,
        repeats=False,
        slack=safety,
        band=(float(sigma.min()), float(sigma.max())),
        source="Amsel et al. 2025, arXiv:2505.16932",
        lower=lower,
    )


def minimax_steps(
    steps: int, lower: float, *, cushion: float, safety: float = 1.0, recentre: bool = False
) -> tuple[Step, ...]:
    """Return the triples; with `recentre`, steps are centred also where the cushion is idle."""
    low, high, triples = lower, 1.0, []
    for step in range(steps):
        fitted = max(low, cushion * high)
        triple = minimax_quintic(fitted, high)
        if recentre or fitted > low:
            centre = (image_of([triple], low) + image_of([triple], high)) / 2
            triple = _scaled(triple, 1 / centre, 1.0)
        if step < steps - 1:
            triple = _scaled(triple, 1.0, 1 / safety)
        triples.append(triple)
        low = min(image_of([triple], low), 1.0)
        high = 2 - low
    return tuple(triples)


def minimax_quintic(low: float, high: float) -> Step:
    """Return the odd quintic closest to 1 on `[low, high]`: its error is the same at four points.

    Remez' exchange: given two inner points, solve for the polynomial whose errors at the ends and
    at these alternate with one size; move them to its extrema, where its derivative vanishes.
    """
    if low / high >= 1 - 5e-6:  # the four points coincide: the Taylor polynomial
        return _scaled((15 / 8, -10 / 8, 3 / 8), 1.0, 1 / high)
    inner = np.array([(3 * low + high) / 4, (low + 3 * high) / 4])
    a = b = c = error = math.inf
    for _ in range(100):
        points = np.array([low, *inner, high])
        system = np.stack([points, points**3, points**5, [1, -1, 1, -1]], axis=1)
        a, b, c, new_error = np.linalg.solve(system, np.ones(4))
        inner = np.sqrt(np.sort(np.roots([5 * c, 3 * b, a])))
        if abs(new_error - error) <= 1e-15:
            break
        error = new_error
    return float(a), float(b), float(c)


def _scaled(triple: Step, outside: float, inside: float) -> Step:
    """Return the triple of `outside * p(inside * x)`."""
    a, b, c = triple
    return outside * inside * a, outside * inside**3 * b, outside * inside**5 * c
