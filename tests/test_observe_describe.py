import io
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from rich.console import Console

import gradsmith as gs
from gradsmith.cli import main


def params():
    return {
        "embedding": jnp.zeros((80, 16)),
        "blocks": jnp.zeros((12, 16, 64)),
        "up": jnp.zeros((16, 64)),
        "norm": jnp.zeros(16),
    }


def matrices(axes):
    rules = gs.per_stack(gs.polar_factor("svd"), axes=axes)
    return optax.chain(gs.momentum(), rules, optax.scale_by_learning_rate(0.02))


def muon(axes=None, **words):
    return gs.partition_by_role(matrices, gs.scale_by_adam(), axes=axes, **words)


MUON = muon({"blocks": gs.MatrixAxes(batch_axis=0)})


def test_every_leaf_says_role_reason_axes_bucket_and_optimizer():
    rows = {leaf.path: leaf for leaf in gs.describe(MUON, params()).leaves}
    blocks = rows["blocks"]
    assert (blocks.role, blocks.why) == ("matrix", "rank 3, axes declared")
    assert (blocks.axes, blocks.buckets) == ("stack 0, in 1, out 2", ("13x16x64 float32",))
    assert blocks.optimizer == "matrices: momentum, polar_factor"
    assert rows["up"].buckets == blocks.buckets
    assert rows["embedding"].optimizer == "others: adam"
    assert rows["norm"].why == "rank 1"


@pytest.mark.parametrize(
    "tx",
    [
        MUON,
        optax.adam(0.1),
        optax.adafactor(0.1),
        optax.MultiSteps(MUON, 4).gradient_transformation(),
        optax.partition(
            {"a": optax.sgd(0.1, 0.9), "b": optax.adam(0.1)},
            lambda p: {name: "a" if leaf.ndim == 2 else "b" for name, leaf in p.items()},
        ),
    ],
    ids=["muon", "adam", "adafactor", "multi_steps", "partition"],
)
def test_the_bytes_of_all_leaves_and_of_none_are_the_state(tx):
    with jax.numpy_dtype_promotion("standard"):
        description = gs.describe(tx, params())
        state = tx.init(params())
    described = sum(leaf.state_bytes for leaf in description.leaves)
    assert described + description.shared_state_bytes == optax.tree.size(state) * 4


def test_a_rules_state_is_shared_out_by_the_matrices_of_each_leaf():
    tx = gs.per_stack(optax.trace(0.9), axes={"blocks": gs.MatrixAxes(batch_axis=0)})
    tree = {"blocks": jnp.zeros((12, 16, 64)), "up": jnp.zeros((16, 64))}
    held = {leaf.path: leaf.state_bytes for leaf in gs.describe(tx, tree).leaves}
    assert held == {"blocks": 12 * 16 * 64 * 4, "up": 16 * 64 * 4}


def test_shapes_are_enough():
    abstract = jax.eval_shape(params)
    assert gs.describe(MUON, abstract) == gs.describe(MUON, params())
    huge = {"blocks": jax.ShapeDtypeStruct((80, 8192, 28672), jnp.bfloat16)}
    assert gs.describe(MUON, huge).leaves[0].state_bytes == 80 * 8192 * 28672 * 4


def test_the_table_shows_what_the_data_say():
    description = gs.describe(MUON, params())
    printed = str(description)
    for leaf in description.leaves:
        (line,) = [line for line in printed.splitlines() if f" {leaf.path} " in line]
        for field in (leaf.role, leaf.why, leaf.axes, *leaf.buckets, leaf.optimizer):
            assert field in line
    assert f"4 leaves, {80 * 16 + 13 * 16 * 64 + 16:,} parameters, 1 bucket; " in printed


