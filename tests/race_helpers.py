"""A task whose training is known in closed form, and records made by hand."""

import queue
import threading

import jax.numpy as jnp
import numpy as np
import optax

from gradsmith.race import Curve, Display, Entry, Protocol, Race, Record, Task

CENTRE = np.array([1.0, -2.0, 0.5], np.float32)
SGD = Entry("sgd", optax.sgd)


def parabola(steps=20, target=0.01, bound=float("inf"), noise=0.0) -> Task:
    """x from zero (plus noise times a normal) towards the centre (plus noise): |x - centre|^2."""
    import jax

    def near(point, key):
        return jnp.asarray(point) + noise * jax.random.normal(key, (3,))

    return Task(
        name="parabola",
        init=lambda key: {"x": near(np.zeros(3, np.float32), key)},
        loss=lambda params, batch: jnp.sum((params["x"] - batch) ** 2),
        batch=lambda key: near(CENTRE, key),
        selection=jnp.asarray(CENTRE),
        report=jnp.asarray(CENTRE),
        target=target,
        steps=steps,
        examples_per_step=1,
        bound=bound,
    )


def factors(rate: float, steps: int) -> np.ndarray:
    """What each SGD step on the parabola multiplies the distance by, from the docs' schedule."""
    warm_up = max(1, round(steps / 10))
    t = np.arange(steps)
    return 1 - 2 * rate * np.minimum((t + 1) / warm_up, (steps - t) / (steps - warm_up))


def record(entry="sgd", rate=0.1, seed=0, loss=1.0, diverged_at=None, trial=0, **more):
    """A record whose curve falls from 4 to its loss."""
    final = None if diverged_at else loss
    fields = {
        "entry": entry,
        "trial": trial,
        "settings": {"learning_rate": rate},
        "seed": seed,
        "validation_loss": final,
        "steps_to_target": None,
        "diverged_at": diverged_at,
        "passes": {"forward": 20, "backward": 20},
        "curve": Curve(
            step=[0, 10, 20],
            passes=[0, 20, 40],
            training_loss=[None, 3.0, loss],
            validation_loss=[4.0, 3.0, final],
        ),
        "program": "0",
        "config": {"task": {"name": "parabola"}},
        "versions": {"jax": "0"},
        "timing": {"run": 1.0, "step": 0.02, "update": 0.005},
    }
    return Record(**{**fields, **more})


def race(*names, rates=(0.01, 0.1, 1.0), seeds=2, extensions=0, **task) -> Race:
    """Race plain SGD under each of the names."""
    entries = tuple(Entry(name, optax.sgd) for name in names or ("sgd",))
    return Race(parabola(**task), entries, rates, Protocol(seeds=seeds, extensions=extensions))


def single(entry, rate=0.1, **task) -> Race:
    """Race one entry at one rate: a run to tune, and a run to report."""
    return Race(parabola(**task), (entry,), (rate,), Protocol(seeds=1))


class Killed(BaseException):
    """Stands for a kill: nothing in a race catches it."""


class KillAfter(Display):
    """Kills the race at the n-th point of a curve, and counts the points."""

    def __init__(self, points: int | None = None):
        self.points = points
        self.seen = 0

    def advance(self, step, loss, seconds):
        self.seen += 1
        if self.seen == self.points:
            raise Killed


class Remarks(Display):
    """Keeps what is remarked."""

    def __init__(self):
        self.remarks = []

    def remark(self, text):
        self.remarks.append(text)


def together(*functions):
    """Call all at once; when one fails, raise that and leave the others waiting."""
    ended = queue.Queue()

    def call(function):
        try:
            ended.put((function(), None))
        except BaseException as error:
            ended.put((None, error))

    for function in functions:
        threading.Thread(target=call, args=(function,), daemon=True).start()
    results = []
    for _ in functions:
        result, error = ended.get()
        if error:
            raise error
        results.append(result)
    return results
