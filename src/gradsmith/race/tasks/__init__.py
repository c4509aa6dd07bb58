"""Problems to race on: what a task is, and the ones that come with gradsmith."""

from .task import Batch as Batch
from .task import Task as Task

TASKS = ("shakespeare",)  # each a module of this folder, with a function of the same name
