"""The task of a race, from what the command line names."""

import dataclasses
from collections.abc import Sequence

from ..race import SUITES, TASKS, Task, task_maker
from .loading import UsageError, bind, load
from .race_entries import refuse_twice


def load_task(spec: str, assignments: Sequence[str]) -> Task:
    """Make the task that `spec` names, with `name=value` for its arguments.

    Raises:
        UsageError: There is no such task, it fails, or what comes out is none.
    """
    if spec not in TASKS and "." not in spec:
        raise UsageError(
            f"no task is called {spec!r}; there is {', '.join(TASKS)}, the suites "
            f"{', '.join(SUITES)}, and your own: --task file.py:make_task"
        )
    make = task_maker(spec) if spec in TASKS else load(spec)
    if not callable(make):
        raise UsageError(f"{spec} is a {type(make).__name__}, not a function that makes a Task")
    refuse_twice("--task-arg", assignments)
    bound = bind(make, assignments, spec)
    try:
        task = bound()
    except Exception as error:
        raise UsageError(f"task {spec} fails: {type(error).__name__}: {error}") from error
    if not isinstance(task, Task):
        raise UsageError(
            f"{spec} returns a {type(task).__name__}, not a gradsmith.race.Task; "
            "docs/race.md shows a small one"
        )
    origin = {**task.origin, "spec": spec, "arguments": list(assignments)}
    return dataclasses.replace(task, origin=origin)
