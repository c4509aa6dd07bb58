"""What a program for a TPU costs: read from its text; compiled where `libtpu` is installed."""

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import optax
import pytest
from jax.sharding import AbstractMesh, AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import gradsmith as gs
from gradsmith.catalogue import read_cycles
from gradsmith.cli import UsageError
from gradsmith.cli.cost import cost
from gradsmith.xla import topologies
from gradsmith.xla.program.counts import count
from gradsmith.xla.program.cycles import count_cycles

LOOP = (Path(__file__).parent / "hlo" / "tpu_loop.txt").read_text()
PARAMS = {"kernel": jax.ShapeDtypeStruct((64, 256), jnp.float32)}
needs_libtpu = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed"
)


def test_cycles_of_a_loop_count_every_round():
    cycles = count_cycles(LOOP)
    assert (cycles.all, cycles.products, cycles.exact) == (50 + 7 * 700, 7 * 700, True)


def test_a_loop_with_another_condition_counts_once_and_says_so():
    for text in (
        LOOP.replace("direction=LT", "direction=NE"),
        LOOP.replace(
            "%seven.1 = s32[]{:T(128)} constant(7)", "%seven.1 = s32[]{:T(128)} parameter(1)"
        ),
    ):
        cycles = count_cycles(text)
        assert (cycles.all, cycles.exact) == (50 + 700, False)
        assert not count(text).exact


def test_of_two_branches_the_dearer_one_counts():
    branch = "conditional(%p, %a, %b), branch_computations={%cheap.1, %body.1}"
    called = "true_computation=%body.1, false_computation=%cheap.1"
    cheap = "%cheap.1 (t: s32[]) -> s32[] {\n  ROOT %t.9 = s32[] parameter(0)\n}\n\n"
    for choice in (branch, f"conditional(%p, %a, %b), {called}"):
        text = re.sub(r"while\(%start.1\), .*", choice, LOOP).replace("ENTRY", cheap + "ENTRY")
        assert count_cycles(text).all == 50 + 700


@pytest.mark.parametrize("called", ["QrDecompositionBlock", "ConcatBitcast"])
def test_what_a_library_takes_is_not_known_and_that_is_said(called):
    call = f'%q.1 = f32[4,16]{{1,0}} custom-call(%start.1), custom_call_target="{called}"'
    text = re.sub(r"(ENTRY .*\n)", rf"\1  {call}\n", LOOP)
    cycles = count_cycles(text)
    assert (cycles.all, cycles.exact) == (50 + 7 * 700, called == "ConcatBitcast")


def test_the_flops_of_a_product_on_a_tpu_are_those_of_its_stack():
    assert count(LOOP).flops == 7 * 2 * 4 * 16 * 32 * 16


def test_a_topology_that_does_not_exist_is_refused_with_the_list():
    with pytest.raises(ValueError, match=r"no topology is called 'v5e:3x3'; there are v4:2x2x1"):
        gs.update_cost(optax.sgd(0.1), PARAMS, on="v5e:3x3")
    with pytest.raises(UsageError, match=r"there are v4.* v5e:2x4"):
        cost("optax.sgd", "gpt2", on="v5e")


