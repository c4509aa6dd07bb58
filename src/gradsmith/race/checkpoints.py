"""The state of the run that is under way, so that a killed race loses seconds."""

import shutil
from pathlib import Path

import jax
import numpy as np
from jaxtyping import PyTree


class Checkpoints:
    """Keeps the latest state of one run, in `folder / run`; Orbax makes each save all or nothing.

    A tree is stored as its leaves, so that any optimizer's state can be stored; the tree given to
    `load` says what form they have. Leaves without elements, which Orbax refuses, are not stored.
    """

    def __init__(self, folder: Path, run: str):
        import orbax.checkpoint as ocp

        self._folder = folder
        self._save, self._load = ocp.args.StandardSave, ocp.args.StandardRestore
        options = ocp.CheckpointManagerOptions(max_to_keep=1, enable_async_checkpointing=False)
        self._manager = ocp.CheckpointManager((folder / run).absolute(), options=options)

    def save(self, step: int, tree: PyTree) -> None:
        """Store the tree as that of `step`, in place of an earlier one."""
        leaves = [leaf for leaf in jax.tree.leaves(tree) if leaf.size]
        self._manager.save(step, args=self._save(leaves))

    def load(self, like: PyTree) -> PyTree | None:
        """The latest tree, in the form of `like`; None if there is none."""
        step = self._manager.latest_step()
        if step is None:
            return None
        leaves, structure = jax.tree.flatten(like)
        stored = iter(
            self._manager.restore(step, args=self._load([leaf for leaf in leaves if leaf.size]))
        )
        return structure.unflatten(
            [next(stored) if leaf.size else np.zeros(leaf.shape, leaf.dtype) for leaf in leaves]
        )

    def remove(self) -> None:
        """Remove the folder, and with it what a kill left of earlier runs: the run is finished."""
        self._manager.close()
        shutil.rmtree(self._folder)
