"""`gradsmith race`: what it takes, what it prints, and how it refuses."""

import importlib
import json
import re
import sys
import textwrap
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from gradsmith.cli import main
from gradsmith.cli.race_entries import load_entries, routing
from gradsmith.race.mesh import mesh_of, on

EXAMPLES = Path(__file__).parent.parent / "examples"

MINE = """
    import jax.numpy as jnp
    import optax

    def momentum(lr, constant):
        return optax.sgd(lr, momentum=constant)

    def plain(speed, **others):
        assert others in ({}, {"constant": 0.5})
        return optax.sgd(speed)

    def careful(lr):
        if lr > 1:
            raise ValueError("too fast")
        return optax.sgd(lr)

    def number(lr):
        return lr

    def steady(step, steps):
        '''The peak, at every step.

        No warm-up.
        '''
        return jnp.float32(1)

    def by_parts(step, steps):
        return jnp.ones(3)

    three = 3
"""

TASK = """
    import dataclasses
    import jax, jax.numpy as jnp
    from gradsmith.race import Task

    def make_task(steps=5, centre=1.0):
        return Task(
            name="parabola",
            init=lambda key: {"x": jnp.zeros(3)},
            loss=lambda params, batch: jnp.sum((params["x"] - batch) ** 2),
            batch=lambda key: jnp.full(3, centre),
            selection=jnp.full(3, centre),
            report=jnp.full(3, centre),
            target=0.5,
            steps=steps,
            examples_per_step=1,
        )

    def far(steps=5):
        return dataclasses.replace(make_task(steps, 2.0), name="far", target=0.1)

    def sized(width, steps=5):
        ones = jnp.ones((1, width))
        return dataclasses.replace(
            make_task(steps),
            init=lambda key: {"w": jnp.zeros((width, 1))},
            loss=lambda params, batch: jnp.mean((jnp.sum(ones @ params["w"]) - batch) ** 2),
        )

    def wrong():
        return 3

    def broken():
        raise OSError("no such data")
"""


@pytest.fixture
def race(tmp_path, monkeypatch, capfd):
    """Run `gradsmith race ...` in a folder with files; return exit code, stdout and stderr."""
    (tmp_path / "mine.py").write_text(textwrap.dedent(MINE))
    (tmp_path / "task.py").write_text(textwrap.dedent(TASK))
    monkeypatch.chdir(tmp_path)

    def run(*arguments, task="task.py:make_task", watch="--no-watch"):
        argv = ["gradsmith", "race", *arguments, "--task", task, *filter(None, [watch])]
        monkeypatch.setattr(sys, "argv", argv)
        with pytest.raises(SystemExit) as exit_:
            main()
        out, err = capfd.readouterr()
        return exit_.value.code, out, err

    return run


def records(folder=None):
    folder = folder or the_folder("parabola")
    return [json.loads(line) for line in (Path(folder) / "records.jsonl").read_text().splitlines()]


def test_a_race_looks_inside_unless_it_is_told_not_to(race):
    command = ("mine.py:momentum", "--arg", "constant=0.5", "--rates", "0.1", "--seeds", "1")
    code, _, err = race(*command, "--out", "one", watch=None)
    assert code == 0
    assert "compiling momentum, to look inside" in err
    page = (Path("one") / "report.html").read_text()
    assert "update ratio" in page
    assert "To look inside took" in page
    assert race(*command, "--out", "other")[0] == 0
    assert not list(Path("other").glob("readings*"))
    assert "update ratio" not in (Path("other") / "report.html").read_text()
    one, other = ([{**line, "timing": {}} for line in records(name)] for name in ("one", "other"))
    assert one == other


def the_folder(task):
    (folder,) = Path("runs").glob(f"{task}-??????")
    return folder


