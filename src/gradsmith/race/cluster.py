"""Runs as tasks of a Ray cluster (extra `cluster`)."""

import functools
import importlib
import math
import os
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import jax

from .display import Display, name
from .errors import RaceError
from .executors import Executor
from .lock import claimed, lock_file
from .prepare import prepare
from .protocol import Job
from .provenance import FLAGS, OPTIONS
from .records import Record
from .run import folder_of
from .runner import Runner

RETRIES = 10  # of a run whose process or node is lost


class Ray(Executor):
    """On the nodes of a Ray cluster: each run is a task, with one GPU where there are any.

    A run on a mesh has as many as the mesh.

    A run whose process or node is lost goes on elsewhere, from its checkpoint. All nodes see the
    folder of the race under the same path. They have the same devices and versions as the process
    that starts the race, or the folder refuses them; they take over its settings of JAX and XLA.

    Args:
        address: Of the cluster; `local` starts one on this machine.

    Raises:
        RaceError: Ray is not installed.
    """

    def __init__(self, address: str):
        try:
            self._ray = importlib.import_module("ray")
        except ImportError as error:
            raise RaceError("Ray is not installed: pip install 'gradsmith[cluster]'") from error
        self._address = address

    def records(self, jobs: list[Job], runner: Runner) -> Iterator[tuple[Job, Record]]:
        """Hand out all jobs, and yield each record as it comes."""
        ray = self._ray
        if not ray.is_initialized():
            ray.init(self._address, log_to_driver=False)
        runner.folder.pin()
        race = ray.put(self._pickled(runner))
        accelerated = any(key.startswith("accelerator_type:") for key in ray.cluster_resources())
        devices = math.prod(runner.prepared.race.mesh.values()) if accelerated else 0
        task = ray.remote(num_gpus=devices, max_retries=RETRIES, runtime_env=_environment())(_run)
        where = runner.folder.path.absolute(), runner.checkpoint_seconds
        pending = {task.remote(_options(), race, *where, job): job for job in jobs}
        while pending:
            (done,), _ = ray.wait(list(pending))
            job = pending.pop(done)
            try:
                record = ray.get(done)
            except ray.exceptions.RayError as error:
                cause = getattr(error, "cause", None) or error
                raise RaceError(
                    f"{name(job.run, job.settings)} failed on the cluster: {cause}\n"
                    "what is finished is kept, and the same command continues the race"
                ) from error
            runner.display.start(job.run, job.settings)
            yield job, record
            lock_file(runner.folder.path, f"run {job.number}").unlink(missing_ok=True)

    def _pickled(self, runner: Runner) -> bytes:
        for file in _files():
            self._ray.cloudpickle.register_pickle_by_value(file)
        return self._ray.cloudpickle.dumps((runner.prepared.race, runner.watch))


def _files() -> list[ModuleType]:
    """The files that the command line named: nodes cannot import them."""
    return [file for key, file in sys.modules.items() if key.startswith("_gradsmith_")]


def _environment() -> dict[str, Any]:
    """What a process of the cluster starts with: what this one can import, and its flags."""
    beside = {str(Path(str(file.__file__)).resolve().parent) for file in _files()}
    paths = os.pathsep.join(path for path in [*sys.path, *sorted(beside)] if path)
    flags = {flag: os.environ.get(flag, "") for flag in FLAGS}
    return {"env_vars": {"PYTHONPATH": paths, **flags}}


def _options() -> dict[str, Any]:
    """What JAX is told in this process that may change the figures of a race."""
    return {option: getattr(jax.config, option) for option in OPTIONS}


def _run(
    options: dict[str, Any], race: bytes, path: Path, checkpoint_seconds: float, job: Job
) -> Record:
    for option, value in options.items():
        jax.config.update(option, value)
    runner = _runner(race, path, checkpoint_seconds)
    with claimed(path, f"run {job.number}") as tell:
        tell(name(job.run, job.settings))
        runner.compile([job])
        return runner(job)


@functools.lru_cache(maxsize=1)  # a process of the cluster does many runs of a race
def _runner(race: bytes, path: Path, checkpoint_seconds: float) -> Runner:
    asked, watch = pickle.loads(race)
    prepared = prepare(asked)
    folder = folder_of(prepared, path)
    folder.refuse_to_go_on()
    return Runner(prepared, folder, Display(), lambda doing: None, checkpoint_seconds, watch)
