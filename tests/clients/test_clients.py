"""Libraries that take an Optax optimizer train with ours, each through its own API.

They are installed by `pip install 'gradsmith[clients]'`; a test whose library is missing is
skipped. Flax is in tests/test_models_flax.py.
"""

import importlib
import importlib.util
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gradsmith as gs

pytestmark = [pytest.mark.slow, pytest.mark.clients, pytest.mark.filterwarnings("default")]

X = jax.random.normal(jax.random.key(0), (64, 4))
Y = jnp.tanh(X @ jax.random.normal(jax.random.key(1), (4, 3)))


@pytest.fixture(autouse=True)
def as_shipped():
    """The clients run as for their users: with JAX's own promotion."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def client(name):
    package = name.partition(".")[0]
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed: pip install 'gradsmith[clients]'")
    return importlib.import_module(name)


def falls(losses):
    losses = np.asarray(losses, np.float64)
    assert np.isfinite(losses).all()
    assert losses[-5:].mean() < 0.7 * losses[:5].mean(), losses


def test_equinox():
    eqx = client("equinox")
    model = eqx.nn.MLP(4, 3, 16, 2, key=jax.random.key(2))
    optimizer = gs.muon(0.02)
    state = optimizer.init(eqx.filter(model, eqx.is_array))

    @eqx.filter_jit
    def step(model, state):
        loss = lambda model: jnp.mean((jax.vmap(model)(X) - Y) ** 2)
        value, grads = eqx.filter_value_and_grad(loss)(model)
        updates, state = optimizer.update(grads, state, eqx.filter(model, eqx.is_array))
        return eqx.apply_updates(model, updates), state, value

    losses = []
    for _ in range(40):
        model, state, value = step(model, state)
        losses.append(value)
    falls(losses)


def test_equinox_classes_tell_what_names_do_not():
    eqx = client("equinox")
    keys = jax.random.split(jax.random.key(2), 4)
    layers = [
        eqx.nn.Embedding(9, 4, key=keys[0]),
        eqx.nn.Conv2d(2, 8, 3, key=keys[1]),
        eqx.nn.Lambda(jax.nn.relu),
        eqx.nn.Linear(4, 8, key=keys[2]),
    ]
    model = eqx.nn.Sequential(layers)
    with pytest.raises(
        ValueError, match=r"looks like a matrix .* but the framework says embedding"
    ):
        gs.muon(0.1).init(model)
    decided = gs.roles(model)
    assert decided["layers/0/weight"].name == "embedding"
    assert decided["layers/1/weight"].axes == gs.MatrixAxes((1, 2, 3), 0)
    assert decided["layers/3/weight"].axes == gs.MatrixAxes(1, 0)
    gs.muon(0.1, roles=decided).init(model)  # functions among the leaves are left alone


def test_optimistix():
    optx = client("optimistix")
    loss = lambda w, args: jnp.mean((jnp.tanh(X @ w) - Y) ** 2)
    solver = optx.OptaxMinimiser(gs.muon(0.02), rtol=1e-8, atol=1e-8)
    start = jnp.zeros((4, 3))
    found = optx.minimise(loss, solver, start, max_steps=100, throw=False)
    falls([loss(start, None)] * 5 + [loss(found.value, None)] * 5)


def test_numpyro():
    numpyro = client("numpyro")
    dist = importlib.import_module("numpyro.distributions")
    infer = importlib.import_module("numpyro.infer")

    def model(x, y):
        w = numpyro.sample("w", dist.Normal(0.0, 1.0).expand([4, 3]).to_event(2))
        numpyro.sample("y", dist.Normal(jnp.tanh(x @ w), 0.3).to_event(2), obs=y)

    def guide(x, y):
        loc = numpyro.param("loc", jnp.zeros((4, 3)))
        scale = numpyro.param("scale", jnp.full((), -3.0))
        numpyro.sample("w", dist.Normal(loc, jnp.exp(scale)).to_event(2))

    svi = infer.SVI(model, guide, gs.muon(0.05), infer.Trace_ELBO())
    result = svi.run(jax.random.key(3), 60, X, Y, progress_bar=False)
    falls(result.losses)


def test_blackjax():
    blackjax = client("blackjax")
    log_density = lambda w: -jnp.sum((jnp.tanh(X @ w["kernel"]) - Y) ** 2)
    inference = blackjax.meanfield_vi(log_density, gs.muon(0.05), num_samples=8)
    state = inference.init({"kernel": jnp.zeros((4, 3))})
    losses = []
    for key in jax.random.split(jax.random.key(3), 40):
        state, info = jax.jit(inference.step)(key, state)
        losses.append(info.elbo)
    falls(losses)


def test_penzai():
    pz = client("penzai.pz")
    training = importlib.import_module("penzai.toolshed.basic_training")
    mlp = importlib.import_module("penzai.models.simple_mlp").MLP.from_config(
        name="mlp", init_base_rng=jax.random.key(2), feature_sizes=[4, 16, 3]
    )
    params = pz.freeze_params(pz.unbind_params(mlp)[1])
    decided = gs.roles(params)
    weights = [role for role in decided.values() if role.name == "matrix"]
    assert [role.why for role in weights] == ["axes named features, features_out"] * 2

    def loss_fn(model, rng, state, x):
        error = model(pz.nx.wrap(x).tag("batch", "features")).unwrap("batch", "features") - Y
        loss = jnp.mean(error**2)
        return loss, state, loss

    trainer = training.StatefulTrainer.build(
        root_rng=jax.random.key(4),
        model=mlp,
        optimizer_def=gs.muon(0.02, roles=decided),
        loss_fn=loss_fn,
    )
    falls([trainer.step(x=X) for _ in range(40)])


def test_flowjax():
    client("flowjax")
    flows = importlib.import_module("flowjax.flows")
    train = importlib.import_module("flowjax.train")
    distributions = importlib.import_module("flowjax.distributions")
    flow = flows.coupling_flow(
        jax.random.key(2),
        base_dist=distributions.Normal(jnp.zeros(2)),
        flow_layers=2,
        nn_width=8,
        nn_depth=1,
    )
    data = jax.random.normal(jax.random.key(3), (200, 2)) * 3 + 5
    fit = lambda optimizer: train.fit_to_data(jax.random.key(4), flow, data, optimizer=optimizer)
    with pytest.raises(ValueError, match=r"(?s)axes=.*MatrixAxes\(-1, -2, batch_axis=0\)"):
        fit(gs.muon(0.02))  # the layers of the flow are stacked
    _, losses = fit(gs.muon(0.02, roles={"weight": gs.MatrixAxes(-1, -2, batch_axis=0)}))
    falls(losses["train"])


def test_dynamax():
    """It calls `update` without `params`."""
    client("dynamax")
    ssm = importlib.import_module("dynamax.linear_gaussian_ssm")
    model = ssm.LinearGaussianSSM(2, 3)
    params, properties = model.initialize(jax.random.key(2))
    _, emissions = model.sample(params, jax.random.key(3), 50)
    _, losses = model.fit_sgd(
        params, properties, emissions + 2, optimizer=gs.muon(0.01), num_epochs=40
    )
    falls(losses)


def test_haiku():
    hk = client("haiku")
    network = hk.without_apply_rng(hk.transform(lambda x: hk.nets.MLP([16, 16, 3])(x)))
    params = network.init(jax.random.key(2), X)
    optimizer = gs.muon(0.02)
    state = optimizer.init(params)

    @jax.jit
    def step(params, state):
        loss = lambda params: jnp.mean((network.apply(params, X) - Y) ** 2)
        value, grads = jax.value_and_grad(loss)(params)
        updates, state = optimizer.update(grads, state, params)
        return jax.tree.map(jnp.add, params, updates), state, value

    losses = []
    for _ in range(40):
        params, state, value = step(params, state)
        losses.append(value)
    falls(losses)


ROOT = Path(__file__).parents[2]
BLOCKS = [
    (page, *block)
    for page in ("README.md", "docs/models.md")
    for block in re.findall(
        r"^```python (\w+)\n(.*?)^```", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL
    )
]


@pytest.mark.parametrize(("page", "name", "block"), BLOCKS, ids=[" ".join(b[:2]) for b in BLOCKS])
def test_the_model_of_the_page_runs(page, name, block):
    client(name)
    exec(compile(block, f"{page}, {name}", "exec"), {"__name__": "__main__"})
