"""Flax models: what NNX and Linen write beside their arrays, and training through their own API."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from flax.training.train_state import TrainState
from jax.sharding import AxisType

import gradsmith as gs

pytestmark = pytest.mark.usefixtures("standard_promotion", "rank_promotion")


@pytest.fixture
def rank_promotion():
    with jax.numpy_rank_promotion("allow"):  # Flax adds a bias to a batch
        yield


def logical(*names):
    return nn.with_logical_partitioning(nn.initializers.lecun_normal(), names)


class Decoder(nn.Module):
    """One block; the output layer is called Dense_0, and only its axes tell that it is a head."""

    @nn.compact
    def __call__(self, tokens):
        x = nn.Embed(11, 8)(tokens)
        x = x + nn.MultiHeadDotProductAttention(2)(x, x)
        gates = nn.DenseGeneral((2, 16), kernel_init=logical("embed", "layers", "mlp"), name="up")(
            x
        )
        x = x + nn.Dense(8, name="down")(nn.silu(gates[..., 0, :]) * gates[..., 1, :])
        return nn.Dense(11, kernel_init=logical("embed", "vocab"))(nn.LayerNorm()(x))


TOKENS = jax.random.randint(jax.random.key(1), (4, 6), 0, 11)


def loss_of(logits):
    picked = jnp.take_along_axis(jax.nn.log_softmax(logits[:, :-1]), TOKENS[:, 1:, None], -1)
    return -picked.mean()


def linen_params():
    return Decoder().init(jax.random.key(0), TOKENS)["params"]


def test_linen_axis_names_tell_role_and_axes():
    decided = gs.roles(linen_params())
    assert decided["Dense_0/kernel"][:2] == ("head", "axes named embed, vocab")
    up = decided["up/kernel"]
    assert up.name == "matrix"
    assert up.axes.stack_shapes((8, 2, 16)) == [(2, 8, 16)]
    query = decided["MultiHeadDotProductAttention_0/query/kernel"]
    assert query.axes == gs.MatrixAxes(0, (1, 2))
    assert decided["MultiHeadDotProductAttention_0/query/bias"].name == "vector"
    assert decided["Embed_0/embedding"].name == "embedding"


def test_an_optimizer_refuses_to_decide_against_the_axis_names():
    params = linen_params()
    with pytest.raises(ValueError, match=r"'Dense_0/kernel' looks like a matrix .* says head"):
        gs.muon(0.1).init(params)
    with pytest.raises(ValueError, match=r"the framework wrote .* roles=gradsmith\.roles"):
        gs.muon(0.1, roles={"Dense_0": "head"}).init(params)
    gs.muon(0.1, roles={"Dense_0": "head", "up/kernel": "vector"}).init(params)


def test_a_linen_train_state_trains():
    params = linen_params()
    state = TrainState.create(
        apply_fn=Decoder().apply, params=params, tx=gs.muon(0.02, roles=gs.roles(params))
    ).replace(step=jnp.zeros((), jnp.int32))  # Flax starts from a Python 0, another type

    @jax.jit
    def step(state):
        loss = lambda params: loss_of(state.apply_fn({"params": params}, TOKENS))
        value, grads = jax.value_and_grad(loss)(state.params)
        return value, state.apply_gradients(grads=grads)

    losses = []
    for _ in range(40):
        value, state = step(state)
        losses.append(value)
    assert losses[-1] < 0.7 * losses[0]
    assert step._cache_size() == 1


class Embedding(nnx.Param):
    """A variable whose type says what it is."""


class NnxDecoder(nnx.Module):
    def __init__(self, rngs):
        self.lookup = Embedding(jax.random.normal(rngs.params(), (11, 8)) / 3)
        self.attention = nnx.MultiHeadAttention(2, 8, decode=False, rngs=rngs)
        self.up = nnx.Linear(8, 16, rngs=rngs)
        self.lora = nnx.LoRA(16, 2, 8, rngs=rngs)
        self.norm = nnx.LayerNorm(8, rngs=rngs)
        self.out = nnx.Linear(8, 11, rngs=rngs)
        self.out.kernel.set_metadata(out_sharding=("embed", "vocab"))

    def __call__(self, tokens):
        x = self.lookup[...][tokens]
        x = x + self.attention(x)
        return self.out(self.norm(x + self.lora(jax.nn.relu(self.up(x)))))


def test_nnx_types_and_sharding_names_tell_the_role():
    decided = gs.roles(nnx.state(NnxDecoder(nnx.Rngs(0)), nnx.Param))
    assert decided["lookup"][:2] == ("embedding", "named 'Embedding'")
    assert decided["out/kernel"][:2] == ("head", "axes named embed, vocab")
    assert decided["attention/out/kernel"].axes == gs.MatrixAxes((0, 1), 2)
    assert {decided[f"lora/lora_{x}"].name for x in "ab"} == {"matrix"}
    assert decided["norm/scale"].name == "vector"


@pytest.fixture
def mesh():
    """Flax makes no state for a variable with axis names where there is no mesh."""
    with jax.set_mesh(jax.make_mesh((1, 1), ("embed", "vocab"), axis_types=(AxisType.Auto,) * 2)):
        yield


@pytest.mark.usefixtures("mesh")
def test_an_nnx_optimizer_trains():
    """It initialises with variables and updates with bare arrays: other paths, no metadata."""
    model = NnxDecoder(nnx.Rngs(0))
    tx = gs.muon(0.02, roles=gs.roles(nnx.state(model, nnx.Param)))
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)

    @nnx.jit
    def step(model, optimizer):
        value, grads = nnx.value_and_grad(lambda model: loss_of(model(TOKENS)))(model)
        optimizer.update(model, grads)
        return value

    losses = [step(model, optimizer) for _ in range(30)]
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.usefixtures("mesh")
def test_what_an_nnx_optimizer_does_is_what_optax_does_with_the_same_arrays():
    model = NnxDecoder(nnx.Rngs(0))
    params = nnx.to_pure_dict(nnx.state(model, nnx.Param))
    tx = gs.muon(0.02, roles=gs.roles(nnx.state(model, nnx.Param)))
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
    grads = nnx.grad(lambda model: loss_of(model(TOKENS)))(model)
    expected, _ = tx.update(nnx.to_pure_dict(grads), tx.init(params))
    optimizer.update(model, grads)
    after = nnx.to_pure_dict(nnx.state(model, nnx.Param))
    jax.tree.map(
        lambda new, old, update: np.testing.assert_allclose(new, old + update, atol=1e-6),
        after,
        params,
        expected,
    )
