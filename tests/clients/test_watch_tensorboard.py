"""What docs/watch.md writes for TensorBoard is what TensorBoard reads."""

import re
from pathlib import Path

import jax.numpy as jnp
import optax
import pytest

import gradsmith as gs

pytestmark = [pytest.mark.slow, pytest.mark.clients, pytest.mark.filterwarnings("default")]

PAGE = Path(__file__).parents[2] / "docs" / "watch.md"


def test_tensorboard_reads_the_numbers(tmp_path, monkeypatch):
    pytest.importorskip("tensorboard.summary")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python(?: tensorboard)?\n(.*?)^```", PAGE.read_text(), re.M | re.S)
    namespace = {"gs": gs}
    for block in blocks:
        if "def numbers" in block or "def to_tensorboard" in block:
            exec("import jax\n" + block, namespace)
    params = {"w": jnp.ones((3, 2))}
    tx = gs.watch(optax.sgd(0.5), every=1, readings=["sizes", "spectra"])
    state = tx.init(params)
    for _ in range(2):
        _, state = tx.update(params, state, params)
        namespace["to_tensorboard"](namespace["writer"], state)
    namespace["writer"].close()
    read = EventAccumulator(str(tmp_path / "runs" / "one")).Reload()
    expected = dict(namespace["numbers"](state))
    assert set(read.Tags()["tensors"]) == set(expected)
    for name, number in expected.items():
        events = read.Tensors(name)
        assert [event.step for event in events] == [1, 2]
        assert events[-1].tensor_proto.float_val[0] == pytest.approx(number)