def test_a_race_leaves_table_records_and_report(race):
    code, out, err = race("mine.py:momentum", "sgd", "--arg", "constant=0.5", "--rates", "0.1,0.3")
    assert code == 0
    assert "momentum" in out
    assert "nothing was chosen on what is reported" in " ".join(out.split())
    assert "compiling momentum" in err
    assert "report.html" in err
    assert "\x1b" not in out + err  # neither is a terminal here
    names = {path.name for path in the_folder("parabola").iterdir()}
    assert names >= {"config.json", "records.jsonl", "report.html"}
    seeds = {(r["entry"], r["settings"]["learning_rate"]): set() for r in records()}
    for r in records():
        seeds[r["entry"], r["settings"]["learning_rate"]].add(r["seed"])
    assert {entry for entry, _ in seeds} == {"momentum", "sgd"}
    for entry in ("momentum", "sgd"):
        tried = [rate for name, rate in seeds if name == entry]
        assert {0.1, 0.3} <= set(tried)
        assert [{-1, 0, 1, 2}] == [seeds[entry, r] for r in tried if len(seeds[entry, r]) > 1]


def test_the_same_command_again_shows_the_same_table_without_running(race):
    command = ("sgd", "--rates", "0.1")
    _, first, _ = race(*command)
    before = records()
    code, second, err = race(*command)
    assert (code, second) == (0, first)
    assert records() == before
    assert "compiling" not in err


def test_arguments_go_to_the_factories_that_take_them(race):
    arguments = ("--arg", "constant=0.5", "--rates", "0.1", "--seeds", "1")
    code, _, _ = race("mine.py:momentum", "mine.py:plain", "sgd", *arguments)
    assert code == 0
    entries = records()[0]["config"]["entries"]
    assert entries["momentum"]["arguments"] == entries["plain"]["arguments"] == ["constant=0.5"]
    assert (entries["sgd"]["spec"], entries["sgd"]["arguments"]) == ("sgd", [])


def test_arguments_reach_the_optimizers_of_packages(race):
    code, _, _ = race("sgd", "muon", "--arg", "momentum=0.5", "--rates", "0.1", "--seeds", "1")
    assert code == 0
    entries = records()[0]["config"]["entries"]
    assert entries["sgd"]["arguments"] == entries["muon"]["arguments"] == ["momentum=0.5"]


def test_entries_declare_spaces_and_get_equal_budgets(race):
    code, out, err = race(
        "sgd(learning_rate=log(0.01, 0.3), momentum=[0.0, 0.5])",
        "sgd(momentum=0.25, learning_rate=log(0.01, 0.3))",
        *("--search", "sobol", "--budget", "4", "--seeds", "1", "--extensions", "0"),
        *("--label", "tuned", "--label", "plain"),
    )
    assert code == 0, err
    tuning = [r for r in records() if r["seed"] < 0]
    by_entry = {name: [r for r in tuning if r["entry"] == name] for name in ("tuned", "plain")}
    assert [len(own) for own in by_entry.values()] == [4, 4]
    assert {r["settings"]["momentum"] for r in by_entry["tuned"]} == {0.0, 0.5}
    space = records()[0]["config"]["entries"]["tuned"]["space"]
    assert space == {"learning_rate": "log(0.01, 0.3)", "momentum": [0.0, 0.5]}
    assert "tuned" in out


def test_one_optimizer_twice_with_other_arguments_is_two_entries(race):
    code, _, err = race("sgd", "sgd(momentum=0.5)", "--rates", "0.1", "--seeds", "1")
    assert code == 0, err
    assert {r["entry"] for r in records()} == {"sgd", "sgd(momentum=0.5)"}
    losses = {r["entry"]: r["validation_loss"] for r in records()}
    assert len(set(losses.values())) == 2


def test_a_plan_says_what_the_race_takes_and_runs_nothing(race):
    code, out, _ = race(
        "sgd(momentum=[0.1, 0.5])", "mine.py:momentum(constant=[0.5, 0.6])", "--plan"
    )
    assert code == 0
    first, second, last = out.splitlines()
    assert first.startswith(
        "sgd: 6 trials of learning_rate=[0.002, 0.02, 0.2], momentum=[0.1, 0.5]"
    )
    assert "9 runs, 2 compilations" in first
    assert second.startswith("momentum: 6 trials")
    assert re.match(r"together 18 runs, about \d+ s with the compilations; ", last)
    assert "4 more runs if somebody's best learning rate is at an edge" in last
    assert not Path("runs").exists()


