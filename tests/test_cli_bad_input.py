"""What is no optimizer, or disturbs the command: a sentence and exit code 2, whoever loads it."""

import os
import sys
import textwrap

import pytest

from gradsmith.cli import main

FILE = """
    import os, sys, warnings
    import jax.numpy as jnp, numpy as np, optax
    from gradsmith.race import Task

    class Mine:
        def __init__(self, learning_rate): self.rate = learning_rate
        def init(self, params): return ()
        def update(self, updates, state, params=None): return updates, state

    def right(learning_rate): return optax.sgd(learning_rate)
    def a_class(learning_rate): return Mine
    def nothing(learning_rate): optax.sgd(learning_rate)
    def wants(learning_rate, sharpness): return optax.sgd(learning_rate)
    def raises(learning_rate): raise KeyError("no such thing")
    def exits(learning_rate): sys.exit(0)
    def exits_late(learning_rate):
        return optax.GradientTransformation(lambda params: sys.exit(0), optax.sgd(1.0).update)
    def fills(learning_rate):
        kept = []
        while True: kept.append(np.zeros(2**30))
    def lacks(learning_rate):
        import no_helper_of_mine
    def prints(learning_rate):
        print("a word")
        return optax.sgd(learning_rate)
    def imports(learning_rate):
        import helper_of_mine
        return optax.sgd(learning_rate * helper_of_mine.ONE)
    def forks(learning_rate):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that this process has threads
            child = os.fork()
        if child:
            with open("children", "a") as file: print(child, file=file)
        return optax.sgd(learning_rate)

    def params(): return {"w": jnp.zeros((3, 2))}

    def task():
        one = jnp.ones(3)
        return Task(
            name="bowl", init=lambda key: {"x": jnp.zeros(3)},
            loss=lambda params, batch: jnp.sum((params["x"] - batch) ** 2),
            batch=lambda key: one, selection=one, report=one,
            target=0.5, steps=2, examples_per_step=1,
        )
"""
COMMANDS = {
    "diff": ("diff", "{}", "optax.sgd", "--params", "mine.py:params", "--steps", "2"),
    "describe": ("describe", "{}", "mine.py:params", "--json"),
    "cost": ("cost", "{}", "--model", "mine.py:params", "--alone", "--json"),
    "race": ("race", "{}", "--task", "mine.py:task", "--plan"),
}
REFUSED = {
    "a_class": "the class Mine",
    "wants": "sharpness",
    "raises": "KeyError: 'no such thing'",
    "exits": "raise an error instead",
    "exits_late": "raise an error instead",
    "fills": "MemoryError",
    "lacks": "No module named 'no_helper_of_mine'",
}


@pytest.fixture
def gradsmith(tmp_path, monkeypatch, capfd):
    """Run `gradsmith ...` beside `mine.py`; return exit code, stdout and stderr."""
    (tmp_path / "mine.py").write_text(textwrap.dedent(FILE))
    (tmp_path / "helper_of_mine.py").write_text("ONE = 1.0\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["gradsmith", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code, *capfd.readouterr()

    return run


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("factory", REFUSED)
def test_what_is_no_optimizer_is_one_sentence_and_exit_code_2(gradsmith, command, factory):
    code, out, err = gradsmith(*(part.format(f"mine.py:{factory}") for part in COMMANDS[command]))
    assert (code, out) == (2, "")
    assert REFUSED[factory] in " ".join(err.split())
    assert "Traceback" not in err


@pytest.mark.parametrize("command", COMMANDS)
def test_one_that_prints_imports_late_or_forks_changes_nothing(gradsmith, command):
    run = lambda name: gradsmith(*(part.format(f"mine.py:{name}") for part in COMMANDS[command]))
    _, plain, _ = run("right")
    for name in ("prints", "imports", "forks"):
        code, out, err = run(name)
        assert code == 0
        assert len(out.splitlines()) == len(plain.splitlines())  # nothing more, nothing twice
        assert ("a word" in err) == (name == "prints")
    with open("children") as file:
        children = [int(line) for line in file]
    assert children
    assert all(os.waitpid(child, 0)[1] == 0 for child in children)


@pytest.mark.parametrize(
    ("factory", "code", "says"),
    [
        ("a_class", 2, "return `Mine(...)`"),
        ("Mine", 2, "return optax.GradientTransformation(made.init, made.update)"),
        ("nothing", 2, "return optax.GradientTransformation(init_fn, update_fn)"),
        ("wants", 2, "wants sharpness: pass each by --arg name=value"),
        ("exits", 2, "raise an error that says what is wrong"),
        ("lacks", 2, "No module named 'no_helper_of_mine'"),
        ("exits_late", 1, "raise an error that says what is wrong"),
        ("prints", 0, "0 failed"),
    ],
)
def test_the_checks_tell_what_is_no_optimizer_from_one_that_is_wrong(
    gradsmith, factory, code, says
):
    command = ("check", f"mine.py:{factory}", "--only", "core_runs", "--json", "report.json")
    ended, out, err = gradsmith(*command)
    assert ended == code
    assert says in " ".join((out + err).split())
    assert os.path.exists("report.json") == (factory != "wants")  # the other results are kept
