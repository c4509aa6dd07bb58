"""What is compiled for: said, told by the mesh, or the default; and known in one room only."""

import ast
import dataclasses
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from overridden import overridden

import gradsmith as gs
from gradsmith.xla import targets
from gradsmith.xla.targets import current_target
from gradsmith.xla.trace_without_mesh import trace_without_mesh

SOURCE = Path(gs.__file__).parent
X = jax.ShapeDtypeStruct((128, 512), jnp.float32)


@pytest.mark.parametrize(
    ("said", "name"),
    [("cpu", "cpu"), ("gpu", "gpu"), ("cuda", "gpu"), ("rocm", "gpu"), ("tpu",) * 2],
)
def test_what_is_said_is_compiled_for(said, name):
    with gs.target(said):
        assert current_target().name == name
    assert current_target().name == "cpu"


def test_the_innermost_target_counts():
    with gs.target("tpu"), gs.target("cuda"):
        assert current_target().name == "gpu"
        with overridden(parts=3):
            assert (current_target().name, current_target().parts) == ("gpu", 3)


def test_an_unknown_target_is_refused_with_those_that_there_are():
    with pytest.raises(ValueError, match=r"no target is called 'tqu'; there are cpu, gpu, tpu"):
        gs.target("tqu")


def test_a_platform_that_nobody_measured_gets_the_defaults(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "quantum")
    assert current_target() == gs.Target("quantum")
    x = jnp.asarray(np.random.default_rng(0).standard_normal((4, 6)), jnp.float32)
    tx = gs.muon(0.02)
    updates, _ = tx.update(x, tx.init(x), x)
    assert np.isfinite(updates).all()


def mesh_of(platform):
    device = jax.sharding.AbstractDevice(device_kind="any", num_cores=1, platform=platform)
    return jax.sharding.AbstractMesh((2,), ("x",), abstract_device=device)


def test_the_mesh_tells_where_nothing_is_said():
    with jax.sharding.use_abstract_mesh(mesh_of("tpu")):
        assert current_target().name == "tpu"
        with gs.target("cuda"):
            assert current_target().name == "gpu"


def test_the_default_device_tells_before_the_default_backend(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
    assert current_target().name == "tpu"
    with jax.default_device(jax.devices()[0]):
        assert current_target().name == "cpu"


def test_a_formula_that_is_traced_without_the_mesh_is_compiled_for_it():
    seen = []

    def formula(x):
        seen.append(current_target().name)
        return x

    x = jax.ShapeDtypeStruct((3,), jnp.float32)
    with jax.sharding.use_abstract_mesh(mesh_of("tpu")):
        trace_without_mesh(formula, x)
    assert seen == ["tpu"]


def test_jit_keeps_a_program_for_each_target():
    seen = []

    @jax.jit
    def run(x):
        seen.append(current_target().name)
        return x

    for _ in range(2):
        run(1.0)
        with gs.target("tpu"):
            run(1.0)
    assert seen == ["cpu", "tpu"]


def test_numbers_of_ones_own_change_what_is_traced_and_not_the_result():
    x = jnp.asarray(np.random.default_rng(0).standard_normal((9, 20)), jnp.float32)
    run = jax.jit(gs.matrix.gram_newton_schulz)
    whole = run(x)
    with overridden(blocks_from=2):
        in_blocks = run(x)
        text = run.lower(x).as_text()
    assert "pad" in text
    assert "pad" not in run.lower(x).as_text()
    np.testing.assert_allclose(in_blocks, whole, atol=1e-5)


@pytest.mark.parametrize("name", ["cuda", "tpu"])
def test_a_program_lowered_for_another_target_is_the_one_for_it(name):
    """From a CPU host, without the data dependences that order a program on CPUs."""
    params = {str(i): jax.ShapeDtypeStruct((512, 768), jnp.float32) for i in range(4)}
    tx = gs.muon(0.02)
    step = lambda grads: tx.update(grads, tx.init(grads), grads)[0]

    def text(said):
        with gs.target(said):
            return jax.jit(step).trace(params).lower(lowering_platforms=(name,)).as_text()

    ordering = r"stablehlo.minimum .* : tensor<8xi32>"  # only the ordering takes one
    assert re.search(ordering, text("cpu"))
    assert not re.search(ordering, text(name))


PLATFORMS = {"cpu", "gpu", "tpu", "cuda", "rocm", "jax_platforms"}
ASKING = {"default_backend", "platform", "device_kind", "abstract_device"}
MAKING = {"layout", "matrix", "sites", "lift", "transforms", "optimizers", "catalogue.py"}
NAMED = re.compile(r"\b(?:[CGT]PUs?|CUDA|ROCm|cuBLAS|accelerators?)\b", re.IGNORECASE)
RECORDS = "race/provenance.py"  # says where a race was run, and decides nothing by it


@pytest.mark.parametrize(
    "path",
    [path for path in sorted(SOURCE.rglob("*.py")) if path.parent != SOURCE / "xla"],
    ids=lambda path: str(path.relative_to(SOURCE)),
)
def test_only_xla_knows_a_platform(path):
    """Where programs are made, no docstring and no comment speaks of one either."""
    asking = set() if path == SOURCE / RECORDS else ASKING
    if path.relative_to(SOURCE).parts[0] in MAKING:
        assert not NAMED.findall(path.read_text())
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            assert node.value.lower() not in PLATFORMS, node.lineno
        name = getattr(node, "id", getattr(node, "attr", getattr(node, "name", None)))
        assert name not in asking, node.lineno


def test_the_defaults_are_those_of_an_accelerator():
    with gs.target("gpu"):
        measured = current_target()
    unknown = targets.Target("quantum")
    assert dataclasses.replace(unknown, name="gpu", arithmetics=measured.arithmetics) == measured
    assert unknown.arithmetics == (("float32", 1.0),)
