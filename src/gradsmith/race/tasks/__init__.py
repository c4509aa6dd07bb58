"""Problems to race on: what a task is, and the ones that come with gradsmith."""

import importlib
from collections.abc import Callable, Mapping

from .stream import Batch as Batch
from .stream import Stream as Stream
from .task import Task as Task

TASKS: Mapping[str, str] = {  # by name, the module of this folder with a function of that name
    "shakespeare": "shakespeare",
    "shakespeare_1m": "shakespeare",
    "shakespeare_5m": "shakespeare",
    "fashion_conv": "fashion_conv",
    "fashion_patches": "fashion_patches",
    "autoencoder": "autoencoder",
    "tabular": "tabular",
    "experts": "experts",
    "linear_attention": "linear_attention",
    "lora": "lora",
    "track3": "track3",
}


def task_maker(name: str) -> Callable[..., Task]:
    """The function that makes a task; the libraries that it needs are imported now.

    Examples:
        >>> task_maker("tabular")(width=64).origin["width"]
        64
    """
    return getattr(importlib.import_module(f".{TASKS[name]}", __name__), name)