def test_entries_whose_functions_share_a_name_go_by_their_files(race):
    Path("yours.py").write_text(Path("mine.py").read_text())
    code, _, _ = race("mine.py:plain", "yours.py:plain", "--rates", "0.1", "--seeds", "1")
    assert code == 0
    assert {r["entry"] for r in records()} == {"mine.py:plain", "yours.py:plain"}


def test_task_arguments_size_the_task_and_another_size_is_refused(race):
    command = ("sgd", "--rates", "0.1", "--seeds", "1", "--out", "here")
    assert race(*command, "--task-arg", "steps=3")[0] == 0
    assert records("here")[0]["curve"]["step"] == [0, 1, 2, 3]
    code, out, err = race(*command, "--task-arg", "steps=4")
    assert (code, out) == (2, "")
    assert "here belongs to another race" in err
    assert "config.task.steps: 3 there, 4 here" in err
    assert len(records("here")) == 2


def test_a_change_in_what_a_file_imports_is_another_race(race):
    Path("helper.py").write_text("power = 1.0")
    Path("helped.py").write_text(
        "import helper, optax\ndef plain(lr):\n    return optax.sgd(lr * helper.power)\n"
    )
    command = ("helped.py:plain", "--rates", "0.1", "--seeds", "1", "--out", "here")
    assert race(*command)[0] == 0
    Path("helper.py").write_text("power = 2.0")
    del sys.modules["helper"]  # as a new process has it
    code, _, err = race(*command)
    assert code == 2
    assert "programs.entry plain" in err


def test_a_change_behind_a_dotted_name_is_another_race(race, monkeypatch):
    monkeypatch.syspath_prepend(".")
    Path("dotted.py").write_text("import optax\ndef it(lr):\n    return optax.sgd(lr)\n")
    command = ("dotted.it", "--rates", "0.1", "--seeds", "1")
    assert race(*command)[0] == 0
    Path("dotted.py").write_text("import optax\ndef it(lr):\n    return optax.sgd(-lr)\n")
    del sys.modules["dotted"]
    importlib.invalidate_caches()
    sys.path_importer_cache.clear()
    assert race(*command)[0] == 0
    assert len(list(Path("runs").glob("parabola-*/records.jsonl"))) == 2


def test_a_comment_in_a_file_is_the_same_race(race):
    command = ("mine.py:plain", "--rates", "0.1", "--seeds", "1", "--out", "here")
    assert race(*command)[0] == 0
    with Path("mine.py").open("a") as file:
        file.write("\n# better now\n")
    code, _, err = race(*command)
    assert code == 0
    assert "compiling" not in err


