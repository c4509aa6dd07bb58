"""Draw what each method makes of a singular value: docs/images/scalar_maps.svg.

python benchmarks/scalar_maps.py
"""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from gradsmith.matrix import SCHEDULES, Schedule, polar_express
from gradsmith.matrix.polar.halley import halley_terms
from gradsmith.matrix.polar.zolotarev import zolotarev_terms

PICTURE = Path(__file__).parent.parent / "docs" / "images" / "scalar_maps.svg"


def polynomial(schedule: Schedule, sigma: np.ndarray) -> np.ndarray:
    sigma = sigma / schedule.slack
    for a, b, c in schedule.coefficients:
        sigma = a * sigma + b * sigma**3 + c * sigma**5
    return sigma


def zolotarev(sigma: np.ndarray) -> np.ndarray:
    gain, weights, shifts = zolotarev_terms(2, 1e-3)
    return (
        gain * sigma * (1 + sum(w / (sigma**2 + c) for w, c in zip(weights, shifts, strict=True)))
    )


def halley(sigma: np.ndarray) -> np.ndarray:
    for gain, weight, shift in halley_terms(2, 1e-3):
        sigma = gain * sigma * (1 + weight / (sigma**2 + shift))
    return sigma


def main() -> None:
    sigma = np.geomspace(1e-5, 1, 4000)
    plt.rcParams["svg.hashsalt"] = "scalar maps"
    figure, axes = plt.subplots(figsize=(8, 4), layout="constrained")
    axes.axhspan(1 - 0.32, 1 + 0.32, color="0.93", label="within 0.32 of 1")
    axes.axvline(1.5e-3, color="0.7", linewidth=1)
    axes.plot(sigma, polynomial(SCHEDULES["keller"], sigma), label="keller, 5 steps (default)")
    axes.plot(sigma, polynomial(polar_express(5, 1.5e-3), sigma), label="polar_express(5, 0.0015)")
    axes.plot(sigma, zolotarev(sigma), label="zolotarev, 2 terms")
    axes.plot(sigma, halley(sigma), label="halley, 2 steps")
    axes.set(xscale="log", xlabel="singular value over the norm", ylabel="becomes", ylim=(0, 1.4))
    axes.legend(loc="lower right", frameon=False)
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(PICTURE, metadata={"Date": None})


if __name__ == "__main__":
    main()
