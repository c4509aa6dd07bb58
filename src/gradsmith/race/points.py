"""The points of a run's curve: when it is validated."""

POINTS = 20  # of a curve, after its start


def curve_steps(steps: int) -> list[int]:
    """The steps after which a run is validated, from 0 to the last, about equally far apart.

    Examples:
        >>> curve_steps(3), curve_steps(50)[:4], len(curve_steps(400))
        ([0, 1, 2, 3], [0, 2, 5, 7], 21)
    """
    points = min(POINTS, steps)
    return [steps * i // points for i in range(points + 1)]
