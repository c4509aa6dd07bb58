"""What one update of Muon costs each of eight devices: GPT-2 small's matrices, 340 MB in float32.

    python benchmarks/mesh.py                 # a few minutes; nothing is run, programs are compiled
    python benchmarks/mesh.py --optax         # optax.contrib.muon as well, several minutes more

Everything but the tracing time is read from the compiled programs, so it is exact and the same on
every machine. `flops` are those of matrix products, in units of an eighth of the update on one
device; `received` in units of the two-reshard bound, each matrix once to one device and its update
once back. A bar that is missed is marked with an exclamation mark, and ends the command with 1.
"""

import argparse
import contextlib
import os
import statistics
import sys
import time

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
)

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from optax import contrib
from rich import box
from rich.console import Console
from rich.table import Table

import gradsmith as gs
from gradsmith.xla.program.collectives import in_words

MIB = 2**20
LAYERS = 12
KERNELS = {
    "attention_in": (768, 2304),
    "attention_out": (768, 768),
    "mlp_in": (768, 3072),
    "mlp_out": (3072, 768),
}
LAYOUTS = {
    "fsdp 8, rows": ({"fsdp": 8}, ("fsdp", None)),
    "fsdp 8, columns": ({"fsdp": 8}, (None, "fsdp")),
    "fsdp 2 x tensor 4": ({"fsdp": 2, "tensor": 4}, ("fsdp", "tensor")),
    "data 2 x fsdp 4": ({"data": 2, "fsdp": 4}, ("fsdp", None)),
    "replicated": ({"data": 8}, (None, None)),
}
STACKED = gs.MatrixAxes(batch_axis=0)

FLOPS = 1.1 * 1.17  # twelve of eight are sixteen; a shape with its transpose needs no padding
RECEIVED = 1.15
WIRE = 0.6
TEMPORARIES = 145 * MIB
TRACING = 1.2


def parameters(layout, scanned, kind):
    """Return the shapes and shardings of the matrices, in twelve layers or in one scanned one."""
    sizes, spec = LAYOUTS[layout]
    mesh = jax.make_mesh(tuple(sizes.values()), tuple(sizes), axis_types=(kind,) * len(sizes))
    spec = P(*(None,) * scanned, *spec)
    stack = (LAYERS,) if scanned else ()
    place = lambda shape: jax.ShapeDtypeStruct(
        (*stack, *shape), jnp.float32, sharding=NamedSharding(mesh, spec)
    )
    layer = {name: place(shape) for name, shape in KERNELS.items()}
    return layer if scanned else {f"layer_{i}": layer for i in range(LAYERS)}


def forms(scanned):
    """Return the Muons to compare, each with the bars of its traffic."""
    axes = STACKED if scanned else None
    wire = gs.Owners(transfer_dtype=jnp.bfloat16)
    return {
        "default": (gs.muon(0.02, axes=axes), RECEIVED),
        "max_error=0.32": (gs.muon(0.02, axes=axes, max_error=0.32), RECEIVED),
        "default, 16-bit wire": (gs.muon(0.02, axes=axes, placement=wire), WIRE),
    }


def trace_seconds(tx, params):
    """Return the CPU seconds of tracing one update, and those without a mesh: medians of five."""
    bare = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), params)
    mesh = jax.tree.leaves(params)[0].sharding.mesh
    times = {True: [], False: []}
    for _ in range(5):
        for on_mesh in times:
            with jax.set_mesh(mesh) if on_mesh else contextlib.nullcontext():
                tree = params if on_mesh else bare
                state = jax.eval_shape(lambda p: tx.init(p), tree)
                start = time.process_time()
                jax.jit(lambda g, s, p: tx.update(g, s, p)).trace(tree, state, tree)
                times[on_mesh].append(time.process_time() - start)
    return statistics.median(times[True]), statistics.median(times[False])


def main():
    """Print the table; return 1 if a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--optax", action="store_true", help="measure optax.contrib.muon too")
    parser.add_argument("--layouts", nargs="+", choices=LAYOUTS, default=list(LAYOUTS))
    arguments = parser.parse_args()
    table = Table(box=box.SIMPLE_HEAD)
    for title in (
        "layout",
        "leaves",
        "form",
        "flops",
        "MB received",
        "of bound",
        "MiB temporaries",
    ):
        table.add_column(title, justify="right" if title[0] in "fMo" else "left")
    table.add_column("collectives")
    missed = []

    def mark(value, bar, text):
        if value <= bar * (1 + 1e-9):
            return text
        missed.append(text)
        return f"{text} !"

    for layout in arguments.layouts:
        for scanned in (False, True):
            leaves = "scanned" if scanned else "12 layers"
            params = parameters(layout, scanned, AxisType.Explicit)
            for form, (tx, bar) in forms(scanned).items():
                cost = gs.update_cost(tx, params)
                flops, received = cost.flops / cost.flops_bound, cost.received / cost.received_bound
                table.add_row(
                    layout,
                    leaves,
                    form,
                    mark(flops, FLOPS, f"{flops:.3f}"),
                    f"{cost.received / 1e6:.1f}",
                    mark(received, bar, f"{received:.3f}"),
                    mark(cost.temporaries, TEMPORARIES, f"{cost.temporaries / MIB:.0f}"),
                    in_words(cost.collectives),
                )
        if arguments.optax:
            params = parameters(layout, False, AxisType.Auto)
            cost = gs.update_cost(contrib.muon(0.02), params)
            table.add_row(
                layout,
                "12 layers",
                "optax.contrib.muon",
                f"{cost.flops / cost.flops_bound:.3f}",
                f"{cost.received / 1e6:.1f}",
                f"{cost.received / cost.received_bound:.3f}",
                f"{cost.temporaries / MIB:.0f}",
                in_words(cost.collectives),
            )
    Console(width=150).print(table)
    params = parameters("fsdp 2 x tensor 4", False, AxisType.Explicit)
    with_mesh, without = trace_seconds(gs.muon(0.02), params)
    ratio = mark(with_mesh / without, TRACING, f"{with_mesh / without:.2f}")
    print(f"tracing on fsdp 2 x tensor 4: {with_mesh:.3f} s CPU, {without:.3f} without: {ratio}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
