"""The schedule rises over a tenth of the steps and falls to zero."""

import jax.numpy as jnp
import numpy as np
import pytest

from gradsmith.race.schedule import schedule


@pytest.mark.parametrize("steps", [1, 2, 7, 10, 300])
def test_the_schedule_rises_to_one_and_falls_to_almost_zero(steps):
    values = np.array([float(schedule(jnp.int32(i), steps)) for i in range(steps)])
    peak = max(1, round(steps / 10)) - 1
    assert values.max() == values[peak] == 1.0
    assert (np.diff(values[: peak + 1]) > 0).all()
    assert (np.diff(values[peak + 1 :]) < 0).all()
    np.testing.assert_allclose(values[-1], 1 / max(1, steps - peak - 1), rtol=1e-6)


def test_a_hundred_steps_by_hand():
    values = [float(schedule(jnp.int32(i), 100)) for i in (0, 4, 9, 10, 54, 99)]
    np.testing.assert_allclose(values, [0.1, 0.5, 1.0, 1.0, 46 / 90, 1 / 90], rtol=1e-6)
