"""A race on a mesh is the race on one device within rounding, and lies where it says."""

import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from race_helpers import KillAfter, Killed, parabola

import gradsmith as gs
from gradsmith.race import Display, Entry, Protocol, Race, RaceError, Stream, Task, run_race
from gradsmith.race import param_specs as specs
from gradsmith.race.folder import default_folder
from gradsmith.race.prepare import prepare
from gradsmith.race.report import write_report
from gradsmith.race.watching import Watch

BOTH = {"data": 2, "fsdp": 4}
MOMENTUM = Entry("momentum", lambda rate: optax.sgd(rate, momentum=0.9))


def draw(key):
    """Return rows whose number eight devices divide, and what a line makes of them."""
    inputs = jax.random.normal(key, (48, 8))
    return inputs, jnp.sum(inputs, axis=-1, keepdims=True) * jnp.arange(4.0)[None, :]


def perceptron(steps=8) -> Task:
    def init(key):
        up, down = jax.random.split(key)
        return {
            "up": 0.3 * jax.random.normal(up, (8, 16)),
            "down": 0.3 * jax.random.normal(down, (16, 4)),
            "shift": jnp.zeros(3),
        }

    def loss(params, batch):
        hidden = jnp.tanh(batch[0] @ params["up"] + jnp.sum(params["shift"]))
        return jnp.mean((hidden @ params["down"] - batch[1]) ** 2)

    selection, report = (draw(jax.random.key(seed)) for seed in (7, 8))
    return Task("perceptron", init, loss, draw, selection, report, 0.1, steps, 48)


def streamed() -> Task:
    """The same with batches that the host makes."""

    def batches(seed):
        random = np.random.default_rng(seed + 10)
        while True:
            inputs = random.standard_normal((48, 8), np.float32)
            yield inputs, np.sum(inputs, -1, keepdims=True) * np.arange(4, dtype=np.float32)

    return dataclasses.replace(perceptron(), batch=Stream(batches))


def asked(mesh, entries=(MOMENTUM,), task=None) -> Race:
    protocol = Protocol(seeds=2, extensions=0)
    return Race(task or perceptron(), entries, (0.02, 0.05), protocol, mesh)


def muon(mesh):
    placement = gs.Owners(param_specs=specs(mesh)) if mesh else "owners"
    return Entry("muon", lambda rate: gs.muon(rate, placement=placement))


def outcome(records):
    return [dataclasses.replace(record, timing={}) for record in records]


@pytest.mark.parametrize("mesh", [BOTH, {"fsdp": 8}, {"data": 8}], ids=str)
def test_a_race_on_a_mesh_has_the_losses_of_one_device(tmp_path, mesh):
    on_one = run_race(asked({}, (MOMENTUM, muon({}))), tmp_path / "one", Display())
    on_all = run_race(asked(mesh, (MOMENTUM, muon(mesh))), tmp_path / "all", Display())
    for one, all_ in zip(on_one, on_all, strict=True):
        assert (all_.entry, all_.trial, all_.seed) == (one.entry, one.trial, one.seed)
        for curve in ("validation_loss", "training_loss"):
            expected, found = (getattr(r.curve, curve)[1:] for r in (one, all_))
            np.testing.assert_allclose(found, expected, rtol=2e-4)
    assert len({record.validation_loss for record in on_all}) == len(on_all)


def test_parameters_and_states_lie_on_the_mesh_and_the_batch_is_shared():
    prepared = prepare(asked(BOTH, (MOMENTUM, muon(BOTH))))
    rate, seed = jnp.float32(0.1), jnp.int32(0)
    lies = lambda x: x.addressable_shards[0].data.shape
    for name in ("entry momentum", "entry muon"):
        program = prepared.programs[name].compile()
        start = program.start(rate, seed)
        run, _ = program.advance(start, rate, seed, jnp.int32(2), ())
        assert int(run.step) == 2
        shards = jax.tree.map(lies, run.params)
        assert shards == {"up": (8, 4), "down": (4, 4), "shift": (3,)}
        kept = [x for x in jax.tree.leaves(run.optimizer) if x.shape in ((8, 16), (16, 4))]
        assert kept
        assert {x.shape: lies(x) for x in kept} == {(8, 16): (8, 4), (16, 4): (4, 4)}
    # 48 rows on eight devices are six each, in every product with the rows.
    text = prepared.programs["entry momentum"].advance.compile().as_text() or ""
    assert "f32[6,16]" in text
    assert "f32[48,16]" not in text