def test_a_narrow_terminal_shows_the_routing_and_says_what_it_leaves_out():
    description = gs.describe(MUON, params())
    console = Console(width=80, file=io.StringIO())
    console.print(description)
    printed = console.file.getvalue()
    assert max(map(len, printed.splitlines())) <= 80
    for leaf in description.leaves:
        (line,) = [line for line in printed.splitlines() if f" {leaf.path} " in line]
        assert leaf.role in line
        assert leaf.optimizer.split(", ")[0] in line
    assert "a wider terminal shows" in printed


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=str)
def test_on_a_mesh_it_says_what_each_device_holds_and_what_all_of_them_hold(kind):
    """Momentum and what a rule keeps are split; the moments of a replicated leaf are not."""
    mesh = jax.make_mesh((2, 4), ("x", "y"), axis_types=(kind, kind))
    specs = {"up": P("x", "y"), "down": P("y"), "bias": P()}
    shapes = {"up": (16, 64), "down": (16, 64), "bias": (64,)}
    homes = {name: NamedSharding(mesh, spec) for name, spec in specs.items()}
    place = lambda name: jax.ShapeDtypeStruct(shapes[name], jnp.float32, sharding=homes[name])
    kept = gs.per_stack(optax.trace(0.9), placement=gs.Owners(param_specs=specs))
    tx = gs.partition_by_role(optax.chain(optax.trace(0.9), kept), gs.scale_by_adam())
    description = gs.describe(tx, {name: place(name) for name in shapes})

    rows = {leaf.path: leaf for leaf in description.leaves}
    matrix, bias, counter = 16 * 64 * 4, 64 * 4, 4
    # Two matrices take eight places in their bucket, one on each device.
    assert rows["up"].state_bytes == rows["down"].state_bytes == matrix + 8 * matrix // 2
    assert rows["up"].replicated_bytes == rows["down"].replicated_bytes == 0
    assert rows["bias"].state_bytes == rows["bias"].replicated_bytes == 2 * bias
    assert description.shared_state_bytes == counter
    # A momentum is in eight parts and one in four, and a device owns one matrix.
    split = matrix // 8 + matrix // 4 + matrix
    assert description.device_state_bytes == split + 2 * bias + counter
    assert description.mesh == {"x": 2, "y": 4}
    assert "on each device of x=2, y=4 6.1 kB, 516 bytes of it replicated" in str(description)
    (line,) = [line for line in str(description).splitlines() if " bias " in line]
    assert "512 bytes, 512 bytes replicated" in line
    assert json.loads(description.to_json())["leaves"][0]["replicated_bytes"] == 2 * bias


def test_without_a_mesh_nothing_is_replicated():
    description = gs.describe(MUON, params())
    assert description.mesh == {}
    assert sum(leaf.replicated_bytes for leaf in description.leaves) == 0
    assert "replicated" not in str(description)


def test_what_is_no_array_is_left_out():
    tree = params() | {"activation": jax.nn.relu, "rate": 0.5}
    assert gs.describe(MUON, tree) == gs.describe(MUON, params())


def test_json_round_trips():
    data = json.loads(gs.describe(MUON, params()).to_json())
    assert [leaf["path"] for leaf in data["leaves"]] == ["blocks", "embedding", "norm", "up"]


def test_describe_leaves_nothing_behind():
    first = gs.describe(MUON, params())
    MUON.init({"other": jnp.zeros((2, 2)), "blocks": jnp.zeros((1, 2, 2))})
    assert gs.describe(MUON, params()) == first


def test_one_array_is_a_tree():
    (leaf,) = gs.describe(optax.adam(0.1), np.zeros((2, 3), np.float32)).leaves
    assert (leaf.path, leaf.optimizer, leaf.state_bytes) == (
        "",
        "adam",
        48 + 4,
    )  # with one leaf, the counter is its own


def test_a_cut_leaf_shows_its_cut_and_every_bucket_it_is_in():
    tree = {"qkv": jnp.zeros((16, 32)), "up": jnp.zeros((16, 16))}
    axes = {"qkv": gs.MatrixAxes(cut_axis=1, blocks=(16, 8, 8))}
    tx = gs.per_stack(optax.trace(0.9), axes=axes)
    qkv, up = gs.describe(tx, tree).leaves
    assert qkv.axes == "in 0, out 1, axis 1 in blocks of 16 8 8"
    assert qkv.buckets == ("2x16x16 float32", "2x16x8 float32")
    assert up.buckets == ("2x16x16 float32",)
    assert (qkv.state_bytes, up.state_bytes) == (16 * 32 * 4, 16 * 16 * 4)


def unit_columns(update):
    return update


def test_rules_are_named_in_the_order_in_which_they_act():
    """A function, a chain, a transformation of one matrix; what Optax keeps is told first."""
    tx = optax.chain(
        optax.trace(0.9),
        gs.per_matrix(gs.correct_by_mars()),
        gs.momentum(),
        gs.per_gram(unit_columns),
        gs.per_stack(optax.chain(gs.polar_factor("svd"), optax.scale(2.0))),
    )
    (leaf,) = gs.describe(tx, {"up": jnp.zeros((16, 64))}).leaves
    names = "trace, correct_by_mars, momentum, unit_columns, polar_factor, scale"
    assert leaf.optimizer == names


def test_a_matrix_that_is_transposed_in_its_bucket_is_told():
    tree = {"up": jnp.zeros((16, 64)), "down": jnp.zeros((64, 16))}
    description = gs.describe(gs.muon(0.02), tree)
    assert [leaf.buckets for leaf in description.leaves] == [("2x16x64 float32",)] * 2
    assert [leaf.transposed for leaf in description.leaves] == [(True,), (False,)]
    lines = [line for line in str(description).splitlines() if "2x16x64" in line]
    assert ["2x16x64 float32, transposed" in line for line in lines] == [True, False]


