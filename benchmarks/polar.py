"""What one update of Muon costs, and what it is worth: against Optax, a loop, and PyTorch.

    python benchmarks/polar.py                          # all trees, some minutes
    python benchmarks/polar.py nanogpt scanned --rounds 3

All subjects of a tree take turns in one process; times are medians of whole updates, momentum and
`apply_updates` included, on the wall clock and in CPU seconds of the process. `share` is the flops
that five Newton-Schulz steps need (or, for gradsmith, those it plans) a second, over those of one
large float32 product. The errors are those of the float64 singular values of the updates.
"""

import argparse
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from optax import contrib

import gradsmith as gs
from gradsmith.matrix.polar.plan import Request

try:
    import torch
except ImportError:
    torch = None

KELLER = (3.4445, -4.7750, 2.0315)
STACKED = gs.MatrixAxes(-2, -1, batch_axis=0)


def decoder(layers: int, d: int, vocabulary: int, context: int) -> dict[str, tuple[int, ...]]:
    """The shapes of a decoder: fused attention, its output, and both sides of the wide layer."""
    shapes = [(d, 3 * d), (d, d), (d, 4 * d), (4 * d, d)]
    kernels = {f"{i}/kernel{j}": shapes[j] for i in range(layers) for j in range(4)}
    return kernels | {"wte": (vocabulary, d), "wpe": (context, d)}


