"""`gradsmith report`: pages and figures from folders, and how it refuses."""

import json
import struct
import sys
import webbrowser

import matplotlib.image
import numpy as np
import pytest
from race_folders import made, write

from gradsmith.cli import main
from gradsmith.race import rows
from gradsmith.race.style import LIGHT
from gradsmith.race.table import cells
from gradsmith.race.told import told


@pytest.fixture
def report(tmp_path, monkeypatch, capfd):
    """Run `gradsmith report ...` beside the folder `made`; return exit code, stdout and stderr."""
    write(tmp_path / "made", *made(("a", "b"), seeds=2))
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["gradsmith", "report", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_:
            main()
        out, err = capfd.readouterr()
        return exit_.value.code, out, err

    return run


def test_the_report_lies_in_the_folder(report, tmp_path):
    assert report("made") == (0, "", "wrote made/report.html\n")
    assert "Race on made" in (tmp_path / "made" / "report.html").read_text()


def test_several_folders_make_one_page_here(report, tmp_path):
    write(tmp_path / "other", *made(("c",), seeds=1))
    code, _, _ = report("made", "other")
    assert code == 0
    assert "2 races on made" in (tmp_path / "report.html").read_text()


def test_the_page_is_opened_on_demand(report, tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    report("made", "--out", "page.html")
    report("made", "--out", "page.html", "--open")
    assert opened == [(tmp_path / "page.html").as_uri()]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "name at least one folder of a race"),
        (("nowhere",), "there is no folder nowhere"),
        ((".",), "has no config.json"),
        (("made", "--out", "nowhere/page.html"), "nowhere"),
    ],
)
def test_misuse_is_one_sentence_and_exit_code_two(report, arguments, message):
    code, out, err = report(*arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert "Traceback" not in err


@pytest.mark.slow
def test_figures_come_as_svg_pdf_and_png_and_tables_as_latex_and_markdown(report, tmp_path):
    code, _, _ = report("made", "--figures", "figures")
    assert code == 0
    names = {path.name for path in (tmp_path / "figures").iterdir()}
    figures = ("validation", "training", "learning_rate", "cost")
    assert names == {
        *(f"made-{name}.{kind}" for name in figures for kind in ("svg", "pdf", "png")),
        "made.tex",
        "made.md",
    }
    drawing = (tmp_path / "figures" / "made-validation.svg").read_text()
    assert ">validation loss</text>" in drawing  # text, not outlines of letters
    assert b"/FontFile2" in (tmp_path / "figures" / "made-validation.pdf").read_bytes()
    image = tmp_path / "figures" / "made-validation.png"
    width, height = struct.unpack(">II", image.read_bytes()[16:24])
    assert (width, height) == (1100, 720)
    pixels = matplotlib.image.imread(image)[:, :, :3]
    for colour in LIGHT[:2]:
        wanted = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        assert (np.abs(pixels - wanted).max(axis=-1) < 0.01).any(), f"no line in {colour}"
    one = told(tmp_path / "made")
    lines = [cells(row) for row in rows(one.race, one.records)]
    markdown = (tmp_path / "figures" / "made.md").read_text()
    assert markdown.splitlines()[4:] == [f"| {' | '.join(line)} |" for line in lines]
    latex = (tmp_path / "figures" / "made.tex").read_text()
    assert all(line[2].replace("±", r"$\pm$") in latex for line in lines)


@pytest.mark.slow
def test_what_was_read_inside_comes_as_maps(report, tmp_path):
    one = told(tmp_path / "made")
    chosen = {record.entry: record.trial for record in one.records if record.seed == 0}
    with (tmp_path / "made" / "readings-9.jsonl").open("w") as file:
        for entry, trial in chosen.items():
            for step in (2, 17):
                values = {"up/update_ratio": -step / 10, "down/update_ratio": None, "up/zero": 0.0}
                run = {"entry": entry, "trial": trial, "seed": 0, "step": step}
                file.write(json.dumps({**run, "values": values}) + "\n")
    assert report("made", "--figures", "figures")[0] == 0
    maps = {path.stem for path in (tmp_path / "figures").glob("*update_ratio*.pdf")}
    assert maps == {"made-update_ratio-a", "made-update_ratio-b"}
    assert not list((tmp_path / "figures").glob("*zero*"))
    drawing = (tmp_path / "figures" / "made-update_ratio-b.svg").read_text()
    assert all(f">{text}</text>" in drawing for text in ("up", "down", "17", "update ratio"))