def test_without_libtpu_it_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(topologies.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(topologies.NoCompilerError, match=r"pip install 'gradsmith\[tpu\]'"):
        gs.update_cost(optax.sgd(0.1), PARAMS, on="v5e:2x4")
    with pytest.raises(UsageError, match=r"pip install 'gradsmith\[tpu\]'"):
        cost("optax.sgd", "gpt2", on="v5e:2x4")


def test_a_compiler_that_another_process_has_is_named(monkeypatch):
    def refuse(*args, **keywords):
        raise jax.errors.JaxRuntimeError("ABORTED: ... libtpu multi-process lockfile ...")

    monkeypatch.setattr(topologies.importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(topologies.topologies, "get_topology_desc", refuse)
    with pytest.raises(UsageError, match="set ALLOW_MULTIPLE_LIBTPU_LOAD=1"):
        cost("optax.sgd", "gpt2", on="v5e:2x4")


def test_tokens_are_for_tpus():
    with pytest.raises(UsageError, match=r"say which: --on v5e:2x4"):
        cost("optax.sgd", "gpt2", tokens=1000)


@pytest.fixture
def installed(monkeypatch):
    """A machine with libtpu, whose compiler is the one for CPUs with estimates written in."""
    monkeypatch.setattr(topologies.importlib.util, "find_spec", lambda name: True)
    monkeypatch.setattr(topologies.os, "environ", {})
    devices = lambda topology, platform: type("Topology", (), {"devices": jax.devices()})
    monkeypatch.setattr(topologies.topologies, "get_topology_desc", devices)


def test_parameters_on_an_abstract_mesh_are_compiled_on_devices_of_the_topology(installed):
    mesh = AbstractMesh((4,), ("fsdp",), axis_types=(AxisType.Explicit,))
    home = NamedSharding(mesh, P("fsdp"))
    params = {"kernel": jax.ShapeDtypeStruct((64, 256), jnp.float32, sharding=home)}
    told = gs.update_cost(gs.muon(0.1), params, on="v5e:2x4")
    assert (told.on, told.mesh) == ("v5e:2x4", {"fsdp": 4})
    assert told.params == 64 * 256 * 4 / 4
    assert told.collectives
    assert told.arguments == told.params + told.state  # gradients: it does not ask for parameters
    assert told.compile_seconds > 0
    assert "Estimated by the TPU compiler, not timed" in " ".join(str(told).split())


def test_what_operands_are_rounded_to_is_told_with_its_share(installed):
    rule = lambda x: jnp.matmul(jnp.matmul(x, x.T, precision="highest"), x) @ jnp.ones((64, 64))
    told = gs.update_cost(gs.per_matrix(rule), {"w": jnp.ones((64, 64))}, on="v5e:2x4")
    assert told.arithmetic == {"float32": told.flops / 3, "bfloat16": told.flops * 2 / 3}
    assert re.search(r"bfloat16\s+67%", str(told))
    alone = gs.update_cost(optax.sgd(0.1), PARAMS, on="v5e:2x4")
    assert alone.arithmetic == {}


def test_a_mesh_that_does_not_fit_is_refused_with_what_is_large_enough(installed):
    mesh = AbstractMesh((16,), ("fsdp",), axis_types=(AxisType.Explicit,))
    home = NamedSharding(mesh, P("fsdp"))
    params = {"kernel": jax.ShapeDtypeStruct((64, 256), jnp.float32, sharding=home)}
    with pytest.raises(ValueError, match="a mesh of 16 devices does not fit 8; there are v4:2x2x4"):
        gs.update_cost(gs.muon(0.1), params, on="v5e:2x4")


def test_the_command_shows_a_table_and_the_share_of_a_step(installed, tmp_path, capfd):
    (tmp_path / "shapes.py").write_text(
        "import jax.numpy as jnp\ndef make(): return jnp.ones((8, 16))\n"
    )
    model = f"{tmp_path}/shapes.py:make"
    assert cost("muon", model, on="v5e:2x4,v6e:2x4", tokens=10, alone=True) == 0
    out = capfd.readouterr().out
    assert re.findall(r"muon +(v\de:2x4)", out) == ["v5e:2x4", "v6e:2x4"]
    told = cost("muon", model, on="v5e:2x4", alone=True, json=True)
    (row,) = json.loads(capfd.readouterr().out)
    assert (told, row["optimizer"], row["on"]) == (0, "muon", "v5e:2x4")
    share = row["flops"] / (6 * 10 * 8 * 16)
    assert f"a step of 10 tokens: muon {share:.1%}" in " ".join(out.split())


COMPILED = [(26_280, 16_566, []), (49_478, 42_758, []), (73_093, 12_325, [(2, "all-to-all")])]
"""Cycles of all, and of products; and how many collectives of which kind."""

PROGRAMS = """
import json, jax, jax.numpy as jnp, gradsmith as gs
from jax.sharding import AbstractMesh, AxisType, NamedSharding, PartitionSpec as P
mesh = AbstractMesh((8,), ("fsdp",), axis_types=(AxisType.Explicit,))
rows = NamedSharding(mesh, P("fsdp"))
shape = lambda m, n, home=None: jax.ShapeDtypeStruct((m, n), jnp.float32, sharding=home)
both = {"up": shape(256, 1024, rows), "down": shape(1024, 256, rows)}
for params in ({"kernel": shape(256, 1024)}, {"kernel": shape(512, 512)}, both):
    cost = gs.update_cost(gs.muon(0.1), params, on="v5e:2x4")
    kinds = [(one.count, one.kind) for one in cost.collectives]
    print(json.dumps([cost.cycles.all, cost.cycles.products, kinds]))
print(gs.update_cost(gs.muon(0.1), {"kernel": shape(768, 3072)}, on="v5e:2x4").cycles.all / 1e6)
"""


@needs_libtpu
@pytest.mark.slow
def test_compiled_programs_cost_what_they_did():
    """In another process: one at a time can have libtpu, and it outlives what loaded it."""
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAMS], capture_output=True, text=True, check=True
    )
    *told, muon = list(map(json.loads, ended.stdout.splitlines()[-len(COMPILED) - 1 :]))
    assert muon == pytest.approx(float(read_cycles()["muon"]), rel=0.05)  # as the catalogue has it
    for (*cycles, kinds), (*stored, collectives) in zip(told, COMPILED, strict=True):
        assert cycles == pytest.approx(stored, rel=0.05)
        assert list(map(tuple, kinds)) == collectives
