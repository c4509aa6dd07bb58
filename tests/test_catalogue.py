"""The catalogue measures what it says, and the page says what it measures."""

import inspect
from pathlib import Path

import pytest

import gradsmith
from gradsmith import catalogue
from gradsmith.catalogue import TECHNIQUES
from gradsmith.cli.list_techniques import list_techniques

PAGE = Path(__file__).parent.parent / "docs" / "catalogue.md"
BY_NAME = {technique.name: technique for technique in TECHNIQUES}


def test_the_page_has_the_table_that_the_command_prints(capsys):
    assert list_techniques(markdown=True) == 0
    assert capsys.readouterr().out in PAGE.read_text(), "run: gradsmith list --markdown"


def test_cycles_are_of_techniques_and_of_all_but_the_one_that_needs_logits():
    assert set(catalogue.read_cycles()) == set(BY_NAME) - {"qk_clip"}


def test_every_optimizer_has_its_line():
    from gradsmith import optimizers

    functions = {name for name, value in vars(optimizers).items() if inspect.isfunction(value)}
    assert functions == {name.split("(")[0] for name, t in BY_NAME.items() if t.kind == "optimizer"}


@pytest.mark.parametrize("technique", TECHNIQUES, ids=lambda t: t.name)
def test_a_technique_is_public_and_says_its_side(technique):
    """A docstring that says 'A direction' or 'A displacement' is the declaration of its side."""
    assert getattr(gradsmith, technique.documented.__name__) is technique.documented
    if technique.kind != "optimizer":
        doc = inspect.getdoc(technique.documented)
        assert f"A {technique.kind}: stands" in doc


@pytest.mark.parametrize(
    ("name", "state"),
    [
        ("muon", lambda m, n: m * n),
        ("soap", lambda m, n: 2 * m * n + 2 * m * m + 2 * n * n),
        ("normuon", lambda m, n: m * n + n),
        ("asgo", lambda m, n: m * n + 2 * m * m),
        ("dion2", lambda m, n: m * n),
        ("muoneq", lambda m, n: m * n),
        ("adamuon", lambda m, n: 2 * m * n),
        ("namo", lambda m, n: m * n + 1),
        ("scion", lambda m, n: m * n),
        ("forge", lambda m, n: 2 * m * n + 2 * m * m),
        ("kron", lambda m, n: m * n + m * m + n * n + 2),
        ("shampoo", lambda m, n: 3 * m * n + 2 * m * m + 2 * n * n),
        ("ademamix", lambda m, n: 3 * m * n),
    ],
)
def test_the_state_is_what_the_formulas_of_the_papers_keep(name, state):
    assert BY_NAME[name].state_elements(20, 36) == state(20, 36)


def test_the_flops_are_those_of_the_formulas():
    m, n = 256, 384
    assert BY_NAME["scale_by_soap"].flops(m, n)[0] == 6 * m * n * (m + n)
    large, larger = 3072, 6144  # whose Gram matrices are made by blocks, half of them
    plain, refresh = BY_NAME["scale_by_soap"].flops(large, larger)
    assert 5 < plain / (large * larger * (large + larger)) < 5.2
    own = 5 * (large**3 + larger**3) + 4 * large * larger * (large + larger)
    assert 0.9 * own < refresh - plain < 1.1 * own
    assert BY_NAME["scale_by_shampoo"].flops(m, n)[0] == 4 * m * n * (m + n)
    assert BY_NAME["momentum"].flops(m, n) == (0, 0)
    assert BY_NAME["scale_by_psgd"].flops(m, n)[0] == 2 * m * n * (m + n) + 2 * (m**3 + n**3)
    own = 4 * m * n * (m + n) + 10 * (m**3 + n**3)
    plain, fit = BY_NAME["scale_by_psgd"].flops(m, n)
    assert own < fit - plain < 1.05 * own  # and two estimates of a norm a side
    assert BY_NAME["quantize_state"].state == "m, and mn in 8 bits"


def test_counts_that_are_no_polynomial_are_refused():
    with pytest.raises(ValueError, match="are no polynomial"):
        catalogue._polynomial(lambda m, n: m**3)
    assert catalogue._polynomial(lambda m, n: 2 * m * n + m) == "2mn + m"