SIZES = (64, 128, 256)
TREES: dict[str, dict[str, tuple[int, ...]]] = {
    "gpt2": decoder(12, 768, 50257, 1024),
    "nanogpt": decoder(6, 384, 65, 256),
    "small": {f"kernel{i}": (SIZES[i % 3], SIZES[i // 3 % 3]) for i in range(200)},
    "scanned": {"kernels": (12, 768, 3072)},
}


def is_embedding(path: str) -> bool:
    return path in ("wte", "wpe")


def pinned(tree: dict[str, tuple[int, ...]]) -> optax.GradientTransformation:
    """The Muon of the installed Optax."""
    numbers = {
        path: None if is_embedding(path) else contrib.MuonDimensionNumbers(len(s) - 2, len(s) - 1)
        for path, s in tree.items()
    }
    return contrib.muon(0.02, muon_weight_dimension_numbers=numbers)


def looped(tree: dict[str, tuple[int, ...]]) -> optax.GradientTransformation:
    """The same recurrence, a leaf at a time, in a `fori_loop`."""

    def orthogonalize(x):
        tall = x.shape[-2] > x.shape[-1]
        x = x.mT if tall else x
        x = x / (jnp.linalg.norm(x, axis=(-2, -1), keepdims=True) + 1e-8)

        def step(_, x):
            a, b, c = KELLER
            gram = x @ x.mT
            return a * x + (b * gram + c * gram @ gram) @ x

        x = jax.lax.fori_loop(0, 5, step, x)
        return x.mT if tall else x

    matrices = optax.chain(
        gs.momentum(0.95, "ema_nesterov"),
        optax.stateless(lambda updates, params: jax.tree.map(orthogonalize, updates)),
        optax.scale_by_learning_rate(0.02),
    )
    labels = {path: "adam" if is_embedding(path) else "muon" for path in tree}
    return optax.partition({"muon": matrices, "adam": optax.adamw(3e-3)}, labels)


def ours(**arguments: Any) -> Callable:
    def build(tree: dict[str, tuple[int, ...]]) -> optax.GradientTransformation:
        axes = {path: STACKED for path, shape in tree.items() if len(shape) == 3}
        roles = {path: "embedding" for path in tree if is_embedding(path)}
        return gs.muon(0.02, axes=axes or None, roles=roles, **arguments)

    return build


@dataclass
class Subject:
    """One way to make an update, and what was measured of it."""

    name: str
    update: Callable[[], Any]
    flops: float
    compile_seconds: float = math.nan
    temporaries: float = math.nan
    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def measure(self) -> None:
        """Make one update and note what it took."""
        cpu, wall = time.process_time(), time.perf_counter()
        self.update()
        self.wall.append(time.perf_counter() - wall)
        self.cpu.append(time.process_time() - cpu)


def jax_subject(name: str, build: Callable, tree: dict, flops: float, params, grads) -> Subject:
    tx = build(tree)
    state = jax.block_until_ready(jax.jit(tx.init)(params))

    def step(params, grads, state):
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    def compile_step():
        return jax.jit(lambda *arguments: step(*arguments)).lower(params, grads, state).compile()

    compile_step()  # whoever comes first would pay for what is done once in a process
    start = time.perf_counter()
    compiled = compile_step()
    seconds = time.perf_counter() - start
    memory = compiled.memory_analysis()
    temporaries = memory.temp_size_in_bytes / 2**20 if memory is not None else math.nan
    run = lambda: jax.block_until_ready(compiled(params, grads, state))
    return Subject(name, run, flops, seconds, temporaries)


def torch_subject(tree: dict, flops: float) -> Subject:
    """`torch.optim.Muon`, whose products are bfloat16; it takes no stacks and no embeddings."""
    assert torch is not None
    shapes = [shape for path, shape in tree.items() if not is_embedding(path)]
    weights = [torch.nn.Parameter(torch.randn(shape)) for shape in shapes]
    for weight in weights:
        weight.grad = torch.randn(weight.shape)
    optimizer = torch.optim.Muon(weights, lr=0.02)
    return Subject("torch.optim.Muon, bf16", optimizer.step, flops)


def flops_of(tree: dict[str, tuple[int, ...]], **arguments: Any) -> float:
    """The flops that gradsmith plans for the matrices of a tree; by default five plain steps."""
    total = 0
    for path, (*stack, m, n) in tree.items():
        if not is_embedding(path):
            request = Request(**arguments)
            n, m = sorted((m, n))
            plain = 5 * (4 * n * n * m + 2 * n**3)
            from_gram = (
                request.plan(n, m, jnp.float32, from_gram=True).flops if arguments else plain
            )
            total += math.prod(stack) * from_gram
    return total


def gemm_peak(n: int = 2048) -> float:
    """Flops a second of one large float32 product, the best of five."""
    x = jnp.ones((n, n))
    product = jax.jit(lambda x: x @ x).lower(x).compile()
    best = math.inf
    for _ in range(5):
        start = time.perf_counter()
        product(x).block_until_ready()
        best = min(best, time.perf_counter() - start)
    return 2 * n**3 / best


def report(name: str, rounds: int) -> None:
    tree = TREES[name]
    key = jax.random.key(0)
    params = {
        path: jax.random.normal(jax.random.fold_in(key, i), shape)
        for i, (path, shape) in enumerate(tree.items())
    }
    grads = jax.tree.map(lambda x: x[..., ::-1], params)
    plain = flops_of(tree)
    subjects = [
        jax_subject(label, build, tree, flops, params, grads)
        for label, build, flops in (
            (f"optax {optax.__version__}", pinned, plain),
            ("fori_loop", looped, plain),
            ("gradsmith", ours(), flops_of(tree, coefficients="keller")),
            ("gradsmith, 0.32", ours(max_error=0.32), flops_of(tree, max_error=0.32)),
        )
    ]
    if torch is not None and all(len(shape) == 2 for shape in tree.values()):
        subjects.append(torch_subject(tree, plain))
    for subject in subjects:
        subject.update()
    for _ in range(rounds):
        for subject in subjects:
            subject.measure()
    peak = gemm_peak()
    first, loop = (statistics.median(subject.wall) for subject in subjects[:2])
    first_cpu = statistics.median(subjects[0].cpu)
    print(f"\n{name}: {plain / 1e9:.0f} G flops in five steps, peak {peak / 1e9:.0f} G/s")
    print(
        f"{'':24}{'wall':>9}{'cpu':>9}{'x optax':>9}{'x loop':>8}{'x cpu':>7}"
        f"{'share':>7}{'compile':>9}{'temporaries':>13}"
    )
    for subject in subjects:
        wall, cpu = statistics.median(subject.wall), statistics.median(subject.cpu)
        print(
            f"{subject.name:24}{wall * 1e3:7.0f}ms{cpu * 1e3:7.0f}ms{first / wall:9.2f}"
            f"{loop / wall:8.2f}{first_cpu / cpu:7.2f}{subject.flops / wall / peak:7.0%}"
            f"{subject.compile_seconds:8.1f}s{subject.temporaries:9.0f} MiB"
        )


SPECTRA: dict[str, Callable[[int], np.ndarray]] = {
    "gaussian": lambda n: np.linalg.svd(
        np.random.default_rng(0).standard_normal((n, 4 * n)), compute_uv=False
    ),
    "power law": lambda n: 1 / np.arange(1, n + 1),
    "1 ... 1e-3": lambda n: np.geomspace(1, 1e-3, n),
    "1 ... 1e-6": lambda n: np.geomspace(1, 1e-6, n),
    "rank n/4": lambda n: np.ones(n // 4),
}


def accuracy(n: int = 256) -> None:
    """Print the distance of the singular values above `1.5e-3 ||x||_F` from 1."""
    rng = np.random.default_rng(1)
    print(f"\ndistance of singular values from 1, {n} x {4 * n}: largest (mean)")
    print(f"{'':14}{'five steps':>16}{'gradsmith':>16}{'gradsmith, 0.32':>18}{'0.02':>16}")
    for name, spectrum in SPECTRA.items():
        s = spectrum(n)
        u = np.linalg.qr(rng.standard_normal((n, len(s))))[0]
        v = np.linalg.qr(rng.standard_normal((4 * n, len(s))))[0]
        kept = s > 1.5e-3 * np.linalg.norm(s)
        x = jnp.asarray((u * s) @ v.T, jnp.float32)
        row = f"{name:14}"
        for width, out in (
            (16, gs.matrix.newton_schulz(x)),
            (16, gs.matrix.gram_newton_schulz(x)),
            (18, gs.matrix.orthogonalize(x, max_error=0.32)),
            (16, gs.matrix.orthogonalize(x, max_error=0.021)),
        ):
            error = np.abs(np.diag(u.T @ np.asarray(out, np.float64) @ v)[kept] - 1)
            row += f"{f'{error.max():.3f} ({error.mean():.3f})':>{width}}"
        print(row)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("trees", nargs="*", choices=[*TREES, []], help="by default all")
    parser.add_argument("--rounds", type=int, default=5, help="updates of each subject")
    arguments = parser.parse_args()
    accuracy()
    for name in arguments.trees or TREES:
        report(name, arguments.rounds)


if __name__ == "__main__":
    main()
