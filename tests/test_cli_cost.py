"""`gradsmith cost`: the user's own file, simulated meshes, and what is refused."""

import json

import pytest

from gradsmith.cli.cost import cost
from gradsmith.cli.loading import UsageError

SOURCE = """
import jax.numpy as jnp
import optax
import gradsmith as gs

def factory(learning_rate, power=1):
    def step(x):
        for _ in range(power):
            x = x @ (x.T @ x)
        return x

    matrices = optax.chain(gs.per_matrix(step), optax.scale_by_learning_rate(learning_rate))
    return gs.partition_by_role(matrices, optax.sgd(learning_rate))

def make_params():
    print("not a part of the JSON")
    return {f"layer_{i}": {"kernel": jnp.zeros((32, 16)), "bias": jnp.zeros(16)} for i in range(8)}
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


def test_a_mesh_larger_than_the_machine_is_simulated(file, capfd):
    mine = f"{file}:factory"
    costs = told(capfd, mine, f"{file}:make_params", "fsdp=4,tensor=4", alone=True)
    assert costs[mine]["mesh"] == {"fsdp": 4, "tensor": 4}
    assert costs[mine]["collectives"][0]["kind"] == "all-to-all"


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
