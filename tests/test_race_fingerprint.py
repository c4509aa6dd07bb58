"""What is run is known by its program, its constants and its data, and by nothing else."""

import dataclasses
import functools
import subprocess
import sys
import textwrap
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from race_helpers import SGD, parabola, race, single

from gradsmith.race import Display, Entry, Race, RaceError, run_race
from gradsmith.race.compiled import lower_entry
from gradsmith.race.fingerprint import data_fingerprint
from gradsmith.race.prepare import prepare


def fingerprint(build, **task):
    return lower_entry(parabola(**task), Entry("it", build), {}).fingerprint()


def scaled(constant, lr):
    return optax.chain(
        optax.stateless(lambda u, p: jax.tree.map(lambda x: x * constant, u)), optax.sgd(lr)
    )


def test_the_same_program_written_twice_has_one_fingerprint():
    assert fingerprint(lambda lr: optax.sgd(lr)) == fingerprint(lambda rate: optax.sgd(rate))


@pytest.mark.parametrize(
    "other",
    [
        lambda lr: optax.sgd(-lr),
        lambda lr: optax.sgd(lr, momentum=0.9),
        functools.partial(scaled, jnp.array([1.0, 1.0, 2.0])),
    ],
    ids=["sign", "momentum", "constant"],
)
def test_another_computation_has_another_fingerprint(other):
    assert fingerprint(other) != fingerprint(optax.sgd)


def test_constants_count_however_many_they_are():
    ones = np.ones(3, np.float32)
    one, other = (functools.partial(scaled, ones * k) for k in (2.0, 3.0))
    assert fingerprint(one) != fingerprint(other)
    table = np.zeros(10_000, np.float32)
    task = parabola()
    drawing = [
        dataclasses.replace(
            task, batch=lambda key, data=data: task.batch(key) + jnp.asarray(data)[5]
        )
        for data in (table, np.where(np.arange(10_000) == 9_999, 1.0, table).astype(np.float32))
    ]
    one, other = (lower_entry(task, SGD, {}).fingerprint() for task in drawing)
    assert one != other


def test_another_process_finds_the_same_fingerprint():
    program = """
        import sys
        sys.path.insert(0, sys.argv[1])
        import optax
        from race_helpers import parabola
        from gradsmith.race import Entry
        from gradsmith.race.compiled import lower_entry
        print(lower_entry(parabola(), Entry("it", optax.adamw), {}).fingerprint())
    """
    command = [sys.executable, "-c", textwrap.dedent(program), str(Path(__file__).parent)]
    found = {
        subprocess.run(
            command,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path), "JAX_PLATFORMS": "cpu"},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(found) == 1
    assert len(found.pop()) == 65


def test_what_calls_back_into_python_has_no_fingerprint():
    def spied(lr):
        def update(updates, state, params=None):
            jax.debug.callback(lambda x: None, updates["x"])
            return jax.tree.map(lambda u: -lr * u, updates), state

        return optax.GradientTransformation(lambda params: optax.EmptyState(), update)

    assert fingerprint(spied) is None


def test_data_are_told_apart_by_value_shape_and_place():
    data = {"a": np.zeros(2, np.float32), "key": jax.random.key(0)}
    others = [
        {**data, "a": np.array([0, 1], np.float32)},
        {**data, "a": np.zeros((2, 1), np.float32)},
        {**data, "a": np.zeros(2, np.int32)},
        {**data, "key": jax.random.key(1)},
        {"b": data["a"], "key": data["key"]},
    ]
    assert data_fingerprint(data) == data_fingerprint(dict(data))
    assert len({data_fingerprint(one) for one in [data, *others]}) == 6


@pytest.mark.parametrize(
    "change",
    [
        lambda asked: dataclasses.replace(
            asked, task=dataclasses.replace(asked.task, selection=jnp.zeros(3))
        ),
        lambda asked: dataclasses.replace(
            asked, task=dataclasses.replace(asked.task, report=jnp.zeros(3))
        ),
        lambda asked: dataclasses.replace(
            asked, task=dataclasses.replace(asked.task, batch=lambda key: jnp.zeros(3))
        ),
        lambda asked: dataclasses.replace(
            asked, task=dataclasses.replace(asked.task, init=lambda key: {"x": jnp.ones(3)})
        ),
        lambda asked: dataclasses.replace(
            asked, entries=(Entry("sgd", lambda lr: optax.sgd(-lr), origin=SGD.origin),)
        ),
        lambda asked: dataclasses.replace(
            asked, entries=(dataclasses.replace(SGD, schedule=lambda step, steps: step / steps),)
        ),
    ],
    ids=["selection", "report", "training", "start", "entry", "schedule"],
)
def test_old_results_are_never_given_for_what_has_changed(tmp_path, change):
    asked = single(SGD)
    run_race(asked, tmp_path, Display())
    with pytest.raises(RaceError, match=r"belongs to another race(.|\n)*(programs|schedule)"):
        run_race(change(asked), tmp_path, Display())


def test_settings_other_than_the_rate_are_other_programs():
    tuned = Entry("sgd", optax.sgd, {"momentum": [0.5, 0.9]})
    prepared = prepare(Race(parabola(), (tuned,), (0.1, 0.2)))
    names = {"entry sgd(momentum=0.5)", "entry sgd(momentum=0.9)"}
    assert set(prepared.programs) == names
    assert len({prepared.fingerprints[name] for name in names}) == 2


def test_preparing_compiles_and_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(jax.stages.Lowered, "compile", None)
    assert set(prepare(race("a", "b")).fingerprints) == {"task", "entry a", "entry b"}
    assert list(tmp_path.iterdir()) == []
