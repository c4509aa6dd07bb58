"""Make a record of each run that is to be done, in this process."""

import functools
import math
from collections.abc import Callable, Iterable

import jax
from jaxtyping import PyTree

from .checkpoints import Checkpoints
from .compiled import Compiled
from .course import Course, train
from .display import Display, name
from .errors import enough_memory
from .examine import examine_rate
from .folder import Folder
from .points import curve_steps
from .prepare import Prepared, program_name
from .processes import is_first
from .protocol import Job
from .records import Curve, Record
from .space import RATE
from .tasks import Batch
from .timing import measure
from .watching import Watch, Watcher


class Runner:
    """Compiles what it is told of, each program once, and runs it.

    Args:
        prepared: The race.
        folder: Where checkpoints are.
        display: Who hears of the progress.
        tell: Is told what is being done, in a few words.
        checkpoint_seconds: Time between two checkpoints of a run.
        watch: Looks inside the optimizers of reported runs; see `run_race`.
    """

    def __init__(
        self,
        prepared: Prepared,
        folder: Folder,
        display: Display,
        tell: Callable[[str], None],
        checkpoint_seconds: float,
        watch: Watch | None = None,
    ):
        self.prepared, self.folder, self.checkpoint_seconds = prepared, folder, checkpoint_seconds
        self.display, self._tell, self.watch = display, tell, watch
        self._compiled: dict[str, Compiled] = {}
        self._updates: dict[str, float] = {}
        self._watchers: dict[str, Watcher | None] = {}

    def compile(self, jobs: Iterable[Job]) -> None:
        """Compile and time what these jobs run; then the folder is claimed for the race."""
        jobs, new = list(jobs), {}
        for program in dict.fromkeys(_program(job) for job in jobs):
            if program not in self._compiled:
                entry = program.removeprefix("entry ")
                self.display.compiling(entry)
                self._tell(f"compiling {entry}")
                with enough_memory(entry):
                    new[program] = self.prepared.programs[program].compile()
                    examine_rate(new[program], entry)
        with enough_memory(" and ".join(new).replace("entry ", "")):
            self._updates |= measure(new, self.prepared.race.task.steps)
        self._compiled |= new
        if is_first():
            self.folder.pin()
        for job in jobs:
            if self.watch and job.run.seed >= 0 and _program(job) not in self._watchers:
                self._watchers[_program(job)] = self._watcher(job, self.watch)

    def _watcher(self, job: Job, watch: Watch) -> Watcher | None:
        """Who looks inside the runs of the program; None, with a remark, where it cannot be."""
        what, race = _program(job).removeprefix("entry "), self.prepared.race
        self.display.compiling(f"{what}, to look inside")
        self._tell(f"compiling {what}, to look inside")
        entry = next(one for one in race.entries if one.name == job.run.entry)
        try:
            return Watcher(race.task, entry, job.settings, watch, self.prepared.mesh)
        except Exception as error:  # of the optimizer, the watch or the compiler: the race goes on
            summary = str(error).strip().splitlines() or ["no message"]
            self.display.remark(
                f"nothing is read inside {what}: {type(error).__name__}: {summary[0]}"
            )
            return None

    def __call__(self, job: Job) -> Record:
        """Run a job whose program is compiled, from its checkpoint if there is one."""
        self.display.start(job.run, job.settings)
        self._tell(name(job.run, job.settings))
        watcher = self._watchers.get(_program(job)) if job.run.seed >= 0 else None
        identity = {
            **job.run._asdict(),
            "settings": job.settings,
            "program": self.prepared.fingerprints[_program(job)],
            "config": self.folder.config,
            "number of readings": watcher.numbers if watcher else 0,
        }
        checkpoints = Checkpoints(self.folder.checkpoint(job.number), identity)
        with enough_memory(_program(job).removeprefix("entry ")):
            course = train(
                self.prepared.race.task,
                self._compiled[_program(job)],
                self._select if job.run.seed < 0 else self._report,
                job.settings[RATE],
                job.run.seed,
                checkpoints,
                self.checkpoint_seconds,
                self.display,
                watcher,
            )
        checkpoints.close()
        if watcher and is_first():
            watcher.write(self.folder.readings(job.number), course.seen, job.run)
        return self._record(job, course)

    @functools.cached_property
    def _select(self) -> Callable[[PyTree], jax.Array]:
        return _held_out(self.prepared.select, self.prepared.race.task.selection)

    @functools.cached_property
    def _report(self) -> Callable[[PyTree], jax.Array]:
        return _held_out(self.prepared.report, self.prepared.race.task.report)

    def _record(self, job: Job, course: Course) -> Record:
        task = self.prepared.race.task
        diverged_at = int(course.state.diverged_at) or None
        end = int(course.state.step)
        steps = [min(step, end) for step in curve_steps(task.steps)]
        length = steps.index(end) + 1
        training, validation = course.curve[:length].astype(float).T.tolist()
        reached = [s for s, loss in zip(steps, validation, strict=False) if loss <= task.target]
        forward, backward = course.state.passes.tolist()
        return Record(
            **job.run._asdict(),
            settings=job.settings,
            validation_loss=None if diverged_at else validation[-1],
            steps_to_target=reached[0] if reached else None,
            diverged_at=diverged_at,
            passes={"forward": forward, "backward": backward},
            curve=Curve(
                steps[:length],
                course.passes[:length].tolist(),
                _finite(training),
                _finite(validation),
            ),
            program=self.prepared.fingerprints[_program(job)],
            config=self.folder.config,
            versions=self.folder.versions,
            timing={
                "run": float(course.seconds),
                "step": float(course.stepping) / end,
                "update": self._updates[_program(job)],
                **({"watch": float(course.seen.seconds)} if course.seen.rows.size else {}),
            },
        )


def _program(job: Job) -> str:
    return program_name(job.run.entry, job.settings)


def _held_out(loss: jax.stages.Lowered, data: Batch) -> Callable[[PyTree], jax.Array]:
    compiled = loss.compile()
    return lambda params: compiled(params, data)


def _finite(losses: list[float]) -> list[float | None]:
    return [loss if math.isfinite(loss) else None for loss in losses]
