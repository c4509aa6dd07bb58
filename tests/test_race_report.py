"""The report is made from the folder alone, holds the figures of the table, and loads nothing."""

import dataclasses
import html
import json
import re
import shutil
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from race_folders import made, write
from race_helpers import parabola, record

from gradsmith.race import Entry, Protocol, Race, RaceError, Record, rows, write_report
from gradsmith.race.page.markup import brief
from gradsmith.race.report import page
from gradsmith.race.schedule import schedule
from gradsmith.race.series import curves
from gradsmith.race.table import cells, worth
from gradsmith.race.told import told
from gradsmith.race.trouble import troubles
from gradsmith.race.verdict import lead, verdict

NASTY = 'mine</script><b>"&amp;'
NAMES = ("a", NASTY)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    asked, records = made(NAMES, seeds=3, diverged=[(NASTY, 0.2)])
    return write(tmp_path_factory.mktemp("races") / "made", asked, records)


@pytest.fixture(scope="module")
def text(folder):
    return write_report(folder).read_text(encoding="utf-8")


def without_scripts(text):
    return re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL)


def tables(text):
    """Yield caption and lines of each table, as texts."""
    for caption, body in re.findall(
        r"<caption>(.*?)</caption>.*?<tbody>(.*?)</tbody>", text, re.DOTALL
    ):
        yield (
            html.unescape(caption),
            [
                [html.unescape(cell) for cell in re.split(r"<t[hd][^>]*>", line)[1:]]
                for line in body.split("<tr>")[1:]
            ],
        )


def test_the_table_of_the_report_is_that_of_the_terminal(folder, text):
    one = told(folder)
    shown = dict(tables(text))
    (lines,) = (lines for caption, lines in shown.items() if caption.startswith("Entries"))
    assert lines == [cells(row) for row in rows(one.race, one.records)]


def test_verdict_and_troubles_stand_before_the_curves(folder, text):
    one = told(folder)
    before, _, _ = text.partition('<div class="curves"')
    said = [
        lead(one.race, one.records),
        *verdict(one.race, one.records),
        worth(one.race, one.records),
    ]
    wrong = troubles(one.race, one.records)
    assert wrong
    for sentence in [*said, *wrong]:
        assert html.escape(sentence) in before
    assert before.index("What went wrong</h2>") < before.index("Verdict</h2>")


def test_the_report_lists_every_run(folder, text):
    (runs,) = (lines for caption, lines in tables(text) if caption.endswith("runs"))
    records = told(folder).records
    assert [(line[0], line[3]) for line in runs] == [(r.entry, r.outcome()) for r in records]
    assert f"diverged at step {37}" in {line[3] for line in runs}


def test_the_script_gets_the_numbers_of_the_records(folder, text):
    one = told(folder)
    (source,) = re.findall(r'<script type="application/json">(.*?)</script>', text)
    data = json.loads(source)
    assert data["names"] == list(NAMES)
    assert [shown["kind"] for shown in data["curves"]] == ["validation", "training"]
    for shown, kind in zip(data["curves"], ("validation", "training"), strict=True):
        assert shown["lines"] == json.loads(json.dumps([
            line._asdict() for line in curves(one.race, one.records, kind).lines
        ]))  # fmt: skip


def test_the_report_loads_nothing(text):
    assert not re.findall(
        r"""(?:src|url)\s*[=(](?!\("?#|"?#)""", without_scripts(text).replace("url(#", "")
    )
    assert all(link.startswith(("#", "data:")) for link in re.findall(r'href="([^"]*)"', text))
    for loader in ("<link", "@import", "fetch(", "XMLHttpRequest", "import("):
        assert loader not in text


def test_an_odd_name_breaks_neither_the_page_nor_its_script(text):
    assert text.count("</script>") == 2
    assert "<b>" not in without_scripts(text)


def test_every_figure_is_well_formed_and_says_its_numbers(text):
    figures = re.findall(r"<svg id=.*?</svg>", text, re.DOTALL)
    assert len(figures) == 4  # two of curves, one over the rates, one of costs
    for source in figures:
        root = ElementTree.fromstring(source)
        names = root.get("aria-labelledby").split()
        said = {node.get("id"): node.text for node in root if node.get("id") in names}
        assert set(said) == set(names)
        assert all(re.search(r"\d", said[name]) for name in names if name.endswith("words"))


def test_code_routing_and_command_come_from_the_folder(text):
    assert "2 leaves to a" in text
    assert html.escape("def a(rate): ...") in text
    assert "gradsmith race first second" in text


