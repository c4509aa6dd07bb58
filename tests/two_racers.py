"""One of two processes with four devices each: they hold races together, as the first decides."""

import dataclasses
import functools
import json
import os
import sys
from pathlib import Path

import jax
from race_helpers import KillAfter

import gradsmith as gs
from gradsmith.race import Display, RaceError, processes, run_race


class Dead(KillAfter):
    """Ends the process at the n-th point of a curve, as a kill does."""

    def advance(self, step, loss, seconds):
        try:
            super().advance(step, loss, seconds)
        except BaseException:
            os._exit(9)


def refused(race, path):
    """Return the sentence."""
    try:
        run_race(race, path, Display())
    except RaceError as error:
        return str(error)


def main(rank, port, folder, points):
    jax.config.update("jax_numpy_dtype_promotion", "strict")
    jax.config.update("jax_numpy_rank_promotion", "raise")
    jax.distributed.initialize(f"localhost:{port}", 2, rank, initialization_timeout=60)
    from test_race_joined import races  # it makes arrays

    drawn = races()["drawn"]
    if not points:
        own = dataclasses.replace(drawn, rates=(0.02, 0.05 + 0.01 * rank))
        print("unlike", refused(own, folder / "unlike"))
        print("held", refused(drawn, folder / "held"))
    processes.BLOCK = 1 << 11  # so that much is told in several blocks
    display = Dead(points)  # only the first process hears of points
    for name, race in races().items():
        watch = functools.partial(gs.watch, readings=["sizes"]) if name == "drawn" else None
        records = run_race(race, folder / name, display, 0.0, watch=watch)
        print(name, json.dumps([dataclasses.asdict(record) for record in records]))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]))
