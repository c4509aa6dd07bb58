"""`gradsmith cost`: the user's own file, simulated meshes, and what is refused."""

import json

import pytest

from gradsmith.cli.cost import cost
from gradsmith.cli.loading import UsageError

SOURCE = """
import jax
import jax.numpy as jnp
import optax
import gradsmith as gs
from jax.sharding import AbstractMesh, AxisType, NamedSharding, PartitionSpec as P

def factory(learning_rate, power=1):
    def step(x):
        for _ in range(power):
            x = x @ (x.T @ x)
        return x

    matrices = optax.chain(gs.per_matrix(step), optax.scale_by_learning_rate(learning_rate))
    return gs.partition_by_role(matrices, optax.sgd(learning_rate))

def stacked(learning_rate):
    axes = {"blocks": gs.MatrixAxes(batch_axis=0), "heads": gs.MatrixAxes(0, (1, 2))}
    return gs.partition_by_role(
        lambda axes: gs.per_matrix(lambda x: -learning_rate * x, axes=axes),
        optax.sgd(learning_rate),
        axes=axes,
        roles={"odd": "vector"},
    )

def blocks():
    shapes = {"blocks": (6, 16, 64), "heads": (16, 4, 8), "odd": (2, 3, 4), "bias": (64,)}
    return {name: jnp.zeros(shape) for name, shape in shapes.items()}

def until_small(learning_rate):
    loop = lambda x: jax.lax.while_loop(lambda x: x.sum() > 9, lambda x: x @ (x.T @ x), x)
    return optax.stateless(lambda updates, params: jax.tree.map(loop, updates))

def square():
    return {"w": jnp.zeros((16, 16))}

def make_params():
    print("not a part of the JSON")
    return {f"layer_{i}": {"kernel": jnp.zeros((32, 16)), "bias": jnp.zeros(16)} for i in range(8)}

def put(mesh):
    def place(x):
        home = NamedSharding(mesh, P("model") if x.ndim > 1 else P())
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=home)
    return jax.tree.map(place, jax.eval_shape(make_params))

on_sixteen = put(AbstractMesh((2, 8), ("data", "model"), axis_types=(AxisType.Explicit,) * 2))

def on_auto():
    return put(jax.make_mesh((8,), ("model",), axis_types=(AxisType.Auto,)))

def made_on_a_mesh():
    mesh = jax.make_mesh((8,), ("model",), axis_types=(AxisType.Explicit,))
    home = NamedSharding(mesh, P("model"))
    return jax.tree.map(lambda x: jax.device_put(x, home), make_params())
"""