def test_of_a_docstring_the_code_shows_the_first_line():
    source = (
        'def a(lr):\n    """Descend.\n\n    Args:\n        lr: rate\n    """\n    return sgd(lr)\n'
    )
    assert brief(source) == 'def a(lr):\n    """Descend. ..."""\n    return sgd(lr)'
    for whole in ("lambda lr: sgd(lr)),", "", 'def a(lr):\n    "Go."\n    return sgd(lr)'):
        assert brief(whole) == whole


def test_a_long_docstring_is_not_in_the_page(folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "long")
    there = json.loads((copy / "config.json").read_text())
    for known in there["about"]["entries"].values():
        known["code"] = 'def a(rate):\n    """Descend.\n\n    All of it.\n    """\n    return 1'
    (copy / "config.json").write_text(json.dumps(there))
    text = write_report(copy).read_text()
    assert html.escape('"""Descend. ..."""') in text
    assert "All of it." not in text


def test_a_folder_without_what_later_versions_write_is_told_all_the_same(folder, tmp_path):
    old = shutil.copytree(folder, tmp_path / "old")
    there = json.loads((old / "config.json").read_text())
    del there["about"]
    there["versions"] = {"jax": "0.0.1"}
    (old / "config.json").write_text(json.dumps(there))
    text = write_report(old).read_text()
    assert "0.0.1" in text
    assert "not written down" in text


def reads_a_record(monkeypatch, folder, **asked):
    """How often the page asks a record for a field, per record, and the page's length likewise."""
    folder = write(folder, *made(("a", "b"), points=3, **asked))
    reads = 0

    def counting(record, name):
        nonlocal reads
        reads += 1
        return object.__getattribute__(record, name)

    with monkeypatch.context() as patch:
        patch.setattr(Record, "__getattribute__", counting, raising=False)
        one = told(folder)
        text = page([one])
    return reads / len(one.records), len(text) / len(one.records)


RATES = [0.001 * 1.1**n for n in range(64)]
MORE = {
    # what a race of 16 times as many records has more of
    "trials": lambda n: {"space": {"learning_rate": RATES[: 4 * n]}},
    "tuning seeds": lambda n: {"tuning_seeds": 4 * n},
    "reported seeds": lambda n: {"seeds": 8 * n},
    "seeds that are tuned each": lambda n: {"seeds": 4 * n, "tuned": "each"},
}


@pytest.mark.parametrize("grows", MORE)
def test_the_work_of_a_page_grows_with_the_records_and_no_faster(monkeypatch, tmp_path, grows):
    asked = MORE[grows]
    reads, length = reads_a_record(monkeypatch, tmp_path / "few", **asked(1))
    more_reads, more_length = reads_a_record(monkeypatch, tmp_path / "many", **asked(16))
    assert more_reads < 1.1 * reads
    assert more_length < length


@pytest.mark.parametrize("says", [None, schedule.__doc__, "Flat."])
def test_a_schedule_of_its_own_is_told_from_the_folder(tmp_path, says):
    """Also where it says the same of itself as that of the race, or nothing."""
    own = lambda step, steps: 1.0
    own.__doc__ = says
    asked, records = made(("a", "b"), seeds=1)
    plain, other = asked.entries
    asked = dataclasses.replace(asked, entries=(plain, dataclasses.replace(other, schedule=own)))
    folder = write(tmp_path / "race", asked, records)
    first = "one without a docstring" if says is None else says.partition("\n")[0]
    assert [e.own_schedule for e in asked.entries] == [None, first]
    assert [e.own_schedule for e in told(folder).race.entries] == [None, first]
    text = write_report(folder).read_text()
    assert text.count(f"<dt>schedule</dt><dd>{first}</dd>") == 1
    there = json.loads((folder / "config.json").read_text())
    for known in there["about"]["entries"].values():
        del known["own_schedule"]  # as older versions wrote it: what it says has to tell
    (folder / "config.json").write_text(json.dumps(there))
    told_by_words = None if says == schedule.__doc__ else first
    assert [e.own_schedule for e in told(folder).race.entries] == [None, told_by_words]


def test_a_race_under_way_is_told_and_its_files_are_left_alone(tmp_path):
    asked, records = made(("a", "b", "late"), reported=False)
    first = [one for one in records if one.entry != "late"]
    folder = write(tmp_path / "race", asked, first)
    with (folder / "records.jsonl").open("ab") as file:
        file.write(b'{"entry": "a", "tr')  # a line that is being written
    before = (folder / "records.jsonl").read_bytes()
    text = write_report(folder).read_text()
    assert (folder / "records.jsonl").read_bytes() == before
    assert f"the race is not over: {len(first)} of at most" in text
    (lines,) = (lines for caption, lines in tables(text) if caption.startswith("Entries"))
    assert {line[0]: line[1] for line in lines}["late"] == "to come"
    assert "a in tuning: from" in text


