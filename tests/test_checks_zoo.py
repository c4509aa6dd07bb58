"""No false alarm: healthy optimizers in unusual styles, on usual and unusual trees."""

import pytest
from usual import FEW, USUAL, of_model
from zoo import ZOO

from gradsmith.checks import check_optimizer

pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("standard_promotion"),  # optax.MultiSteps and others need it
]


def fails_no_must(subject):
    report = check_optimizer(subject, tier="must", on_failure="return", limit=600.0)
    assert report.ok, str(report)
    assert report.counts["passed"] > 50


@pytest.mark.parametrize("subject", [*ZOO, *USUAL], ids=lambda subject: subject.name)
def test_a_healthy_optimizer_fails_no_must(subject):
    fails_no_must(subject)


@pytest.mark.parametrize("subject", FEW, ids=lambda subject: subject.name)
def test_nor_does_it_on_a_model_of_flax_nnx(subject):
    nnx = pytest.importorskip("flax.nnx")

    class Model(nnx.Module):
        def __init__(self, rngs):
            self.embed = nnx.Embed(9, 4, rngs=rngs)
            self.blocks = nnx.List([nnx.Linear(4, 4, rngs=rngs) for _ in range(2)])
            self.norm = nnx.LayerNorm(4, rngs=rngs)

    fails_no_must(of_model(subject, nnx.state(Model(nnx.Rngs(0)), nnx.Param)))
