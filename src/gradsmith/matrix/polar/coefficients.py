"""Named coefficient schedules of the Newton-Schulz iteration, each with its source and its band.

A schedule is one triple `(a, b, c)` a step. A step maps every singular value `s` of the iterate to
`a s + b s^3 + c s^5` and leaves the singular vectors alone, so everything worth knowing about a
schedule is one scalar function, and its *band*: the interval in which it puts every singular value
that is at least a thousandth of the Frobenius norm.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..norms import Normalizer

Step = tuple[float, float, float]


@dataclass(frozen=True)
class Schedule:
    """Coefficients of one Newton-Schulz run.

    Attributes:
        name: How users ask for it.
        coefficients: One `(a, b, c)` a step.
        repeats: Whether the last triple may be applied any number of times more. Where it may not,
            the number of steps is fixed: a slice or a cycle of a minimax schedule is far outside
            its band (up to 1.9 after the first steps, infinite when cycled).
        slack: The iteration starts from `x / (slack * ||x||_F)`; above 1 where rounding must not
            push a singular value over 1.
        band: Lower and upper end of the image of `[lower, 1]` after `len(coefficients)` steps.
        source: Where the numbers come from.
        lower: The smallest singular value that the band speaks of.
        normalizer: The norm of `x` that the schedule is made for; see `newton_schulz`.
    """

    name: str
    coefficients: tuple[Step, ...]
    repeats: bool
    slack: float
    band: tuple[float, float]
    source: str
    lower: float = 1e-3
    normalizer: Normalizer = "frobenius"

    def steps(self, count: int | None = None) -> tuple[Step, ...]:
        """Return the triples of a run of `count` steps; `None` means as published.

        Raises:
            ValueError: The schedule is not defined for that many steps.
        """
        published = len(self.coefficients)
        count = published if count is None else count
        if count < 1:
            raise ValueError(f"a Newton-Schulz run has at least 1 step, got steps={count}")
        if count == published:
            return self.coefficients
        if self.repeats and (count > published or self._is_constant):
            return self.coefficients[:count] + self.coefficients[-1:] * (count - published)
        remedy = "omit `steps`" if not self.repeats else f"use steps >= {published}"
        raise ValueError(
            f"schedule {self.name!r} is made for {published} steps, got steps={count}: its triples "
            f"are neither sliced nor cycled; {remedy}, or take a schedule such as 'keller'"
        )

    @property
    def _is_constant(self) -> bool:
        return len(set(self.coefficients)) == 1


def image_of(triples: Iterable[Step], sigma: Any) -> Any:
    """Return what a run of steps makes of singular values; infinite or NaN where they diverge."""
    with np.errstate(over="ignore", invalid="ignore"):
        for a, b, c in triples:
            sigma = a * sigma + b * sigma**3 + c * sigma**5
    return sigma


def _with_safety(triples: tuple[Step, ...], safety: float) -> tuple[Step, ...]:
    """Return the triples of `p(x / safety)`."""
    return tuple((a / safety, b / safety**3, c / safety**5) for a, b, c in triples)


_POLAR_EXPRESS = (
    (8.28721201814563, -23.595886519098837, 17.300387312530933),
    (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
    (3.9486908534822946, -2.908902115962949, 0.5518191394370137),
    (3.3184196573706015, -2.488488024314874, 0.51004894012372),
    (2.300652019954817, -1.6689039845747493, 0.4188073119525673),
    (1.891301407787398, -1.2679958271945868, 0.37680408948524835),
    (1.8750014808534479, -1.2500016453999487, 0.3750001645474248),
    (1.875, -1.25, 0.375),
)

_PUBLISHED = (
    Schedule(
        "keller",
        ((3.4445, -4.7750, 2.0315),) * 5,
        repeats=True,
        slack=1.0,
        band=(0.4705, 1.2024),
        source="Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/",
    ),
    Schedule(
        "you",
        (
            (4.0848, -6.8946, 2.9270),
            (3.9505, -6.3029, 2.6377),
            (3.7418, -5.5913, 2.3037),
            (2.8769, -3.1427, 1.2046),
            (2.8366, -3.0525, 1.2012),
        ),
        repeats=False,
        slack=1.0,
        band=(0.4750, 1.1450),
        source="Jiacheng You, as used by optax.contrib.muon('dion') and gram-newton-schulz",
    ),
    Schedule(
        "polar_express",
        _with_safety(_POLAR_EXPRESS[:5], 1.01),
        repeats=False,
        slack=1.01,
        band=(0.8401, 1.1236),
        source="Amsel et al. 2025, arXiv:2505.16932, the first five with safety 1.01",
    ),
    Schedule(
        "polar_express_8",
        _with_safety(_POLAR_EXPRESS[:7], 1.01) + _POLAR_EXPRESS[7:],
        repeats=True,
        slack=1.01,
        band=(1.0000, 1.0000),
        source="Amsel et al. 2025, arXiv:2505.16932, the whole table with safety 1.01",
    ),
    Schedule(
        "polar_express_1.05",
        _with_safety(_POLAR_EXPRESS[:5], 1.05),
        repeats=False,
        slack=1.0,
        band=(0.7290, 1.1236),
        source="gram-newton-schulz: arXiv:2505.16932, the first five with safety 1.05 inside",
    ),
    Schedule(
        "polar_express_1.02",
        (
            (8.156554524902461, -22.48329292557795, 15.878769915207462),
            (4.042929935166739, -2.808917465908714, 0.5000178451051316),
            (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
            (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
            (2.3465413258596377, -1.7097828382687081, 0.42323551169305323),
        ),
        repeats=False,
        slack=1.02,
        band=(0.8466, 1.1411),
        source="modded-nanogpt and microsoft/dion: arXiv:2505.16932 with cushion and safety 0.02",
    ),
    Schedule(
        "deepseek_v4",
        ((3.4445, -4.7750, 2.0315),) * 8 + ((2.0, -1.5, 0.5),) * 2,
        repeats=True,
        slack=1.0,
        band=(1.0000, 1.0005),
        source="DeepSeek-V4, as shipped by NVIDIA Emerging-Optimizers",
    ),
    Schedule(
        "turbo",
        (
            (4.6051, -9.6552, 5.6769),
            (4.7505, -6.0861, 2.1790),
            (2.7763, -2.3190, 0.5523),
            (2.4231, -2.2861, 0.8193),
        ),
        repeats=False,
        slack=1.0,
        band=(0.1466, 1.0500),
        source="Turbo-Muon, arXiv:2512.04632, as shipped by microsoft/dion",
        normalizer="aol",
    ),
    Schedule(
        "cubic_5",
        (
            (3.3656576, -3.3420992, 0.0),
            (2.5744352, -1.4957376, 0.0),
            (2.5368962, -1.4312570, 0.0),
            (2.4418906, -1.2764040, 0.0),
            (2.2230472, -0.9630650, 0.0),
        ),
        repeats=False,
        slack=1.0,
        band=(0.1191, 1.3000),
        source="arXiv:2606.00371, as shipped by NVIDIA Emerging-Optimizers",
    ),
    Schedule(
        "double",
        ((2.0, -1.5, 0.5),) * 12,
        repeats=True,
        slack=1.0,
        band=(1.0000, 1.0000),
        source="modded-nanogpt, baseline of the optimization track",
    ),
    Schedule(
        "cubic",
        ((1.5, -0.5, 0.0),) * 15,
        repeats=True,
        slack=1.0,
        band=(0.4165, 1.0000),
        source="Newton-Schulz of order three; Higham, Functions of Matrices, 2008, chapter 8",
    ),
    Schedule(
        "quintic_taylor",
        ((1.875, -1.25, 0.375),) * 5,
        repeats=True,
        slack=1.0,
        band=(0.0232, 1.0000),
        source="Newton-Schulz of order five; Higham, Functions of Matrices, 2008, chapter 8",
    ),
)

SCHEDULES: dict[str, Schedule] = {schedule.name: schedule for schedule in _PUBLISHED}


def schedule_of(coefficients: str | Schedule) -> Schedule:
    """Return the schedule of that name; a `Schedule` passes through.

    Raises:
        ValueError: No schedule has that name.
    """
    if isinstance(coefficients, Schedule):
        return coefficients
    if coefficients not in SCHEDULES:
        raise ValueError(
            f"no schedule is called {coefficients!r}; there are {', '.join(SCHEDULES)}"
        )
    return SCHEDULES[coefficients]
