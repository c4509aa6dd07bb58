"""No false alarm: healthy optimizers in unusual styles, on usual and unusual trees."""

import pytest
from zoo import ZOO

from gradsmith.checks import check_optimizer


@pytest.mark.slow
@pytest.mark.usefixtures("standard_promotion")  # optax.MultiSteps and others need it
@pytest.mark.parametrize("subject", ZOO, ids=lambda subject: subject.name)
def test_a_healthy_optimizer_fails_no_must(subject):
    report = check_optimizer(subject, tier="must", on_failure="return", limit=600.0)
    assert report.ok, str(report)
    assert report.counts["passed"] > 50
