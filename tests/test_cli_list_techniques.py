import json

from gradsmith.catalogue import TECHNIQUES
from gradsmith.cli.list_techniques import list_techniques


def test_list_prints_every_technique(capsys):
    assert list_techniques() == 0
    printed = capsys.readouterr().out
    assert "soap" in printed
    assert "2mn" in printed
    for technique in TECHNIQUES:
        assert f"{technique.name}  {technique.line[:20]}" in printed


def test_list_fits_80_columns(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    list_techniques()
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert not any("…" in line for line in lines)


def test_json_has_an_object_a_line(capsys):
    assert list_techniques("parts", json=True) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["name"] for line in lines] == [t.name for t in TECHNIQUES if t.kind != "optimizer"]
    assert {line["stands"] for line in lines} == {"before the rate", "in its place", "after it"}