def test_every_transformation_of_a_partition_is_named():
    tree = params() | {"head": jnp.zeros((16, 80)), "old": jnp.zeros((4, 4))}
    tx = gs.partition_by_role(
        optax.sgd(0.1, 0.9),
        optax.adam(0.1),
        embedding=optax.rmsprop(0.1),
        axes={"blocks": gs.MatrixAxes(batch_axis=0)},
        roles={"old": "frozen"},
    )
    rows = {leaf.path: leaf.optimizer for leaf in gs.describe(tx, tree).leaves}
    assert rows == {
        "embedding": "embedding: rms",
        "blocks": "matrices: trace",
        "up": "matrices: trace",
        "norm": "others: adam",
        "head": "others: adam",
        "old": "frozen: stateless",
    }


def llama_70b():
    """The shapes of Llama 3 70B, every layer on its own, as Hugging Face names them."""
    d, kv, hidden, vocabulary = 8192, 1024, 28672, 128256
    shape = lambda *shape: jax.ShapeDtypeStruct(shape, jnp.bfloat16)
    layer = {
        "self_attn": {n: {"weight": shape(d, d)} for n in ("q_proj", "o_proj")}
        | {n: {"weight": shape(kv, d)} for n in ("k_proj", "v_proj")},
        "mlp": {n: {"weight": shape(hidden, d)} for n in ("gate_proj", "up_proj")}
        | {"down_proj": {"weight": shape(d, hidden)}},
        "input_layernorm": {"weight": shape(d)},
        "post_attention_layernorm": {"weight": shape(d)},
    }
    return {
        "model": {
            "embed_tokens": {"weight": shape(vocabulary, d)},
            "layers": [layer] * 80,
            "norm": {"weight": shape(d)},
        },
        "lm_head": {"weight": shape(vocabulary, d)},
    }


def test_a_model_of_70_billion_parameters_is_described_without_an_array():
    before = {id(array) for array in jax.live_arrays()}
    description = gs.describe(muon(), llama_70b())
    assert {id(array) for array in jax.live_arrays()} <= before  # some may go in the meantime
    assert sum(np.prod(leaf.shape) for leaf in description.leaves) == 70_553_706_496
    rows = {leaf.path: leaf for leaf in description.leaves}
    assert rows["model/layers/79/mlp/down_proj/weight"].buckets == ("80x28672x8192 bfloat16",)
    assert rows["model/embed_tokens/weight"].role == "embedding"
    assert rows["model/layers/0/input_layernorm/weight"].role == "vector"


FILE = """
import jax.numpy as jnp, optax
import gradsmith as gs

opt = gs.muon(0.02)
def make(learning_rate, decay=0.0):
    return gs.muon(learning_rate, weight_decay=decay)
def model():
    return {"wte": jnp.zeros((9, 4)), "up": {"kernel": jnp.zeros((4, 8)), "bias": jnp.zeros(8)}}
def stacked():
    return {"blocks": {"kernel": jnp.zeros((12, 4, 8))}}
def broken():
    return nothing
number = 3
"""


@pytest.fixture
def command(monkeypatch, tmp_path, capsys):
    """Run the command line; return exit code, stdout and stderr."""
    (tmp_path / "file.py").write_text(FILE)
    monkeypatch.chdir(tmp_path)

    def run(*words):
        monkeypatch.setattr("sys.argv", ["gradsmith", "describe", *words])
        with pytest.raises(SystemExit) as exit_:
            main()
        return exit_.value.code, *capsys.readouterr()

    return run


@pytest.mark.parametrize("optimizer", ["file.py:opt", "file.py:make", "muon"])
def test_the_command_shows_a_files_optimizer_on_a_files_model(command, optimizer):
    code, out, err = command(optimizer, "file.py:model")
    assert (code, err) == (0, "")
    for word in ("wte", "embedding", "up/kernel", "matrices: momentum", "3 leaves, 76 parameters"):
        assert word in out


def test_the_command_prints_json_that_is_the_description(command):
    code, out, _ = command("file.py:make", "file.py:model", "--arg", "decay=0.1", "--json")
    assert code == 0
    leaves = {leaf["path"]: leaf for leaf in json.loads(out)["leaves"]}
    assert leaves["up/kernel"]["shape"] == [4, 8]
    assert leaves["wte"]["why"] == "named 'wte'"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("file.py:opt", "file.py:stacked"), "roles={'blocks/kernel': 'vector'}"),
        (("file.py:number", "file.py:model"), "file.py:number is int"),
        (("file.py:opt", "file.py:number"), "file.py:number has no arrays"),
        (("file.py:opt", "file.py:broken"), "calling file.py:broken failed: NameError"),
        (("file.py:opt", "file.py:modle"), "did you mean model"),
    ],
)
def test_what_cannot_be_described_is_a_sentence_and_exit_code_2(command, words, message):
    code, out, err = command(*words)
    assert (code, out) == (2, "")
    assert message in err
