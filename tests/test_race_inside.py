"""Heat maps come from the file of readings alone, and say where a layer is odd."""

import json
import re
import struct
import zlib

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from race_folders import made, write

import gradsmith as gs
from gradsmith.race import write_report
from gradsmith.race.page.heat import png
from gradsmith.race.page.meanings import meaning
from gradsmith.race.readings import Reading, read_readings

LAYERS = ("embedding", "up", "down", "query", "head")


def line(entry="a", trial=1, seed=0, step=10, **values):
    one = {"entry": entry, "trial": trial, "seed": seed, "step": step, "values": values}
    return json.dumps(one) + "\n"


def read(tmp_path, *lines):
    (tmp_path / "readings.jsonl").write_text("".join(lines))
    return read_readings(tmp_path, {"a": (1, 0)})


def test_readings_are_sorted_by_reading_entry_and_layer(tmp_path):
    lines = (line(step=step, **{"w/size": step / 10, "blocks/v/size": 2.0}) for step in (20, 10))
    w, v = Reading([10, 20], [1.0, 2.0]), Reading([10, 20], [2.0, 2.0])
    assert read(tmp_path, *lines) == {"size": {"a": {"w": w, "blocks/v": v}}}


def test_other_runs_and_a_line_that_is_being_written_are_left_out(tmp_path):
    lines = (line(**{"w/x": 1.0}), line(trial=0, **{"w/x": 2.0}), line(seed=1, **{"w/x": 3.0}))
    assert read(tmp_path, *lines, '{"entry"') == {"x": {"a": {"w": Reading([10], [1.0])}}}


def test_a_step_that_is_read_again_counts_once(tmp_path):
    found = read(tmp_path, line(**{"w/x": 1.0}), line(**{"w/x": 4.0}))
    assert found["x"]["a"]["w"] == Reading([10], [4.0])


def test_matrices_of_a_leaf_are_averaged_and_a_spectrum_is_not(tmp_path):
    found = read(
        tmp_path,
        line(step=10, **{"w/x": [1.0, 3.0, None], "w/spectrum": [9.0, 9.0]}),
        line(step=20, **{"w/x": None, "w/spectrum": [[4.0, 1.0], [2.0, 0.0]]}),
    )
    assert found["x"]["a"]["w"] == Reading([10, 20], [2.0, None])
    assert found["spectrum"]["a"]["w"] == Reading([1, 2], [3.0, 0.5])


@pytest.fixture
def page(tmp_path):
    """The report of a race in which a layer of `b` gets updates that are ten times too small."""
    asked, records = made(("a", "b"), seeds=1)
    folder = write(tmp_path / "race", asked, records)
    chosen = {one.entry: one.trial for one in records if one.seed == 0}
    with (folder / "readings.jsonl").open("w") as file:
        for entry in ("a", "b"):
            for step in (100, 200, 300):
                values = {
                    f"{layer}/update_ratio": -2.5 - 0.02 * number - 0.001 * step
                    for number, layer in enumerate(LAYERS)
                }
                values["query/update_ratio"] -= (entry == "b" and step > 100) * 1.0
                file.write(line(entry, chosen[entry], 0, step, **values))
    return write_report(folder).read_text()


def test_a_layer_that_is_ten_times_too_small_is_named(page):
    assert "<li>b: query is far from the other layers, at -3.760 where their median" in page
    assert "a: query is far" not in page
    assert "a and b part first in query, at step 200; their difference comes to 1.000" in page


def test_maps_say_their_range_in_words(page):
    assert "a: from -2.880 in head to -2.600 in embedding." in page
    assert "b: from -3.860 in query to -2.600 in embedding." in page


def test_no_readings_no_section(tmp_path):
    page = write_report(write(tmp_path / "race", *made(("a",), seeds=1))).read_text()
    assert "Inside" not in page


def test_an_image_holds_its_pixels():
    rows, palette = [[2, 0, 1], [1, 1, 2]], [b"abc", b"def"]
    content, parts = png(rows, palette), {}
    assert content[16:24] == struct.pack(">II", 3, 2)
    at = 8
    while at < len(content):
        (length,) = struct.unpack(">I", content[at : at + 4])
        name, data = content[at + 4 : at + 8], content[at + 8 : at + 8 + length]
        (sum_,) = struct.unpack(">I", content[at + 8 + length : at + 12 + length])
        assert sum_ == zlib.crc32(name + data)
        parts[name], at = data, at + 12 + length
    assert parts[b"PLTE"] == bytes(3) + b"abcdef"
    assert parts[b"tRNS"] == b"\0"  # the first colour is not seen
    lines = np.frombuffer(zlib.decompress(parts[b"IDAT"]), np.uint8).reshape(2, 4)
    assert lines[:, 0].tolist() == [1, 1]
    assert np.cumsum(lines[:, 1:], axis=1, dtype=np.uint8).tolist() == rows


