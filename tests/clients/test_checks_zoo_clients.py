"""No false alarm on the trees of Equinox and Haiku."""

import jax
import jax.numpy as jnp
import pytest
from usual import FEW, of_model

from gradsmith.checks import check_optimizer

pytestmark = [
    pytest.mark.slow,
    pytest.mark.clients,
    pytest.mark.filterwarnings("default"),
    pytest.mark.usefixtures("standard_promotion"),
]


def model_of_equinox():
    eqx = pytest.importorskip("equinox", reason="pip install 'gradsmith[clients]'")
    model = eqx.nn.MLP(4, 3, 5, 2, key=jax.random.key(0))
    return eqx.filter(model, eqx.is_array)


def model_of_haiku():
    hk = pytest.importorskip("haiku", reason="pip install 'gradsmith[clients]'")

    def network(x):
        return hk.nets.MLP([5, 3])(hk.LayerNorm(-1, True, True)(x))

    return hk.transform(network).init(jax.random.key(0), jnp.ones((2, 4)))


@pytest.mark.parametrize("make", [model_of_equinox, model_of_haiku])
@pytest.mark.parametrize("subject", FEW, ids=lambda subject: subject.name)
def test_a_usual_optimizer_fails_no_must(subject, make):
    report = check_optimizer(
        of_model(subject, make()), tier="must", on_failure="return", limit=600.0
    )
    assert report.ok, str(report)
    assert report.counts["passed"] > 50
