"""The state of the run that is under way, so that a killed race loses seconds."""

import functools
import gc
import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from .fingerprint import data_fingerprint


class DamagedCheckpointError(Exception):
    """A checkpoint cannot be read, or is that of another run."""


class Checkpoints:
    """Keeps the latest state of one run in a folder; Orbax makes each save all or nothing.

    A tree is stored as its leaves, so that any optimizer's state can be stored; the tree given to
    `load` says what form they have. Leaves without elements, which Orbax refuses, are not stored.
    With them stand the identity of the run and a hash of the leaves.

    Args:
        path: The folder.
        identity: What tells the run from any other, as JSON.
    """

    def __init__(self, path: Path, identity: Mapping[str, Any]):
        self._path, self._identity = path.absolute(), identity

    @functools.cached_property
    def _manager(self):
        """Of Orbax; the folder is made."""
        import orbax.checkpoint as ocp

        options = ocp.CheckpointManagerOptions(
            max_to_keep=1,
            enable_async_checkpointing=False,
            create=False,
            # Of several processes the first one writes and reads, and Orbax must not wait for more.
            multiprocessing_options=ocp.options.MultiprocessingOptions(active_processes={0}),
        )
        self._path.mkdir(parents=True, exist_ok=True)
        return ocp.CheckpointManager(self._path, options=options)

    def save(self, step: int, tree: PyTree) -> None:
        """Store the tree as that of `step`, in place of an earlier one.

        Raises:
            Exception: Of Orbax, TensorStore or the system: it cannot be written.
        """
        import orbax.checkpoint as ocp

        leaves = [leaf for leaf in jax.tree.leaves(tree) if leaf.size]
        about = {"identity": self._identity, "sha256": data_fingerprint(leaves)}
        parts = {"leaves": ocp.args.StandardSave(leaves), "about": ocp.args.JsonSave(about)}
        self._manager.save(step, args=ocp.args.Composite(**parts))

    def load(self, like: PyTree) -> PyTree | None:
        """The latest tree, in the form of `like`; None if there is none.

        Raises:
            DamagedCheckpointError: It cannot be read, has changed since it was written, or is
                that of another run.
        """
        import orbax.checkpoint as ocp

        step = self._manager.latest_step() if self._path.exists() else None
        if step is None:
            return None
        leaves, structure = jax.tree.flatten(like)
        about = self._read(step, "about", ocp.args.JsonRestore())
        if other := _differences(about["identity"], self._identity):
            raise DamagedCheckpointError(f"it is that of another run: {other}")
        wanted = ocp.args.StandardRestore([leaf for leaf in leaves if leaf.size])
        stored = self._read(step, "leaves", wanted)
        if about["sha256"] != data_fingerprint(stored):
            raise DamagedCheckpointError("its content is not what was written")
        rest = iter(stored)
        return structure.unflatten(
            [next(rest) if leaf.size else np.zeros(leaf.shape, leaf.dtype) for leaf in leaves]
        )

    def _read(self, step: int, part: str, how: Any) -> Any:
        """What is stored of a part."""
        import orbax.checkpoint as ocp

        with warnings.catch_warnings():
            # Where Orbax fails it leaves coroutines behind, which complain when they are collected.
            warnings.simplefilter("ignore", RuntimeWarning)
            try:
                return self._manager.restore(step, args=ocp.args.Composite(**{part: how}))[part]
            except Exception as error:  # Orbax, TensorStore and the system have their own each
                summary = str(error).strip().splitlines() or ["no message"]
                fault = f"{type(error).__name__}: {summary[0]}"
            gc.collect()
        raise DamagedCheckpointError(fault)

    def move_aside(self) -> Path:
        """Rename the folder of the run, so that it starts again; return where it is now."""
        self.close()
        numbers = (self._path.with_name(f"{self._path.name}-damaged-{i}") for i in range(10**6))
        aside = next(path for path in numbers if not path.exists())
        return self._path.rename(aside.parent.parent / aside.name)

    def close(self) -> None:
        """Let go of the folder; what is in it stays."""
        if manager := self.__dict__.pop("_manager", None):
            manager.close()


def _differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    """What another run is, in words; nothing where it is the same."""
    here = json.loads(json.dumps(here))  # as it reads back: tuples become lists
    found = [name for name in here if there.get(name) != here[name]]
    return ", ".join(f"its {name} is {there.get(name)}, and here {here[name]}" for name in found)
