"""Which parts of `gradsmith.forge` help: the recipe, each part left out, and parts that were tried.

python benchmarks/forge.py FOLDER          # race them on Shakespeare, for ten seeds; an hour

prints the command line of the race and runs it; killed, the same command goes on. Then it prints
what `benchmarks/five_seeds.py` does, with differences to `forge`.
"""

import shlex
import subprocess
import sys
from pathlib import Path

import optax

import gradsmith as gs

RATES = "learning_rate=[0.02, 0.04, 0.08]"
ENTRIES = (
    f"forge({RATES})",
    "adamw(learning_rate=[0.005, 0.01, 0.02])",
    f"optax.contrib.muon({RATES})",
    f"muon({RATES})",
    *(
        f"benchmarks/forge.py:{name}({RATES})"
        for name in (
            "both_sides",
            "not_whitened",
            "momentum_95",
            "tables_by_adamw",
            "with_neurons",
            "with_look_ahead",
            "averaged",
        )
    ),
)


def chain(rate, *, momentum=0.9, sides="smaller", whiten=True, neurons=False, tables=True):
    """`forge` from its parts, and without some."""
    parts = [
        gs.whiten_momentum(momentum, refresh_every=10, sides=sides)
        if whiten
        else gs.momentum(momentum),
        gs.polar_factor(),
        *([gs.scale_by_neuron_rms(0.95)] if neurons else []),
        gs.scale_by_aspect_ratio(),
    ]

    def matrices(axes):
        step = gs.scale_by_learning_rate(rate)
        return optax.chain(gs.per_stack(optax.chain(*parts), axes=axes), step)

    adam = optax.chain(gs.scale_by_adam(b2=0.95, eps=1e-10), gs.scale_by_learning_rate(rate))
    table = matrices(gs.MatrixAxes(0, 1)) if tables else None
    return gs.partition_by_role(matrices, adam, embedding=table, head=table)


def both_sides(learning_rate):
    """A basis for the longer side as well."""
    return chain(learning_rate, sides="both")


def not_whitened(learning_rate):
    """Muon's momentum."""
    return chain(learning_rate, whiten=False)


def momentum_95(learning_rate):
    """Muon's decay of the momentum."""
    return chain(learning_rate, momentum=0.95)


def tables_by_adamw(learning_rate):
    """Embedding and head by AdamW."""
    return chain(learning_rate, tables=False)


def with_neurons(learning_rate):
    """NorMuon's equal parts for the neurons."""
    return chain(learning_rate, neurons=True)


def with_look_ahead(learning_rate):
    """The records' gradients ahead of the weights."""
    return optax.chain(chain(learning_rate), gs.ema_nesterov(0.9, 0.3))


def averaged(learning_rate):
    """Evaluated at a moving average of the weights."""
    return optax.chain(chain(learning_rate), gs.average_weights(0.9))


def main(folder: Path) -> None:
    command = ["gradsmith", "race", *ENTRIES, "--seeds", "10", "--no-watch", "--out", str(folder)]
    print(shlex.join(command), flush=True)
    installed = Path(sys.executable).parent / "gradsmith"  # beside this Python, on the path or not
    subprocess.run([str(installed), *command[1:]], check=True)
    subprocess.run([sys.executable, "benchmarks/five_seeds.py", str(folder), "forge"], check=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