def test_what_an_optimizer_keeps_of_many_matrices_is_split_over_all_devices():
    many = lambda params: {"of each": jnp.zeros((16, 5)), "odd": jnp.zeros((3, 5))}
    counted = optax.GradientTransformation(
        many, lambda updates, state, params=None: (updates, state)
    )
    entry = Entry("it", lambda rate: optax.chain(counted, optax.sgd(rate)))
    abstract = prepare(asked(BOTH, (entry,))).programs["entry it"].abstract
    shards = {x.shape: x.sharding.shard_shape(x.shape) for x in jax.tree.leaves(abstract.optimizer)}
    assert shards == {(16, 5): (2, 5), (3, 5): (3, 5)}


def readings(folder):
    return {path.name: path.read_text() for path in folder.glob("readings*")}


def test_a_race_on_a_mesh_goes_on_after_a_kill_to_the_same_records_and_readings(tmp_path):
    sizes = functools.partial(gs.watch, readings=["sizes"])
    prepared = prepare(asked(BOTH, (muon(BOTH),)))

    def go(name, display, watch: Watch | None = sizes):
        return run_race(prepared, tmp_path / name, display, 0.0, watch=watch)

    whole = outcome(go("whole", Display()))
    for points in (3, 12, 8):  # in the first run, in the second, in one that is watched
        with pytest.raises(Killed):
            go("killed", KillAfter(points))
    assert outcome(go("killed", Display())) == whole
    assert readings(tmp_path / "killed") == readings(tmp_path / "whole")
    assert len(readings(tmp_path / "whole")) == 2
    assert outcome(go("unwatched", Display(), None)) == whole


def test_batches_of_the_host_are_shared_too(tmp_path):
    one, all_ = (
        run_race(asked(mesh, task=streamed()), tmp_path / str(len(mesh)), Display())
        for mesh in ({}, BOTH)
    )
    losses = [np.array([r.validation_loss for r in records], float) for records in (one, all_)]
    np.testing.assert_allclose(losses[1], losses[0], rtol=2e-4)


def test_the_mesh_is_part_of_what_was_asked(tmp_path):
    on_one, on_all = prepare(asked({})), prepare(asked(BOTH))
    folders = {default_folder(one.race, one.fingerprints) for one in (on_one, on_all)}
    assert len(folders) == 2
    assert on_one.fingerprints["entry momentum"] != on_all.fingerprints["entry momentum"]
    run_race(on_all, tmp_path, Display())
    assert json.loads((tmp_path / "config.json").read_text())["config"]["mesh"] == BOTH
    assert "each run on 8 devices, data=2,fsdp=4" in write_report(tmp_path).read_text()
    turned = asked({"fsdp": 4, "data": 2})
    assert outcome(run_race(turned, tmp_path, Display()))  # the same mesh: nothing is run
    with pytest.raises(RaceError, match=r"belongs to another race(.|\n)*config.mesh"):
        run_race(on_one, tmp_path, Display())


@pytest.mark.parametrize(
    ("mesh", "task", "message"),
    [
        ({"tensor": 2}, None, r"axes data and fsdp, of at least one device each.*got tensor=2"),
        ({"data": 0}, None, "got data=0"),
        (
            {"data": 4, "fsdp": 4},
            None,
            r"data=4,fsdp=4 needs 16 devices, and JAX sees 8: .*"
            r"XLA_FLAGS=--xla_force_host_platform_device_count=16",
        ),
        ({"data": 5}, None, r"has the shapes \[48,8\], \[48,4\], and 5 devices can split no first"),
        ({"fsdp": 2}, parabola(), r"shapes \[3\], and 2 devices can split no first axis evenly"),
        ({"fsdp": 3}, perceptron(), None),  # the vector is split, the matrices are whole
        ({"fsdp": 6}, perceptron(), r"no parameter of task perceptron has an axis that fsdp=6"),
    ],
    ids=lambda value: getattr(value, "name", None) or str(value),
)
def test_a_mesh_that_does_not_fit_is_told_before_anything_runs(mesh, task, message):
    if message is None:
        prepare(asked(mesh, task=task))
        return
    with pytest.raises(RaceError, match=message):
        prepare(asked(mesh, task=task))


def test_several_processes_need_a_mesh_of_all_their_devices(monkeypatch):
    monkeypatch.setattr("jax.process_count", lambda: 2)
    for mesh in ({}, {"data": 4}):
        with pytest.raises(RaceError, match=r"2 processes are joined.*--mesh fsdp=8.*--worker"):
            prepare(asked(mesh))
    assert prepare(asked(BOTH)).mesh is not None
