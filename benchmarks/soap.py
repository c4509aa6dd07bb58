"""What an update of SOAP costs, against the procedure of its authors, plainly, leaf by leaf.

    python benchmarks/soap.py                     # GPT-2 small, twelve layers: tens of minutes
    python benchmarks/soap.py --layers 1          # the same shapes once

The reference is nikhilvyas/SOAP's step: the momentum is turned out of the old bases and into the
new ones every step, Rayleigh quotients take a product of their own, and `jnp.linalg.qr` one matrix
at a time. Both refresh by QR iteration at the same cadence (ours at the start of the next step,
which gives the same bases). A plain step and one with a refresh are compiled from one function and
timed in turns, in one process; `steady` is their mean over a cadence. Times are medians, on the
wall clock and in CPU seconds of the process.
"""

import argparse
import statistics
import time
from typing import Any

import jax
import jax.numpy as jnp
import optax

import gradsmith as gs

B1, B2, EPS = 0.95, 0.95, 1e-8


def gpt2(layers: int) -> dict[str, jax.ShapeDtypeStruct]:
    """The hidden matrices of GPT-2 small."""
    shapes = [(768, 2304), (768, 768), (768, 3072), (3072, 768)]
    return {
        f"{layer}/kernel{i}": jax.ShapeDtypeStruct(shape, jnp.float32)
        for layer in range(layers)
        for i, shape in enumerate(shapes)
    }


def reference(every: int) -> optax.GradientTransformation:
    """SOAP for leaves of rank 2, each on its own, as its authors' code does it."""

    def init_leaf(p):
        m, n = p.shape
        zeros = lambda *shape: jnp.zeros(shape, p.dtype)
        eye = lambda side: jnp.eye(side, dtype=p.dtype)
        return (zeros(m, n), zeros(m, n), zeros(m, m), zeros(n, n), eye(m), eye(n))

    def refresh(factor, basis, square, axis):
        order = jnp.argsort(jnp.diag(basis.T @ factor @ basis), descending=True)
        q = jnp.linalg.qr(factor @ basis[:, order])[0]
        return q, jnp.take(square, order, axis)

    def update_leaf(g, state, step):
        mean, square, left, right, q, p = state
        turned = q.T @ g @ p
        mean = B1 * mean + (1 - B1) * turned
        square = B2 * square + (1 - B2) * turned**2
        debiased = mean / (1 - B1**step) / (jnp.sqrt(square / (1 - B2**step)) + EPS)
        out = q @ debiased @ p.T
        mean = q @ mean @ p.T
        left = B2 * left + (1 - B2) * g @ g.T
        right = B2 * right + (1 - B2) * g.T @ g

        def follow(q, p, square):
            q, square = refresh(left, q, square, 0)
            p, square = refresh(right, p, square, 1)
            return q, p, square

        keep = lambda q, p, square: (q, p, square)
        q, p, square = jax.lax.cond((step - 1) % every == 0, follow, keep, q, p, square)
        return out, (q.T @ mean @ p, square, left, right, q, p)

    def init_fn(params):
        return jnp.zeros((), jnp.int32), {name: init_leaf(p) for name, p in params.items()}

    def update_fn(updates, state, params=None):
        del params
        step, leaves = state
        step = step + 1
        with jax.default_matmul_precision("highest"):  # as torch multiplies float32
            results = {name: update_leaf(g, leaves[name], step) for name, g in updates.items()}
        return {n: out for n, (out, _) in results.items()}, (
            step,
            {n: kept for n, (_, kept) in results.items()},
        )

    return optax.GradientTransformation(init_fn, update_fn)


class Subject:
    """An optimizer, its compiled update and its state, moved along step by step."""

    def __init__(self, name: str, tx: optax.GradientTransformation, shapes: Any, refreshed: int):
        self.name, self.times = name, {"plain": [], "refresh": []}
        self.refreshed = refreshed  # the first step that begins or ends with a refresh
        started = time.perf_counter()
        state = jax.eval_shape(tx.init, shapes)
        lowered = jax.jit(tx.update, donate_argnums=1).lower(shapes, state)
        text = lowered.as_text()
        self.decomposes = "eigh" in text or "syevd" in text
        self.update = lowered.compile()
        self.compiled = time.perf_counter() - started
        self.state = jax.jit(tx.init)(jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes))

    def step(self, grads: Any, step: int, every: int) -> None:
        """Do one update, and note what it took."""
        kind = "refresh" if (step - self.refreshed) % every == 0 else "plain"
        jax.block_until_ready((grads, self.state))
        wall, cpu = time.perf_counter(), time.process_time()
        _, self.state = jax.block_until_ready(self.update(grads, self.state))
        self.times[kind].append((time.perf_counter() - wall, time.process_time() - cpu))

    def median(self, kind: str, clock: int) -> float:
        """Return the median of a kind of step: clock 0 is wall, 1 is CPU."""
        return statistics.median(times[clock] for times in self.times[kind])

    def steady(self, every: int, clock: int) -> float:
        """Return the mean over a cadence of one refresh and plain steps."""
        rare, often = self.median("refresh", clock), self.median("plain", clock)
        return (rare + (every - 1) * often) / every


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--every", type=int, default=10, help="steps between refreshes")
    parser.add_argument("--rounds", type=int, default=3, help="timings of each kind of step")
    args = parser.parse_args()

    shapes, compared = gpt2(args.layers), 2  # the program is the same; refreshes come sooner here
    ours = gs.per_stack(
        gs.scale_by_soap(B1, B2, EPS, refresh_every=compared), placement="replicated"
    )
    subjects = [
        Subject("gradsmith", ours, shapes, refreshed=1),
        Subject("reference", reference(compared), shapes, refreshed=0),
    ]
    keys = list(jax.random.split(jax.random.key(0), len(shapes)))
    make = jax.jit(
        lambda step: {
            name: jax.random.normal(jax.random.fold_in(key, step), s.shape)
            for key, (name, s) in zip(keys, shapes.items(), strict=True)
        }
    )
    for step in range(compared * (args.rounds + 1)):
        if step == compared:  # the first of each kind touched its memory for the first time
            for subject in subjects:
                subject.times = {"plain": [], "refresh": []}
        for subject in subjects if step % 4 < 2 else reversed(subjects):
            subject.step(make(step), step, compared)

    print(f"SOAP on {args.layers} layers of GPT-2 small, a refresh every {args.every} steps;")
    print(f"{jax.devices()[0].device_kind}, jax {jax.__version__}; seconds, wall and CPU")
    print(f"{'':12}{'compile':>9}{'plain':>16}{'refresh':>18}{'steady':>18}  eigh")
    for s in subjects:
        cells = [(s.median(kind, 0), s.median(kind, 1)) for kind in ("plain", "refresh")]
        cells.append((s.steady(args.every, 0), s.steady(args.every, 1)))
        numbers = "".join(f"{wall:10.3f}{cpu:8.3f}" for wall, cpu in cells)
        print(f"{s.name:12}{s.compiled:9.1f}{numbers}  {'yes' if s.decomposes else 'no'}")
    ratio = lambda clock: (
        subjects[1].steady(args.every, clock) / subjects[0].steady(args.every, clock)
    )
    print(f"reference / gradsmith, steady: {ratio(0):.2f} wall, {ratio(1):.2f} CPU")


if __name__ == "__main__":
    main()