def test_without_out_another_race_is_another_folder(race):
    for rate in ("0.1", "0.2"):
        assert race("sgd", "--rates", rate, "--seeds", "1")[0] == 0
    assert len(list(Path("runs").glob("parabola-*/records.jsonl"))) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["adamww"], "nothing is called 'adamww'; did you mean adamw"),
        ([], "nobody to race"),
        (["sgd", "--rates"], "grid of learning rates is empty"),
        (["sgd", "--rates", "0"], "must be positive numbers"),
        (["sgd", "--rates", "low"], "--rates takes numbers, such as 0.005,0.02; got low"),
        (["sgd", "--seeds", "0"], "at least one seed"),
        (["sgd", "sgd"], "names everything once, got sgd, sgd"),
        (["nofile.py:factory"], "there is no file 'nofile.py'"),
        (["mine.py:moment"], "mine has no 'moment'; did you mean momentum"),
        (["mine.py:momentum"], "momentum needs a value for constant as well"),
        (["mine.py:number"], "number returns a float, not an Optax optimizer"),
        (["mine.py:three"], "mine.py:three is a int, not a function of a learning rate"),
        (["mine.py:careful"], "careful branches on the learning rate"),
        (["clip"], "clip has no parameter learning_rate or lr"),
        (["sgd", "--arg", "mix=0.9"], "no entry has a parameter 'mix'"),
        (
            ["sgd", "--arg", "momentum=0.5", "--arg", "momentum=0.9"],
            "--arg momentum=0.5 --arg momentum=0.9: give momentum once",
        ),
        (["sgd", "--task-arg", "steps=3", "--task-arg", "steps=4"], "give steps once"),
        (["mine.py:plain", "--arg", "constant"], "name=value"),
        (["mine.py:plain", "--arg", "speed=1"], "the race sets speed; give --rates, or a list"),
        (["sgd", "--task-arg", "size=1"], "task.py:make_task has no parameter 'size'"),
        (["sgd", "--out", "mine.py/race"], "cannot write in mine.py/race: Not a directory"),
        (["sgd(0.1)"], "sgd(0.1) is not written as name(arg=value): every value needs its name"),
        (["sgd(momentum=0.9"], "is not written as name(arg=value)"),
        (["sgd(momentum=log(1))"], "log(1) needs two numbers"),
        (["sgd(momentum=low)"], "low is neither a value, nor a list, log(low, high)"),
        (["sgd(momentun=0.9)"], "sgd has no parameter 'momentun'"),
        (["sgd(learning_rate=0.9)"], "the race sets learning_rate; give --rates, or a list"),
        (["sgd(momentum=[0.5, 0.9])", "mine.py:plain"], "everyone gets the same number of trials"),
        (["sgd(learning_rate=log(0.1, 1))"], "has no grid"),
        (["sgd", "--search", "sobol"], "a sobol search needs a budget"),
        (["sgd", "--label", "a", "--label", "b"], "2 labels for 1 entries"),
        (["sgd", "--out", "."], "not the folder of a race"),
        (["sgd", "--mesh", "fsdp"], "--mesh takes axes once each, as fsdp=2,tensor=4; got 'fsdp'"),
        (["sgd", "--mesh", "tensor=3"], "has the axes data and fsdp"),
        (["sgd", "--mesh", "data=30"], "--xla_force_host_platform_device_count=30"),
        (["sgd", "--mesh", "data=2"], "2 devices can split no first axis evenly"),
        (["sgd", "--mesh", "data=3", "--widths", "2,4"], "leave out --mesh"),
        (["sgd", "--schedule", "muon=mine.py:steady"], "where ENTRY is sgd"),
        (["sgd", "--schedule", "mine.py:steady"], "write ENTRY=file.py:function"),
        (["sgd", *2 * ["--schedule", "sgd=mine.py:steady"]], "once for an entry"),
        (["sgd", "--schedule", "sgd=mine.py:three"], "mine.py:three is a int, not a function"),
        (["sgd", "--schedule", "sgd=mine.py:by_parts"], "the schedule of sgd gives float32[3]"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_misuse_is_one_message_and_exit_code_two(race, arguments, message):
    code, out, err = race(*arguments)
    assert code == 2
    assert out == ""
    assert message in err
    assert "Traceback" not in err
    assert not list(Path("runs").glob("*/records.jsonl"))


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ("shakespear", "no task is called 'shakespear'; there is shakespeare, shakespeare_1m, "),
        ("task.py:wrong", "task.py:wrong returns a int, not a gradsmith.race.Task"),
        ("task.py:broken", "task task.py:broken fails: OSError: no such data"),
        ("mine.py:three", "mine.py:three is a int, not a function that makes a Task"),
    ],
)
def test_a_task_that_is_none_is_refused(race, task, message):
    code, _, err = race("sgd", task=task)
    assert code == 2
    assert message in err


def test_a_diverged_run_is_a_result(race):
    code, out, _ = race("sgd", "--rates", "0.1", "1e30", "--seeds", "1", "--extensions", "0")
    assert code == 0
    assert "sgd diverged in 1 of 2 tuning runs: with rate 1e+30 at step 1" in out
    assert records()[1]["diverged_at"] == 1


def test_a_failure_of_drawing_does_not_hide_the_table(race, monkeypatch):
    def broken(*args):
        raise RuntimeError("no fonts")

    monkeypatch.setattr("gradsmith.race.report.page", broken)
    code, out, err = race("sgd", "--rates", "0.1", "--seeds", "1")
    assert code == 1
    assert "sgd" in out
    assert "the report was not written, RuntimeError: no fonts" in err
    assert "Traceback" not in err


