"""What narrow arithmetic makes of the band of every schedule, in both forms: emulated on a CPU.

python benchmarks/arithmetic.py [--sides 64,256 96,96]

For each schedule, form and arithmetic: after which steps the Gram form starts again; the excess,
which is how far the worst singular value of the result lies outside the band of exact arithmetic;
and the relative distance from the result of exact arithmetic. All are the largest over matrices
that are hard in different ways. Operands of products are rounded, sums are float32; nothing runs on
an accelerator.
"""

import argparse
import itertools
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np

from gradsmith.matrix import SCHEDULES, Schedule, polar_express
from gradsmith.matrix.polar.gram_newton_schulz import GramNewtonSchulz
from gradsmith.matrix.polar.newton_schulz import NewtonSchulz
from gradsmith.xla.arithmetic import arithmetics

PRECISIONS = ("float32", "bfloat16_3x", "tfloat32", "float16", "bfloat16")
FORMS = (NewtonSchulz, GramNewtonSchulz)
SMALLEST = 1.5e-3


def hostile(m: int, n: int) -> Iterator[np.ndarray]:
    """Matrices `(m, n)`, `m <= n`, that are hard in different ways."""
    rng = np.random.default_rng(0)
    u = np.linalg.qr(rng.standard_normal((m, m)))[0]
    v = np.linalg.qr(rng.standard_normal((n, m)))[0]
    index = np.arange(m)
    yield rng.standard_normal((m, n))
    for spectrum in (
        10.0 ** (-4 * index / (m - 1)),
        10.0 ** (-6 * index / (m - 1)),
        1 / (1 + index),
        np.r_[1, 1, 10.0 ** (-4 - 3 * np.arange(m - 2) / (m - 3))],
        np.r_[1, np.full(m - 1, 2e-3)],
        np.ones(m),
    ):
        yield (u * spectrum) @ v.T
    yield rng.standard_normal((m, m // 4)) @ rng.standard_normal((m // 4, n))
    noise = rng.standard_normal((m, n)) / np.sqrt(n)
    for size in (1e-2, 1e-3):
        yield u[:, :1] @ v[:, :1].T + size * noise
    for _ in range(64):  # two to four rows that are nearly parallel and larger than all others
        few = 10 ** rng.uniform(-5, -1) * rng.standard_normal((m, n)) / np.sqrt(n)
        for row in rng.permutation(m)[: rng.integers(2, 5)]:
            own = 10 ** rng.uniform(-2.5, -0.5) * rng.standard_normal(n) / np.sqrt(n)
            few[row] = rng.choice([-1, 1]) * rng.uniform(0.3, 1) * noise[0] + own
        yield few


def mapped(schedule: Schedule, sigma: np.ndarray) -> np.ndarray:
    sigma = sigma / schedule.slack
    for a, b, c in schedule.coefficients:
        sigma = a * sigma + b * sigma**3 + c * sigma**5
    return sigma


def band_of(schedule: Schedule) -> tuple[float, float]:
    """What exact arithmetic makes of singular values from `SMALLEST` to 1."""
    image = mapped(schedule, np.geomspace(SMALLEST, 1, 20_001))
    return float(image.min()), float(image.max())


def exact(x: np.ndarray, schedule: Schedule) -> tuple[int, np.ndarray]:
    """How many singular values are above `SMALLEST`, and the result of exact arithmetic."""
    x = x / np.linalg.norm(x)
    if schedule.normalizer == "aol":
        x = x / np.sqrt(np.abs(x @ x.T).sum(axis=1, keepdims=True))
    u, s, vh = np.linalg.svd(x, full_matrices=False)
    kept = int(np.sum(s / np.linalg.norm(s) > SMALLEST))
    return kept, (u * mapped(schedule, s)) @ vh


def measure(run: Callable, cases: list, band: tuple[float, float]) -> tuple[float, float]:
    """The largest excess and distance of a method over some stacks of matrices."""
    low, high = band
    excess = distance = 0.0
    for stack, told in cases:
        results = np.asarray(run(jnp.asarray(stack, jnp.float32)), np.float64)
        if not np.isfinite(results).all():
            return np.inf, np.inf
        for out, (kept, whole) in zip(results, told, strict=True):
            values = np.linalg.svd(out, compute_uv=False)
            excess = max(excess, low - values[kept - 1], values[0] - high)
            distance = max(distance, float(np.linalg.norm(out - whole) / np.linalg.norm(whole)))
    return excess, distance


def main(sides: list[tuple[int, int]]) -> None:
    schedules = [*SCHEDULES.values(), *(polar_express(steps, SMALLEST) for steps in range(4, 9))]
    print(
        f"{'schedule':28}{'form':20}{'arithmetic':13}{'restarts':12}{'excess':>9}{'distance':>10}"
    )
    worst, stacks = 0.0, [np.stack(list(hostile(*pair))) for pair in sides]
    for schedule in schedules:
        cases = [(stack, [exact(x, schedule) for x in stack]) for stack in stacks]
        for form, precision in itertools.product(FORMS, PRECISIONS):
            (arithmetic,) = arithmetics(precision)
            way = form(schedule, arithmetic=arithmetic)
            ends = list(itertools.accumulate(map(len, getattr(way, "segments", [()]))))[:-1]
            excess, distance = measure(jax.jit(way.run), cases, band_of(schedule))
            worst = max(worst, excess)
            after = ",".join(map(str, ends))
            print(
                f"{schedule.name:28}{way.name:20}{precision:13}{after:12}"
                f"{excess:9.2g}{distance:10.2g}",
                flush=True,
            )
    print(f"largest excess: {worst:.2g}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sides", nargs="*", default=["64,256", "96,96"])
    jax.config.update("jax_platforms", "cpu")
    main([tuple(map(int, pair.split(","))) for pair in parser.parse_args().sides])
