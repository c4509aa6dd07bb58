"""The program of every piece of advice is run as it stands, and shows the fault."""

import contextlib
import io
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import optax
import pytest
from kill_matrix import killers
from mutants import MUTANTS, Mutant

from gradsmith.checks import Subject, all_checks, check_optimizer
from gradsmith.checks.bench import Bench
from gradsmith.checks.reproducer import reproducer

DEVICES = "jax.config.update('jax_num_cpu_devices', 8)\n"


def shown(program: str) -> str:
    """What it prints, and the error it ends with.

    In a thread of its own, which takes along the settings that the program changes. The tests have
    eight devices.
    """
    said = io.StringIO()

    def run():
        with (
            jax.numpy_dtype_promotion("standard"),
            jax.numpy_rank_promotion("allow"),
            contextlib.redirect_stdout(said),
        ):
            try:
                exec(program.replace(DEVICES, ""), {})
            except Exception as error:
                print(f"{type(error).__name__}: {error}")

    with ThreadPoolExecutor(1) as pool:
        pool.submit(run).result()
    return re.sub(r"0x[0-9a-f]+", "", said.getvalue())


@pytest.mark.parametrize("check", all_checks(), ids=lambda check: check.name)
def test_it_runs_on_an_optimizer_that_is_right(check):
    if check.name == "equinox":
        pytest.importorskip("equinox")  # tests/clients/test_checks_equinox.py has it
    program = reproducer(check.call, Subject("sgd", optax.sgd))
    assert "from optax import sgd" in program
    assert "Error" not in shown(program), program
    assert max(map(len, program.splitlines())) <= 120


def test_leaves_are_called_as_in_what_was_seen():
    subject, made = Subject("sgd", optax.sgd), {}
    exec(reproducer("print(p)", subject), made)
    assert jax.tree.map(jnp.shape, made["p"]) == jax.tree.map(jnp.shape, Bench(subject).params)


FIRST: dict[str, Mutant] = {}
"""One mutant of each check, without a model where there is one."""
for mutant in sorted(MUTANTS, key=lambda m: m.subject.model is not None):
    FIRST.setdefault(mutant.check, mutant)


@pytest.mark.slow
@pytest.mark.parametrize("check", FIRST)
def test_it_shows_the_fault(check):
    """What it says of a mutant it says of no optimizer that is right."""
    advice = killers(FIRST[check], only=(check,))[check]
    faulty = shown(advice.reproduce)
    assert "NameError" not in faulty, advice.reproduce
    assert "ImportError" not in faulty, advice.reproduce
    for right in ("sgd", "partial(sgd, momentum=0.9)"):
        program = re.sub(
            r"^from mutants\S* import (\w+)$",
            rf"from functools import partial; from optax import sgd; \1 = {right}",
            advice.reproduce,
            flags=re.MULTILINE,
        )
        program = re.sub(r"^tx = (\w+)\((?!.*learning_rate)", r"tx = \1(0.01", program, flags=re.M)
        assert program != advice.reproduce
        assert shown(program) != faulty, program


def test_it_runs_when_it_is_pasted(tmp_path):
    """As a program of its own, in the folder of the file that was named."""
    (tmp_path / "mine.py").write_text(
        "import optax\n"
        "def mine(learning_rate, decay=0.5):\n"
        "    return optax.chain(optax.trace(decay), optax.scale(learning_rate))\n"
    )
    sys.path.insert(0, str(tmp_path))
    try:
        from mine import mine  # pyright: ignore[reportMissingImports]
    finally:
        sys.path.pop(0)
    report = check_optimizer(
        mine, arguments={"decay": 0.25}, only=["descent_direction"], on_failure="return"
    )
    (failure,) = report.failures
    program = failure.advice.reproduce
    *imports, call = program.splitlines()[:3]
    assert imports == ["import jax, jax.numpy as jnp, optax", "from mine import mine"]
    assert call == "tx = mine(decay=0.25, learning_rate=0.01)"
    run = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    assert "0.01" in run.stdout


def test_what_cannot_be_written_down_is_named():
    schedule = lambda count: 0.1
    subject = Subject("mine", partial(optax.sgd, nesterov=True), {"learning_rate": schedule})
    program = reproducer("print(s)", subject)
    assert "from optax import sgd\n" in program
    assert "# learning_rate is what was passed" in program
    assert "tx = sgd(nesterov=True, learning_rate=learning_rate)" in program
    namespace = {}  # as of a file that is run by `exec`
    exec("def nowhere(lr): ...", namespace)
    assert "# nowhere is what was" in reproducer("print(s)", Subject("x", namespace["nowhere"]))
    inner = Subject("inner", lambda: optax.sgd(0.1))
    assert "# inner is what was checked" in reproducer("print(s)", inner)


def test_a_tree_of_ones_own_is_written_down():
    tree = {"w": jnp.ones((2, 3)), "b": [jnp.ones(3, jnp.bfloat16), None]}
    program = reproducer("print(s)", Subject("sgd", optax.sgd, params=tree))
    assert "p = {'w': jnp.ones((2, 3)), 'b': [jnp.ones((3,), jnp.bfloat16), None]}" in program
    assert shown(program)


def test_pages_show_programs_that_are_complete():
    page = (Path(__file__).parents[1] / "README.md").read_text()
    assert "reproduce with" in page
    assert "from my_optimizer import my_optimizer" in page
