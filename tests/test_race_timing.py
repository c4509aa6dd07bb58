"""Updates are timed over whole periods, with gradients that change, all entries alike."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from race_helpers import parabola, single

from gradsmith.race import Entry, Protocol, Race, run_race
from gradsmith.race.compiled import Compiled, Program, RunState, lower_entry
from gradsmith.race.display import Display
from gradsmith.race.plan import plan
from gradsmith.race.prepare import prepare
from gradsmith.race.timing import measure


def test_no_two_timed_updates_have_the_same_gradient():
    seen = []

    def spy(lr):
        def update(updates, state, params=None):
            jax.debug.callback(lambda x: seen.append(np.asarray(x)), updates["x"], ordered=True)
            return jax.tree.map(lambda u: -lr * u, updates), state

        return optax.GradientTransformation(lambda params: optax.EmptyState(), update)

    compiled = lower_entry(parabola(), Entry("spy", spy), {}).compile()
    run = compiled.start(jnp.float32(0.1), jnp.int32(0))
    noise = {"x": jnp.ones(3)}
    compiled.update(run, noise, jnp.float32(0.1), jnp.int32(0), jnp.int32(4))
    jax.effects_barrier()
    assert len({tuple(grad) for grad in seen}) == 4


class Clock:
    """Time that passes by what the updates cost, and a list of who was timed."""

    def __init__(self):
        self.now = 0.0
        self.timed = []

    def entry(self, name, cost):
        """Return an entry whose update costs `cost(step)` seconds."""

        def update(run, noise, rate, seed, count):
            self.timed.append(name)
            self.now += sum(map(cost, range(int(count))))

        abstract = lower_entry(parabola(), Entry("sgd", optax.sgd), {}).abstract
        nothing = lambda *arguments: None
        return Compiled(nothing, nothing, update, nothing, abstract)


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr("time.perf_counter", lambda: clock.now)
    return clock


def test_a_refresh_now_and_then_is_charged_as_often_as_it_happens(clock):
    entries = {"now and then": clock.entry("", lambda step: 1e-3 if step % 100 else 50e-3)}
    expected = (297 * 1e-3 + 3 * 50e-3) / 300
    assert measure(entries, steps=300)["now and then"] == pytest.approx(expected)


def test_no_timing_takes_much_more_than_a_second(clock):
    measure({"slow": clock.entry("slow", lambda step: 0.1)}, steps=10_000)
    assert clock.now < 5


def test_every_round_goes_over_all_entries(clock):
    entries = {name: clock.entry(name, lambda step: 1e-3) for name in "abc"}
    measure(entries, steps=10)
    assert clock.timed[-9:] == list("abc" * 3)


@pytest.mark.parametrize(
    ("costs", "steps", "mean"),
    [
        ([10.0, 10.5], 2, 10.25),
        ([14.0, 10.0, 10.0], 3, 10.0),  # the first is often slower
        ([1.0, 2.0, 3.0, 5.0], 4, 4.0),  # a busy machine: no more than four
    ],
)
def test_a_plan_times_no_more_steps_than_it_has_to(clock, monkeypatch, costs, steps, mean):
    """And says before each entry that it compiles and times it."""
    asked = Race(parabola(), (Entry("sgd", optax.sgd), Entry("other", optax.sgd)), (0.1,))
    left = []

    def advance(run, rate, seed, until, portion):
        clock.timed.append(int(run.step))
        clock.now += left.pop(0)
        return run._replace(step=until), 0.0

    def compiled(program):
        clock.timed.append("compiles")
        left[:] = [*costs, *[99.0] * 9]
        start = lambda rate, seed: RunState({}, (), jnp.int32(0), jnp.int32(0), jnp.int32(0))
        return Compiled(start, advance, advance, advance, program.abstract)

    class Heard(Display):
        def compiling(self, entry):
            clock.timed.append(entry)

    monkeypatch.setattr(Program, "compile", compiled)
    first, second = plan(prepare(asked), Heard())
    assert first.step_seconds == second.step_seconds == pytest.approx(mean)
    made = ["compiles", *range(steps)]
    assert clock.timed == ["sgd", *made, "other", *made]


def test_a_line_search_is_charged_for_its_passes(tmp_path, standard_promotion):
    """The search's own count of its trials is the oracle, told by a callback on every step."""
    trials = []

    def searching(lr):
        search = optax.scale_by_backtracking_linesearch(20, store_grad=True)
        tx = optax.chain(optax.sgd(100 * lr), search)

        def update(updates, state, params=None, **extra):
            updates, state = tx.update(updates, state, params, **extra)
            jax.debug.callback(trials.append, state[-1].info.num_linesearch_steps, ordered=True)
            return updates, state

        return optax.GradientTransformationExtraArgs(tx.init, update)

    entries = (Entry("searching", searching), Entry("sgd", optax.sgd))
    asked = Race(parabola(), entries, (0.1,), Protocol(seeds=1))
    searched, plain = run_race(asked, tmp_path)[2:]
    jax.effects_barrier()
    tried = sum(map(int, trials[-20:]))
    assert tried > 20
    assert searched.passes == {"forward": 20 + tried, "backward": 20 + tried}
    assert plain.passes == {"forward": 20, "backward": 20}
    assert searched.curve.passes[-1] == 2 * (20 + tried)
    assert plain.curve.passes == [2 * step for step in plain.curve.step]


def test_a_search_by_values_alone_takes_no_backward_pass(tmp_path, standard_promotion):
    search = functools.partial(optax.scale_by_backtracking_linesearch, 20)
    entry = Entry("it", lambda lr: optax.chain(optax.sgd(100 * lr), search()))
    _, record = run_race(single(entry), tmp_path)
    assert record.passes["backward"] == 20 < record.passes["forward"]