def test_the_table_says_which_leaves_go_where(race):
    _, out, _ = race("muon", "sgd", "--rates", "0.1", "--seeds", "1")
    assert "muon: 1 leaf (vector) to others: adam" in out
    assert "sgd: 1 leaf to stateless" in out


def test_missing_packages_are_named(race, monkeypatch):
    monkeypatch.setitem(sys.modules, "flax", None)
    code, _, err = race("sgd")
    assert code == 2
    assert "a race needs flax: pip install 'gradsmith[race]'" in err


def test_ctrl_c_says_that_it_goes_on(race, monkeypatch):
    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr("gradsmith.race.runner.train", interrupted)
    code, _, err = race("sgd")
    assert code == 130
    assert "the same command continues the race" in err
    assert "Traceback" not in err


def test_the_example_task_is_solved_by_the_example_optimizer(race):
    optimizer = f"{EXAMPLES / 'custom_optimizer.py'}:custom_optimizer"
    task = f"{EXAMPLES / 'my_task.py'}:make_task"
    code, _, err = race(optimizer, "--rates", "0.1", "--seeds", "1", task=task)
    assert code == 0, err
    _, record = records(the_folder("surface"))
    assert record["steps_to_target"] is not None


@pytest.fixture
def both(monkeypatch):
    """A suite of two tasks of the file."""
    suites = {"both": ("task.py:make_task", "task.py:far")}
    monkeypatch.setattr(importlib.import_module("gradsmith.cli.race"), "SUITES", suites)
    return "both"


def test_a_suite_prints_a_table_for_each_task_and_then_a_profile(race, both):
    options = ("--rates", "0.1", "0.2", "--seeds", "1", "--extensions", "0")
    code, out, err = race("sgd", "mine.py:momentum(constant=0.5)", *options, task=both)
    assert code == 0, err
    places = [out.index(f"Race on {task}") for task in ("parabola", "far")]
    assert places == sorted(places)
    assert "Mean final loss" in out[places[-1] :]
    assert "Solved within a factor of the fastest, of 2 tasks" in out[places[-1] :]
    folder = the_folder("both")
    for task in ("parabola", "far"):
        assert len(records(folder / task)) == 2 * (2 + 1)
        assert (folder / task / "report.html").exists()


def test_a_suite_is_one_folder_and_goes_on_there(race, both):
    command = ("sgd", "--rates", "0.1", "--seeds", "1")
    _, first, _ = race(*command, task=both)
    code, second, err = race(*command, task=both)
    assert (code, second) == (0, first)
    assert "compiling" not in err


def test_a_suite_can_be_planned(race, both):
    code, out, err = race("sgd", "mine.py:plain", "--rates", "0.1", "--plan", task=both)
    assert code == 0
    assert "far" in out
    # What takes the time is said before it takes it, and a task at a time.
    entries = ["compiling sgd", "compiling plain"]
    assert err.splitlines() == [
        *("tracing task.py:make_task", *entries),
        *("tracing task.py:far", *entries),
    ]
    assert out.count("together 8 runs") == 2
    assert not Path("runs").exists()


def test_widths_are_looked_at_side_by_side(race):
    options = ("--widths", "2,4", "--rates", "0.01", "0.02", "0.04", "--seeds", "1")
    code, out, err = race("sgd", *options, task="task.py:sized")
    assert code == 0, err
    assert out.index("Updates") < out.index("Activations") < out.index("Final loss")
    assert "does not imply" in " ".join(out.split())
    (image,) = Path("runs").glob("parabola-widths-*/widths.png")
    assert image.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("entries", "widths", "message"),
    [
        (("sgd", "adam"), ("2", "4"), "--widths looks at one entry at a time, got 2"),
        (("sgd",), ("wide",), "--widths takes numbers, such as 64,128,256; got wide"),
        (("sgd",), (",",), "--widths takes numbers"),
        (("sgd",), ("4",), "to compare widths takes at least two of them"),
    ],
)
def test_what_are_no_widths_is_refused(race, entries, widths, message):
    code, _, err = race(*entries, "--widths", *widths, task="task.py:sized")
    assert code == 2
    assert message in err


def test_a_task_without_a_width_is_refused(race):
    code, _, err = race("sgd", "--widths", "2,4")
    assert code == 2
    assert "has no parameter 'width'" in err


