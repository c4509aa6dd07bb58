"""What is said of an optimizer in pyproject.toml, and on the command line."""

import pytest

from gradsmith.cli.check import check, subject_from
from gradsmith.cli.declared import KEYS, declared_in_file, merged
from gradsmith.cli.loading import UsageError

OPTIMIZER = """
import optax
def mine(lr, constant=0.5):
    def update(updates, state, params, *, value):
        return optax.tree.scale(-lr * constant, updates), state
    return optax.GradientTransformationExtraArgs(optax.init_empty_state, update)
def extra(loss, params, grads):
    return {"value": loss(params)}
def model():
    return {"w": optax.tree.zeros_like(jnp.ones((8, 3)))}
"""


@pytest.fixture
def project(tmp_path):
    """Writes pyproject.toml; the name of an optimizer in a folder beside it."""
    (tmp_path / "code").mkdir()
    source = OPTIMIZER.replace("import optax", "import optax, jax.numpy as jnp", 1)
    (tmp_path / "code" / "file.py").write_text(source)

    def write(text: str) -> str:
        (tmp_path / "pyproject.toml").write_text(text)
        return f"{tmp_path}/code/file.py:mine"

    return write


EVERYTHING = """
[tool.gradsmith.check."code/file.py:mine"]
arguments = { constant = 0.25 }
learning_rate = "lr"
extra_args = "code/file.py:extra"
traits = ["needs_params"]
claims = { rate_linear = true, polar_factor = [0.7, 1.2] }
expected_failures = { extra_args_ignored = "it takes its own alone" }
params = "code/file.py:model"
mesh = "fsdp=4"
"""


def test_everything_can_be_said_in_the_file(project):
    spec = project(EVERYTHING)
    assert declared_in_file(spec).keys() == KEYS.keys()
    subject = subject_from(spec, {})
    assert subject.call_arguments == {"lr": 0.01, "constant": 0.25}
    assert subject.rate_name == "lr"
    assert subject.traits == {"needs_params"}
    assert subject.claims == {"rate_linear": True, "polar_factor": [0.7, 1.2]}
    assert subject.expected_failures == {"extra_args_ignored": "it takes its own alone"}
    assert subject.extra_args is not None
    assert subject.model["w"].shape == (8, 3)
    assert subject.mesh == {"fsdp": 4}


def test_the_same_can_be_said_on_the_command_line(project, capfd):
    spec = project("")
    code = check(
        spec,
        arg=("constant=0.25",),
        trait=("needs_params",),
        claim=("rate_linear",),
        expect=("extra_args_ignored=it takes its own alone",),
        extra_args=spec.replace(":mine", ":extra"),
        only=("extra_args_ignored", "params_optional"),
    )
    assert code == 0
    assert "1 expected" in capfd.readouterr().out


def test_the_command_line_comes_on_top():
    file = {"arguments": {"a": 1, "b": 2}, "traits": ["x"], "mesh": "fsdp=2"}
    said = merged(file, {"arguments": {"b": 3}, "traits": ["y"], "mesh": "fsdp=4"})
    assert said == {"arguments": {"a": 1, "b": 3}, "traits": ["x", "y"], "mesh": "fsdp=4"}


TABLE = '[tool.gradsmith.check."code/file.py:mine"]\n'


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (TABLE + "trait = ['by_name']", "no key 'trait'; known are arguments, learning_rate"),
        (TABLE + "traits = 'by_name'", "traits must be a list, got 'by_name'"),
        (TABLE + "claims = ['polar_factor']", "claims must be a table"),
        ("[tool.gradsmith.checks]\na = 1", r"\[tool.gradsmith.check.NAME\] alone"),
        ("[tool.gradsmith.check]\na = 1", "must be a table"),
        ('[tool.gradsmith.check."other.py:mine"]', "there is no file 'other.py'"),
        ("[tool.gradsmith", "cannot be read"),
    ],
    ids=["key", "list", "table", "section", "no table", "file", "syntax"],
)
def test_what_nobody_asked_for_is_refused(project, text, says):
    with pytest.raises(UsageError, match=says):
        declared_in_file(project(text))


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ("claims = { polar = true }", "'polar' cannot be claimed; what can is polar_factor"),
        ("traits = ['odd']", "unknown traits"),
        ("expected_failures = { odd = 'x' }", "no check is called 'odd'"),
        ("arguments = { constnt = 1 }", "did you mean constant"),
        ("mesh = 'fsdp=4'", "the parameters that --params names"),
        ("extra_args = 'code/file.py:extras'", "did you mean extra"),
    ],
    ids=["claim", "trait", "check", "argument", "mesh", "function"],
)
def test_what_cannot_be_said_of_it_is_refused(project, table, says):
    with pytest.raises(UsageError, match=says):
        subject_from(project(TABLE + table), {})


def test_an_option_without_its_value_is_refused(project):
    with pytest.raises(UsageError, match="--arg takes name=value"):
        check(project(""), arg=("constant",))
