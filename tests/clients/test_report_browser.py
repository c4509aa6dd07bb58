"""Pages in a browser: drawn, usable without a mouse, and quiet at every width.

Needs Debian's `chromium`; axe-core comes with axe-playwright-python.
"""

import json
import re
import shutil

import jax.numpy as jnp
import pytest
from race_folders import made, write

import gradsmith as gs
from gradsmith.cli.cost_page import cost_page
from gradsmith.cli.describe_page import describe_page
from gradsmith.race import write_report
from gradsmith.race.space import log

sync_api = pytest.importorskip("playwright.sync_api")
axe = pytest.importorskip("axe_playwright_python.sync_playwright")
CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.clients,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium here"),
]

NAMES = ("adamw", "muon", "a_file_with_a_long_name.py:and_a_longer_optimizer")
READINGS = ("update_ratio", "effective_rate", "cosine_before")


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    space = {"learning_rate": [0.002, 0.02, 0.2], "momentum": [0.9, 0.95]}
    asked, records = made(NAMES, space=space, diverged=[("adamw", 0.2)])
    folder = write(tmp_path_factory.mktemp("made"), asked, records)
    with (folder / "readings-0.jsonl").open("w") as file:
        for one in (one for one in records if one.seed == 0):
            for step in (2, 17, 32):
                layers = (f"blocks/{n}/kernel/{name}" for n in range(4) for name in READINGS)
                values = {layer: len(layer) * step / 7 for layer in layers}
                run = {"entry": one.entry, "trial": one.trial, "seed": 0, "step": step}
                file.write(json.dumps({**run, "values": values}) + "\n")
    return write_report(folder).as_uri()


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


def look(browser, address, **options):
    """Open the page; what it complains about or asks for is kept in `page.heard`."""
    page = browser.new_context(**options).new_page()
    page.heard = []
    page.on("console", lambda message: page.heard.append(message.text))
    page.on("pageerror", lambda error: page.heard.append(str(error)))
    page.on("request", lambda request: page.heard.append(request.url))
    page.goto(address)
    assert page.heard.pop(0) == address
    return page


@pytest.fixture
def page(browser, address):
    page = look(browser, address)
    yield page
    page.context.close()


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """The pages of `describe` and `cost`."""
    params = {f"block_{n}": {"up": jnp.zeros((8, 16)), "bias": jnp.zeros(16)} for n in range(4)}
    tx, folder = gs.muon(0.02), tmp_path_factory.mktemp("pictures")
    found = gs.describe(tx, params)
    pages = {
        "describe": describe_page(found, "muon", "mine.py:params"),
        "cost": cost_page({"muon": gs.update_cost(tx, params)}, "mine.py:params", found),
    }
    for name, page in pages.items():
        (folder / f"{name}.html").write_text(page)
    return folder.as_uri()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 800, 1400])
@pytest.mark.parametrize("name", ["report", "describe", "cost"])
def test_a_page_is_drawn_accessible_and_no_wider_than_the_screen(
    browser, address, pictures, name, width, scheme
):
    address = address if name == "report" else f"{pictures}/{name}.html"
    size = {"width": width, "height": 800}
    page = look(browser, address, viewport=size, color_scheme=scheme)
    page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for svg in page.locator("figure svg").all():
        box = svg.bounding_box()
        assert box["width"] > 250
        assert box["height"] > 25
    found = axe.Axe().run(page).response["violations"]
    assert [(one["id"], one["nodes"][0]["html"]) for one in found] == []
    assert page.heard == []
    page.context.close()


def drawn(page):
    """The numbers of every path of the curves."""
    paths = page.locator(".plot g[clip-path] path").evaluate_all(
        "all => all.map(path => path.getAttribute('d'))"
    )
    return [list(map(float, re.findall(r"-?\d+\.?\d*", path or ""))) for path in paths]


def ticks(page):
    return page.locator(".plot .tick").all_text_contents()


