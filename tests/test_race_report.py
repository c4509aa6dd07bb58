"""The report holds the figures of the table, loads nothing, and survives odd names."""

import html
import json
import re
import struct

import matplotlib.image
import numpy as np
import pytest
from race_helpers import race, record

from gradsmith.race import rows, write_report
from gradsmith.race.series import curves, sweeps, window
from gradsmith.race.table import cells, notes

NASTY = 'mine</script><b>"&amp;'


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    asked = race("a", NASTY)
    records = [
        record(entry, rate, -1, loss=loss + offset, diverged_at=diverged, trial=trial)
        for entry, offset in (("a", 0.0), (NASTY, 0.125))
        for trial, (rate, loss, diverged) in enumerate(
            ((0.01, 3.0, None), (0.1, 1.0, None), (1.0, 0.0, 37))
        )
    ]
    records += [
        record(entry, 0.1, seed, loss=1.5 + seed / 8, trial=1)
        for entry in ("a", NASTY)
        for seed in (0, 1)
    ]
    image, page = write_report(asked, records, tmp_path_factory.mktemp("report"))
    return asked, records, image, page.read_text(encoding="utf-8")


def tables(page):
    """Yield the texts of the cells of each table, line by line."""
    for table in re.findall(r"<tbody>(.*?)</tbody>", page, re.DOTALL):
        yield [
            [html.unescape(cell) for cell in re.findall(r"<td>(.*?)</td>", line)]
            for line in re.findall(r"<tr>(.*?)</tr>", table)
        ]


def plots(page):
    (source,) = re.findall(r"const plots = (.*);\n", page)
    return json.loads(source)


def test_the_table_of_the_report_is_that_of_the_terminal(written):
    asked, records, _, page = written
    shown, _ = tables(page)
    assert shown == [cells(row) for row in rows(asked, records)]
    for note in notes(asked, records):
        assert f"<li>{html.escape(note)}</li>" in page


def test_the_report_lists_every_run(written):
    _, records, _, page = written
    _, runs = tables(page)
    assert [line[3] for line in runs] == [record.outcome() for record in records]
    assert "diverged at step 37" in {line[3] for line in runs}


def test_the_curves_of_the_report_are_those_of_the_records(written):
    _, records, _, page = written
    drawn = [(tuple(t["x"]), tuple(t["y"])) for t in plots(page)["curves"]["data"]]
    best = [one for one in records if one.seed >= 0]
    expected = [(tuple(one.curve.step), tuple(one.curve.validation_loss)) for one in best]
    assert sorted(drawn) == sorted(expected)


def test_a_diverged_rate_is_a_gap_in_the_plot_over_the_rates(written):
    _, _, _, page = written
    for trace in plots(page)["sweeps"]["data"]:
        assert trace["x"] == [0.01, 0.1, 1.0]
        assert [y is None for y in trace["y"]] == [False, False, True]


def test_the_report_loads_nothing(written):
    page = written[-1]
    own = re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)
    assert not re.findall(r"""(?:src|href|url)\s*[=(]""", own)
    assert "<link" not in own
    assert "@import" not in own


def test_an_odd_name_breaks_neither_the_page_nor_its_script(written):
    page = written[-1]
    assert page.count("</script>") == 2
    assert "<b>" not in re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)
    assert {t["name"] for t in plots(page)["curves"]["data"]} == {"a", NASTY}


def test_the_report_follows_light_and_dark(written):
    assert "prefers-color-scheme: dark" in written[-1]


def test_the_report_tells_configuration_and_versions(written):
    page = written[-1]
    assert "&quot;parabola&quot;" in page
    assert "jax 0" in page


def test_the_image_is_a_png_with_something_on_it(written):
    image = written[2]
    content = image.read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", content[16:24])
    assert width > 1000
    assert height > 500
    pixels = matplotlib.image.imread(image)[:, :, :3]
    for colour in ("#4477AA", "#EE6677"):
        wanted = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        assert (np.abs(pixels - wanted).max(axis=-1) < 0.01).any(), f"no line in {colour}"


def test_the_frame_fits_the_last_four_fifths_of_the_curves():
    asked = race(seeds=1)
    low, high = window(curves(asked, [record("sgd", 0.1, seed) for seed in (0, 1)]))
    assert low < 1.0
    assert 3.0 < high < 4.0  # the record falls from 4 to 3 to 1, in halves


def test_nothing_but_divergence_still_makes_a_report(tmp_path):
    asked = race(seeds=1)
    records = [
        record("sgd", rate, -1, diverged_at=1, trial=trial)
        for trial, rate in enumerate(asked.rates)
    ]
    assert curves(asked, records) == []
    assert [series.y for series in sweeps(asked, records)] == [[None, None, None]]
    assert all(path.stat().st_size for path in write_report(asked, records, tmp_path))