def test_what_is_told_twice_or_never_changes_has_no_map(tmp_path):
    asked, records = made(("a",), seeds=1)
    folder = write(tmp_path / "race", asked, records)
    chosen = next(one.trial for one in records if one.seed == 0)
    values = {"w/update_norm": 2.0, "w/update_rms": 1.0, "w/zero": 0.0, "v/zero": 0.0}
    lines = [
        line("a", chosen, 0, 1, **values),
        line("a", chosen, 0, 2, **{"w/update_rms": 3.0, "w/update_norm": 6.0}),
    ]
    (folder / "readings.jsonl").write_text("".join(lines))
    page = write_report(folder).read_text()
    assert "update rms" in page
    assert "update norm" not in page
    assert "The same at all times in all layers: zero 0." in page


def test_a_reading_that_an_entry_has_nothing_of_stands_before_the_others(tmp_path):
    asked, records = made(("a", "b"), seeds=1)
    folder = write(tmp_path / "race", asked, records)
    with (folder / "readings.jsonl").open("w") as file:
        for one in (one for one in records if one.seed == 0):
            for step in (1, 2):
                turned = {"w/turned_in": (one.entry == "a") * 0.125 * step}
                values = {"w/cosine": 0.5 * step, "w/update_ratio": -3.0 * step, **turned}
                file.write(line(one.entry, one.trial, 0, step, **values))
    page = write_report(folder).read_text()
    captions = re.findall('class="inside">.*?<figcaption>(.*?)</figcaption>', page)
    assert captions == ["update ratio", "turned in", "cosine"]
    assert "<li>b: nearly 0 in all layers, where others have up to 0.2500</li>" in page


def test_nothing_finite_is_nothing_to_draw(tmp_path):
    asked, records = made(("a",), seeds=1)
    folder = write(tmp_path / "race", asked, records)
    chosen = next(one.trial for one in records if one.seed == 0)
    (folder / "readings.jsonl").write_text(line("a", chosen, 0, **{"w/x": None}))
    assert "Inside" not in write_report(folder).read_text()


def test_an_outlier_of_either_sign_asks_for_colours_by_the_logarithm(tmp_path):
    asked, records = made(("a", "b"), seeds=1)
    folder = write(tmp_path / "race", asked, records)
    rates = [0.01 * (1 + number / 10) for number in range(10)]
    with (folder / "readings.jsonl").open("w") as file:
        for one in (one for one in records if one.seed == 0):
            for step in (1, 2):
                own = [*rates, 300.0 if one.entry == "a" else -0.002 * step]
                values = {f"w{n}/effective_rate": value for n, value in enumerate(own)}
                file.write(line(one.entry, one.trial, 0, step, **values))
    page = write_report(folder).read_text()
    (caption,) = re.findall('class="inside">.*?<figcaption>(.*?)</figcaption>', page)
    scale = r"colours by the logarithm, but evenly from -0\.0\d+ to 0\.0\d+"
    assert re.match(rf"effective rate \({scale}", caption)
    (words,) = re.findall('<desc id="r1-inside-0-words">(.*?)</desc>', page)
    assert words.startswith(caption)
    (middle,) = re.search(
        r'y="35">-4.0e-3</text><text class="tick" [^>]*>300</text>'
        r'<text class="tick"[^>]*text-anchor="middle">([^<]*)</text>',
        page,
    ).groups()
    assert 0 < float(middle) < 30  # evenly it would be 150


def test_every_reading_of_watch_is_told_what_it_means():
    params = {"up": jnp.ones((4, 8)), "bias": jnp.ones(8)}
    for tx in (gs.muon(0.02), gs.soap(0.01), optax.adam(0.01)):
        state = gs.watch(tx).init(params)
        names = {name.rpartition("/")[2] for name in gs.readings(state)} - {"step"}
        assert len(names) > 10
        assert all(map(meaning, names)), names
    assert meaning("mu_still") == meaning("nu_still").replace(" nu ", " mu ")
    assert meaning("mu_still") != meaning("nu_still")