def test_the_script_draws_what_stands_in_the_page(browser, address, page):
    still = look(browser, address, java_script_enabled=False)
    assert ticks(page) == ticks(still)
    for mine, theirs in zip(drawn(page), drawn(still), strict=True):
        assert mine == pytest.approx(theirs, abs=0.11)  # places are rounded to a tenth
    still.context.close()


def test_without_a_script_all_figures_stand_and_no_control_pretends(browser, address):
    page = look(browser, address, java_script_enabled=False)
    assert all(svg.is_visible() for svg in page.locator("figure svg").all())
    assert not any(control.is_visible() for control in page.locator("input, button").all())
    page.context.close()


def test_an_entry_is_hidden_and_shown(page):
    lines = page.locator(".plot g.e1")
    assert all(line.is_visible() for line in lines.all())
    page.get_by_role("checkbox", name="muon").uncheck()
    assert not any(line.is_visible() for line in lines.all())
    page.get_by_role("checkbox", name="muon").check()
    assert all(line.is_visible() for line in lines.all())


def test_scale_smoothing_and_range_redraw_the_curves(page):
    before = drawn(page)
    for change in (
        lambda: page.get_by_role("radio", name="seconds").check(),
        lambda: page.get_by_role("radio", name="logarithmic").check(),
        lambda: page.get_by_role("slider", name="smooth").fill("0.8"),
    ):
        change()
        after = drawn(page)
        assert after != before
        before = after
    whole, box = ticks(page), page.locator(".plot").first.bounding_box()
    middle = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] / 2, middle)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.8 * box["width"], middle)
    page.mouse.up()
    assert ticks(page) != whole
    page.get_by_role("button", name="whole range").click()
    assert ticks(page) == whole


def test_keys_read_the_values_of_both_figures(page):
    page.locator(".plot").first.focus()
    for _ in range(20):
        page.keyboard.press("ArrowRight")
    said = page.locator(".readout").inner_text()
    assert "At step 300" in said
    for name in NAMES:
        (row,) = (line for line in said.splitlines() if line.startswith(name))
        assert len(re.findall(r"\d\.\d+ \(\d\.\d+ to \d\.\d+\)", row)) == 2
    assert all(path.get_attribute("d") for path in page.locator("path.cursor").all())
    whole = ticks(page)
    page.keyboard.press("+")
    assert ticks(page) != whole
    page.keyboard.press("Escape")
    assert ticks(page) == whole
    assert page.locator(".readout").inner_text() == ""


def test_ten_thousand_records_are_one_page(browser, tmp_path, capsys):
    """Its size and its parts are counted; the seconds that it took are printed, and judged by eye.

    Every record has a row of six cells, and adds no more than these.
    """
    space = {"learning_rate": log(1e-4, 1e-1), "momentum": [0.8, 0.9, 0.95]}
    names = ("adamw", "muon", "soap", "shampoo", "normuon")
    search = {"search": "sobol", "budget": 500, "tuning_seeds": 4}
    asked, records = made(names, space=space, **search)
    assert len(records) > 10_000
    report = write_report(write(tmp_path / "race", asked, records))
    assert report.stat().st_size < 200 * len(records)
    page = look(browser, report.as_uri())
    assert page.evaluate("document.getElementsByTagName('*').length") < 7 * len(records) + 1_000
    assert page.locator("tr").count() > len(records)
    figures = page.locator("figure svg")
    assert figures.count() == 5  # two of curves, two of settings, one of costs
    for svg in figures.all():
        assert svg.bounding_box()["width"] > 250
        assert svg.locator("path, rect, circle").count() >= len(names)
    assert page.heard == []
    timing = "performance.getEntriesByType('navigation')[0]"
    seconds = page.evaluate(f"{timing}.loadEventEnd") / 1000
    with capsys.disabled():
        print(f"\n{len(records):,} records: the page is loaded after {seconds:.2f} s")
    page.context.close()


def test_paper_gets_the_figures_without_the_controls(page):
    page.emulate_media(media="print")
    assert not page.locator("nav").is_visible()
    assert not page.locator("input").first.is_visible()
    assert page.locator("figure svg").first.is_visible()