def test_only_who_asks_is_told_of_stacked_leaves():
    told, deaf = load_entries(("muon", "sgd"), (), (), ("experts/",))
    params = {"experts": {"up": jnp.zeros((2, 4, 8))}}
    assert "1 leaf (matrix) to matrices" in routing(told.build(0.1), params)
    deaf.build(0.1).init(params)
    (untold,) = load_entries(("muon",), (), ())
    with pytest.raises(ValueError, match="nothing says which matrices"):
        untold.build(0.1).init(params)


def test_a_race_runs_on_a_mesh(race):
    command = ("muon", "sgd", "--rates", "0.1", "--seeds", "1", "--mesh", "fsdp=3")
    code, out, err = race(*command, watch=None)
    assert code == 0, err
    assert "nothing is read inside" not in err
    assert "muon: 1 leaf (vector) to others: adam" in out
    assert records()[0]["config"]["mesh"] == {"fsdp": 3}
    assert "each run on 3 devices, fsdp=3" in (the_folder("parabola") / "report.html").read_text()


def test_factories_with_a_placement_are_told_how_parameters_lie():
    told, deaf = load_entries(("muon", "sgd"), (), (), mesh={"data": 2, "fsdp": 4})
    params = {"up": jnp.zeros((16, 8))}
    mesh = mesh_of({"data": 2, "fsdp": 4})
    with on(mesh):  # where a leaf does not tell how it is split, the update warns
        for one in (told, deaf):
            tx = one.build(0.1)
            jax.jit(tx.update).lower(params, tx.init(params), params)
    (untold,) = load_entries(("muon",), (), ())
    tx = untold.build(0.1)
    with on(mesh):
        state = tx.init(params)
        with pytest.warns(UserWarning, match="does not tell how it is split"):
            jax.jit(tx.update).lower(params, state, params)


def test_one_of_several_workers_races_a_suite_and_the_last_one_shows_it(race, both):
    command = ("sgd", "--rates", "0.1", "--seeds", "2", "--out", "shared")
    code, out, err = race(*command, "--worker", "1/1", task=both)
    assert code == 0, err
    assert "Solved within a factor of the fastest, of 2 tasks" in out
    file = Path("shared/far/records-1.jsonl")
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:-2]))
    code, out, err = race(*command, "--worker", "2/2", task=both)
    assert (code, out) == (0, "")
    assert "1 runs of other workers are left; the last one shows the table" in err
    code, out, _ = race(*command, "--worker", "1/2", task=both)
    assert code == 0
    assert "Solved within a factor of the fastest, of 2 tasks" in out


def test_a_worker_looks_at_widths(race):
    options = ("--widths", "2,4", "--rates", "0.01", "0.02", "0.04", "--out", "shared")
    code, out, err = race("sgd", *options, "--worker", "1/1", task="task.py:sized")
    assert code == 0, err
    assert "Final loss" in out
    assert len(list(Path("shared").glob("width-?/records-1.jsonl"))) == 2


def test_an_entry_may_bring_a_schedule_which_the_table_and_the_report_tell(race):
    options = ("--rates", "0.1", "--seeds", "1", "--schedule", "mine=mine.py:steady")
    labels = ("--label", "sgd", "--label", "mine")
    code, out, err = race("sgd", "mine.py:plain", *options, *labels)
    assert code == 0, err
    said = "mine has a schedule of its own: The peak, at every step."
    assert said in " ".join(out.split())
    assert "sgd has a schedule" not in out
    assert "The peak, at every step." in (the_folder("parabola") / "report.html").read_text()
    entries = records()[0]["config"]["entries"]
    assert entries["mine"]["schedule"] == "The peak, at every step."
    assert entries["sgd"]["schedule"].startswith("Linear warm-up over a tenth")
    # Five steps at 0.1 leave 0.8 ** 5 of the distance to a centre that is one away, three times.
    losses = {r["entry"]: r["validation_loss"] for r in records() if r["seed"] == 0}
    assert losses["mine"] == pytest.approx(3 * 0.8**10, rel=1e-4)
    assert losses["sgd"] != losses["mine"]
