"""Runs as Ray tasks leave the records of one process, also when their processes are killed."""

import contextlib
import dataclasses
import os
import signal
import sys
import threading
import time

import jax
import pytest
from race_helpers import race

from gradsmith.race import Display, Protocol, RaceError, run_race
from gradsmith.race.cluster import Ray
from gradsmith.race.lock import holders


@pytest.fixture
def cluster():
    """A cluster, whose processes have JAX as it comes: other libraries change its precision."""
    ray = pytest.importorskip("ray")
    precision = jax.config.jax_default_matmul_precision  # pyright: ignore[reportAttributeAccessIssue]
    jax.config.update("jax_default_matmul_precision", None)
    yield
    jax.config.update("jax_default_matmul_precision", precision)
    ray.shutdown()


def outcome(records):
    return [dataclasses.replace(record, timing={}) for record in records]


@pytest.mark.clients
@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_a_race_on_a_cluster_with_a_process_that_is_killed_is_that_of_one_process(
    tmp_path, cluster
):
    asked = dataclasses.replace(
        race("a", "b", rates=(0.01, 0.1), noise=0.1, steps=15), protocol=Protocol(seeds=1)
    )
    folder, killed = tmp_path / "cluster", []

    def kill_one():
        while not killed:
            with contextlib.suppress(ProcessLookupError):
                for holder in holders(folder):
                    number = holder.name.removeprefix("run ")
                    saved = folder / "checkpoints" / f"run-{number}"
                    if number != holder.name and any(saved.glob("[3-9]")):
                        os.kill(holder.process, signal.SIGKILL)
                        killed.append(holder.name)
            time.sleep(0.001)

    threading.Thread(target=kill_one, daemon=True).start()
    records = run_race(asked, folder, Display(), 0.0, Ray("local"))
    assert killed
    assert outcome(records) == outcome(run_race(asked, tmp_path / "alone", Display()))
    left = {path.name for path in folder.iterdir()}
    assert left == {"config.json", "records.jsonl", ".lock"}


def test_without_ray_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(RaceError, match=r"pip install 'gradsmith\[cluster\]'"):
        Ray("local")
