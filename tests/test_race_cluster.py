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

from gradsmith.race import Display, Protocol, RaceError, run_race, run_suite
from gradsmith.race.cluster import Ray
from gradsmith.race.lock import holders


@pytest.fixture
def cluster():
    ray = pytest.importorskip("ray")
    yield ray
    ray.shutdown()


@pytest.fixture
def settings():
    """Set an option of JAX until the end of the test."""
    before = {}

    def change(name, value):
        before.setdefault(name, getattr(jax.config, name))
        jax.config.update(name, value)

    yield change
    for name, value in before.items():
        jax.config.update(name, value)


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


@pytest.mark.clients
@pytest.mark.filterwarnings("ignore")
def test_a_suite_on_a_cluster_has_the_settings_of_the_process_that_starts_it(
    tmp_path, cluster, settings, monkeypatch, standard_promotion
):
    cluster.init("local", log_to_driver=False)  # before the settings: its processes have others
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_cpu_enable_fast_min_max=false"
    monkeypatch.setenv("XLA_FLAGS", flags)
    settings("jax_enable_x64", True)
    settings("jax_default_matmul_precision", "float32")
    one = race("a", rates=(0.1,), seeds=1)
    named = lambda name: dataclasses.replace(one, task=dataclasses.replace(one.task, name=name))
    asked = [named("first"), named("second")]
    found = run_suite(asked, tmp_path / "cluster", Display(), executor=Ray("local"))
    alone = run_suite(asked, tmp_path / "alone", Display())
    assert [outcome(records) for records in found] == [outcome(records) for records in alone]
    versions = found[0][0].versions  # of the process that ran it
    assert versions["XLA_FLAGS"] == flags
    assert versions["jax_enable_x64"] == "True"
    assert versions["jax_default_matmul_precision"] == "float32"


def test_without_ray_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(RaceError, match=r"pip install 'gradsmith\[cluster\]'"):
        Ray("local")
