"""Sizes of updates and activations by width are those worked out by hand; so is the transfer."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from race_helpers import SGD, together

from gradsmith.race import Display, Entry, RaceError, Task, Widths, Worker, race_widths
from gradsmith.race.products import products
from gradsmith.race.width_report import losses_table, sizes_table, width_notes, widths_png
from gradsmith.race.widths import CHECKED_STEPS, Sizes, changes


def line(width, divided=True):
    """The sum (or the mean) of `width` numbers by a product; its gradient is 1 (or 1 / width)."""
    ones = jnp.ones((1, width))
    by = width if divided else 1
    return Task(
        name="line",
        init=lambda key: {"w": jnp.zeros((width, 1))},
        loss=lambda params, batch: jnp.sum(ones @ params["w"]) / by + jnp.sum(batch),
        batch=lambda key: jnp.zeros(1),
        selection=jnp.zeros(1),
        report=jnp.zeros(1),
        target=-10.0,
        steps=20,
        examples_per_step=1,
    )


def found(losses, rates=(0.1, 0.2, 0.4), powers=(0.0, 1.0)):
    widths = (4, 8)
    sizes = tuple(Sizes(f"p{p}", (0.5, 0.5 * 2**p)) for p in powers)
    table = dict(zip(rates, losses, strict=True))
    return Widths("sgd", "line", widths, 0.2, sizes, sizes, table)


def text_of(table):
    return [[str(cell) for cell in column.cells] for column in table.columns]


def test_products_are_seen_in_calls_and_custom_derivatives_and_not_in_loops():
    a, b = (jax.random.normal(jax.random.key(i), (3, 3)) for i in range(2))

    @jax.custom_jvp
    def custom(x):
        return x @ b

    custom.defjvps(lambda t, out, x: t @ b)

    def function(a):
        x = jax.jit(lambda x: x @ b)(a)
        x = custom(jnp.tanh(x))
        x = jax.checkpoint(lambda x: b @ x)(x)
        x, _ = jax.lax.scan(lambda c, _: (c @ b, None), x, None, length=2)
        return jnp.sum(x)

    seen = products(function, a)
    assert list(seen) == ["1: rank 2", "2: rank 2", "3: rank 2"]
    one = np.asarray(a) @ np.asarray(b)
    two = np.tanh(one) @ np.asarray(b)
    for out, wanted in zip(seen.values(), (one, two, np.asarray(b) @ two), strict=True):
        np.testing.assert_allclose(out, wanted, rtol=1e-4, atol=1e-5)


def test_convolutions_are_products():
    x, kernel = jnp.ones((1, 4, 4, 2)), jnp.ones((3, 3, 2, 5))
    convolve = lambda x: jax.lax.conv_general_dilated(
        x, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    ((name, out),) = products(convolve, x).items()
    assert (name, out.shape) == ("1: rank 4", (1, 2, 2, 5))


@pytest.mark.parametrize(("divided", "update", "sum_"), [(False, 1.0, 8.0), (True, 1 / 8, 1.0)])
def test_changes_are_those_of_gradient_descent(divided, update, sum_):
    updates, activations = changes(line(8, divided), SGD, 0.1)
    assert updates == pytest.approx({"w": 0.1 * CHECKED_STEPS * update})
    assert activations == pytest.approx({"1: rank 2": 0.1 * CHECKED_STEPS * sum_})


def test_a_size_goes_with_its_power_of_the_width():
    widths = [16, 32, 64]
    assert Sizes("w", (0.4, 0.2, 0.1)).power(widths) == pytest.approx(-1)
    assert Sizes("w", (0.1, 0.1, 0.1)).power(widths) == pytest.approx(0)
    assert math.isnan(Sizes("w", (0.1, 0.0, 0.1)).power(widths))


def test_both_looks_are_taken_of_every_width(tmp_path):
    seen = race_widths(line, [8, 4], SGD, (0.1, 0.2, 0.4), tmp_path, 1, Display())
    assert (seen.widths, seen.rate) == ((4, 8), 0.2)
    assert seen.updates[0].power(seen.widths) == pytest.approx(-1)
    assert seen.activations[0].power(seen.widths) == pytest.approx(0, abs=1e-5)
    # The gradient of the mean moves it by rate / width a step; the shares of 20 steps add up to 11.
    for rate, losses in seen.losses.items():
        assert losses == pytest.approx([-rate * 11 / width for width in (4, 8)], rel=1e-4)
    assert seen.best() == (0.4, 0.4)
    assert {path.name for path in tmp_path.iterdir()} == {"width-4", "width-8"}


def test_workers_share_the_runs_of_all_widths_and_see_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr("gradsmith.race.run.POLL_SECONDS", 0.05)
    look = lambda name, executor: race_widths(
        line, [4, 8], SGD, (0.1, 0.2, 0.4), tmp_path / name, 1, Display(), executor
    )
    one, other = together(*(lambda n=n: look("shared", Worker(n, 2)) for n in (1, 2)))
    assert one == other == look("alone", None)
    for width in (4, 8):
        assert len(list((tmp_path / "shared" / f"width-{width}").glob("records-?.jsonl"))) == 2


def test_a_rate_that_diverges_is_no_best_one():
    shown = found([(1.0, 2.0), (0.5, math.inf), (math.inf, 3.0)])
    assert shown.best() == (0.2, 0.1)
    assert text_of(losses_table(shown)) == [
        ["0.1", "0.2", "0.4"],
        ["1.000", "0.5000 <", "diverged"],
        ["2.000 <", "diverged", "3.000"],
    ]


def test_a_size_that_depends_on_the_width_is_marked():
    shown = found([(1.0, 1.0)] * 3)
    assert text_of(sizes_table("Updates", shown.updates, shown.widths))[-1] == ["+0.00", "+1.00 *"]


def test_a_passed_check_is_not_called_transfer():
    notes = " ".join(width_notes(found([(1.0, 0.5), (0.5, 1.0), (2.0, 2.0)], powers=(0.0,))))
    assert "none of 1 goes with the width" in notes
    assert "the best learning rate (<) moves with the width: 4 at 0.2, 8 at 0.1" in notes
    assert "at width 8 the best rate is the lowest or the highest" in notes
    assert "does not imply" in notes


def test_transfer_is_said_of_a_rate_that_stays():
    notes = " ".join(width_notes(found([(1.0, 1.0), (0.5, 0.5), (2.0, 2.0)])))
    assert "every width ends lowest at 0.2" in notes
    assert "* 1 of 2 go with the width" in notes


def test_the_picture_is_drawn_also_where_a_run_diverged():
    image = widths_png(found([(1.0, 2.0), (0.5, math.inf), (math.inf, 3.0)]))
    assert image.startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("widths", "rates", "entry", "message"),
    [
        ([4], (0.1, 0.2, 0.4), SGD, "at least two"),
        ([4, 8], (0.1, 0.2), SGD, "at least three learning rates"),
        ([4, 8], (0.1, 0.2, 0.4), dataclasses.replace(SGD, space={"b": [1, 2]}), "tuned over b"),
    ],
)
def test_what_shows_nothing_is_refused(widths, rates, entry, message, tmp_path):
    with pytest.raises(RaceError, match=message):
        race_widths(line, widths, entry, rates, tmp_path, 1, Display())


def test_a_model_that_is_another_one_is_refused(tmp_path, standard_promotion):
    def deeper(width):
        task = line(width)
        more = {} if width == 4 else {"more": jnp.zeros((1, 1))}
        return dataclasses.replace(task, init=lambda key: {**task.init(key), **more})

    adam = Entry("adam", optax.adam)
    with pytest.raises(RaceError, match="width 8 is another one than that of 4: more"):
        race_widths(deeper, [4, 8], adam, (0.1, 0.2, 0.4), tmp_path, 1, Display())