def test_records_of_several_workers_are_one_race(folder, tmp_path):
    alone = told(folder)
    split = shutil.copytree(folder, tmp_path / "split")
    lines = (split / "records.jsonl").read_text().splitlines(keepends=True)
    (split / "records.jsonl").unlink()
    (split / "records-0.jsonl").write_text("".join(lines[::2]))
    (split / "records-1.jsonl").write_text("".join(lines[1::2]))
    assert told(split).records == alone.records


def test_trials_are_those_of_the_records_whatever_the_search_says_today(tmp_path):
    space = {"learning_rate": [0.002, 0.02, 0.2]}
    asked, records = made(("a",), seeds=1, space=space)
    moved = [
        type(one)(**{**vars(one), "settings": {"learning_rate": one.rate * 1.5}}) for one in records
    ]
    one = told(write(tmp_path / "race", asked, moved))
    (row,) = rows(one.race, one.records)
    assert row.settings == {"learning_rate": pytest.approx(0.03)}


def test_several_folders_stand_side_by_side(folder, tmp_path):
    other = write(tmp_path / "other", *made(("third",), seeds=1))
    text = write_report(folder, other, out=tmp_path / "both.html").read_text()
    lines = dict(tables(text))["Every entry of every race; losses compare within one task only"]
    assert {(line[0], line[2].removesuffix(" =")) for line in lines} == {
        ("made", "a"), ("made", NASTY), ("other", "third")
    }  # fmt: skip
    names = re.findall(r'\sid="([^"]+)"', without_scripts(text))
    assert len(names) == len(set(names))


def readings(one, number):
    """What `watch` reads of 30 matrices and 30 vectors: steady, with noise."""
    rng, lines = np.random.default_rng(number), []
    of_all = [f"reading_{number}" for number in range(11)]
    of_matrices = ["update_spectrum", "momentum_spectrum", *(f"rank_{n}" for n in range(4))]
    names = [
        f"blocks/{n}/attention/{'bias' if n % 2 else 'kernel'}/{reading}"
        for n in range(60)
        for reading in of_all + (of_matrices if n % 2 == 0 else [])
    ]
    start = rng.normal(size=len(names))
    for step in range(2, 300, 15):
        now = start + 0.05 * step / 15 + 0.1 * rng.normal(size=len(names))
        values = {
            name: [x - n / 10 for n in range(8)] if "spectrum" in name else x
            for name, x in zip(names, now.round(5).tolist(), strict=True)
        }
        run = {"entry": one.entry, "trial": one.trial, "seed": 0, "step": step}
        lines.append(json.dumps({**run, "values": values}) + "\n")
    return "".join(lines)


def test_six_entries_at_five_seeds_are_well_below_400_kilobytes(tmp_path):
    names = ("adamw", "muon", "soap", "shampoo", "normuon", "mars_muon")
    race, records = made(names, seeds=5)
    folder = write(tmp_path / "six", race, records)
    for number, one in enumerate(one for one in records if one.seed == 0):
        (folder / f"readings-{number}.jsonl").write_text(readings(one, number))
    assert len(page([told(folder)]).encode()) < 300_000


def damage(folder, name, text):
    (folder / name).write_text(text)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (shutil.rmtree, "there is no folder"),
        (lambda folder: (folder / "config.json").unlink(), "has no config.json"),
        (lambda folder: (folder / "records.jsonl").unlink(), "no run in .* is finished yet"),
        (lambda folder: damage(folder, "records.jsonl", "{}\n"), "line 1 is not the record"),
        (lambda folder: damage(folder, "config.json", "{"), "does not tell of these records"),
        (lambda folder: damage(folder, "config.json", "[]"), "does not tell of these records"),
        (
            lambda folder: write(folder, made(("else",))[0], made(("a",))[1]),
            "does not tell of these records",
        ),
        (lambda folder: damage(folder, "readings.jsonl", "{}\n"), "line 1 is no reading"),
    ],
)
def test_a_bad_folder_is_refused_with_a_sentence(folder, tmp_path, spoil, message):
    bad = shutil.copytree(folder, tmp_path / "bad")
    spoil(bad)
    with pytest.raises(RaceError, match=message):
        write_report(bad)


def test_nothing_but_divergence_still_makes_a_report(tmp_path):
    asked = Race(parabola(), (Entry("sgd", lambda rate: None),), protocol=Protocol(seeds=1))
    records = [
        record("sgd", rate, -1, diverged_at=1, trial=trial, config={})
        for trial, rate in enumerate(asked.rates)
    ]
    text = write_report(write(tmp_path / "lost", asked, records)).read_text()
    assert "sgd diverged in 3 of 3 tuning runs" in text
    assert "No entry has a mean loss" in text