FAILS = """
def unlucky(x):
    raise RuntimeError("no luck")

def fails(learning_rate):
    run = lambda x: jax.pure_callback(unlucky, jax.ShapeDtypeStruct(x.shape, x.dtype), x)
    return optax.stateless(lambda updates, params: jax.tree.map(run, updates))
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(SOURCE)
    return path


def told(capfd, *args, **kwargs):
    assert cost(*args, **kwargs, json=True) == 0
    return json.loads(capfd.readouterr().out)


def test_a_users_own_optimizer_and_parameters(file, capfd):
    mine = f"{file}:factory"
    costs = told(capfd, mine, f"{file}:make_params", "fsdp=8", alone=True)
    assert list(costs) == [mine]
    assert costs[mine]["mesh"] == {"fsdp": 8}
    assert costs[mine]["flops"] == 4 * 16 * 16 * 32
    assert (
        costs[mine]["received"] == costs[mine]["received_bound"] == 2 * 8 * 32 * 16 * 4 / 8 * 7 / 8
    )


def test_arguments_reach_the_factory(file, capfd):
    mine = f"{file}:factory"
    costs = told(capfd, mine, f"{file}:make_params", arg=("power=3",), alone=True)
    assert costs[mine]["mesh"] == {}
    assert costs[mine]["flops"] == 8 * 3 * 4 * 16 * 16 * 32


def test_the_table_stands_beside_optax(file, capfd, standard_promotion):
    assert cost("muon", f"{file}:make_params", "data=2,fsdp=4", "columns") == 0
    out = capfd.readouterr().out
    rows = {line.split()[0]: line for line in out.splitlines() if line.strip()}
    assert {"muon", "optax.contrib.muon", "optax.adamw"} <= set(rows)
    assert "all-to-all" in rows["muon"]
    assert "data=2, fsdp=4" in out


def test_optax_gets_the_axes_that_the_factory_declares(file, capfd, standard_promotion):
    """Five steps of Newton-Schulz on six matrices and on one whose fan-out is two axes."""
    costs = told(capfd, f"{file}:stacked", f"{file}:blocks")
    steps = lambda m, n: 5 * (4 * m * m * n + 2 * m**3)
    assert costs["optax.contrib.muon"]["flops"] == 6 * steps(16, 64) + steps(16, 32)


def test_a_loop_of_unknown_length_is_explained(file, capfd):
    assert cost(f"{file}:until_small", f"{file}:square", alone=True) == 0
    out = capfd.readouterr().out
    assert ">= " in out.splitlines()[3]
    assert "lower bound: of a loop that does not say" in " ".join(out.split())
    assert cost(f"{file}:factory", f"{file}:make_params", alone=True) == 0
    assert "lower bound" not in capfd.readouterr().out


@pytest.mark.parametrize(
    ("params", "mesh"),
    [
        ("on_sixteen", {"data": 2, "model": 8}),
        ("on_auto", {"model": 8}),
        ("made_on_a_mesh", {"model": 8}),
    ],
)
def test_parameters_that_lie_on_a_mesh_are_priced_where_they_lie(file, capfd, params, mesh):
    costs = told(capfd, "optax.sgd", f"{file}:{params}", alone=True)["optax.sgd"]
    assert costs["mesh"] == mesh
    whole = 1 / 8 if params == "made_on_a_mesh" else 1
    assert costs["params"] == 8 * 4 * (32 * 16 / 8 + 16 * whole)


def test_the_owners_of_parameters_on_a_mesh_of_their_own(file, capfd):
    mine = f"{file}:factory"
    costs = told(capfd, mine, f"{file}:on_sixteen", alone=True)[mine]
    assert (costs["collectives"][0]["kind"], costs["mesh"]["data"]) == ("all-to-all", 2)


def test_a_mesh_larger_than_the_machine_is_simulated(file, capfd):
    mine = f"{file}:factory"
    costs = told(capfd, mine, f"{file}:make_params", "fsdp=4,tensor=4", alone=True)
    assert costs[mine]["mesh"] == {"fsdp": 4, "tensor": 4}
    assert costs[mine]["collectives"][0]["kind"] == "all-to-all"


def test_two_layouts_are_one_too_many(file):
    with pytest.raises(UsageError, match="lie on a mesh already"):
        cost("muon", f"{file}:on_sixteen", "fsdp=8")


def test_time_is_of_updates_that_were_run(file, capfd, standard_promotion):
    params = f"{file}:make_params"
    costs = told(capfd, f"{file}:factory", params, "fsdp=4", time=True)
    assert len(costs) == 3
    assert all(0 < one["seconds"] < 60 for one in costs.values())
    assert told(capfd, f"{file}:factory", params, alone=True)[f"{file}:factory"]["seconds"] == 0
    assert cost(f"{file}:factory", params, alone=True, time=True) == 0
    row, caption = capfd.readouterr().out.split("For each device")
    assert " ms" in row.splitlines()[3]
    assert "median of 10 updates on this machine" in " ".join(caption.split())


def test_an_update_that_fails_when_it_runs_is_told(file):
    with file.open("a") as source:
        source.write(FAILS)
    with pytest.raises(UsageError, match=r"(?s)an update does not run: .*no luck"):
        cost(f"{file}:fails", f"{file}:square", alone=True, time=True)


def test_what_is_not_here_cannot_be_timed():
    with pytest.raises(UsageError, match=r"there are 8 of 16 devices: give a smaller --mesh"):
        cost("muon", mesh="fsdp=16", time=True)
    with pytest.raises(UsageError, match="--time runs updates here, and --on compiles"):
        cost("muon", time=True, on="v5e:2x4")


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("muon", "gpt2", "fsdp"), "--mesh takes axes once each"),
        (("muon", "gpt2", "fsdp=2,fsdp=4"), "--mesh takes axes once each"),
        (("muon", "gpt2", "fsdp=0"), "--mesh takes axes once each"),
        (("muon", "gpt2", "a=2,b=2,c=2"), "a matrix has two sides"),
        (("muon", "gpt2", "fsdp=100000"), "at most 4,096 are simulated"),
        (("moun", "gpt2", ""), "did you mean muon"),
        (("muon", "nowhere.py:make", ""), "there is no file"),
        (("moun", "gpt2", "fsdp=16"), "did you mean muon"),
    ],
    ids=str,
)
def test_misuse_is_a_usage_error(args, says):
    with pytest.raises(UsageError, match=says):
        cost(*args)
