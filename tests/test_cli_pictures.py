"""`describe --html` and `cost --html` draw the numbers that the tables have."""

import dataclasses
import re
import xml.etree.ElementTree as ElementTree
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gradsmith as gs
from gradsmith.cli.cost import cost
from gradsmith.cli.cost_page import cost_page
from gradsmith.cli.describe import describe
from gradsmith.cli.describe_page import describe_page
from gradsmith.cli.loading import UsageError
from gradsmith.observe.bucket_cost import BucketCost
from gradsmith.race.page.treemap import HEIGHT, WIDTH, Box, Leaf, squarified, treemap
from gradsmith.xla.program.collectives import Collective
from gradsmith.xla.program.cycles import Cycles

MINE = """
    import jax.numpy as jnp

    def params():
        return {"up": jnp.zeros((4, 6)), "down": jnp.zeros((6, 4)), "bias": jnp.zeros(6)}
"""
PARAMS = {
    "blocks": {str(n): {"up": jnp.zeros((8, 16)), "bias": jnp.zeros(16)} for n in range(3)},
    "embedding": jnp.zeros((40, 8)),
}


def svgs(page) -> list[Any]:
    """Every figure of the page, read as XML."""
    return [ElementTree.fromstring(text) for text in re.findall(r"<svg.*?</svg>", page, re.DOTALL)]


def numbers(element, *names):
    return [float(element.get(name)) for name in names]


@pytest.mark.parametrize("seed", range(5))
def test_rectangles_fill_the_box_by_their_areas_and_do_not_meet(seed):
    rng = np.random.default_rng(seed)
    areas = sorted(rng.exponential(size=23) ** 2, reverse=True)
    boxes = squarified(areas, Box(10, 20, 300, 100 + 100 * seed))
    whole = 300 * (100 + 100 * seed)
    for area, box in zip(areas, boxes, strict=True):
        np.testing.assert_allclose(box.width * box.height, whole * area / sum(areas), rtol=1e-9)
    assert min(box.x for box in boxes) == 10
    assert max(box.x + box.width for box in boxes) == pytest.approx(310)
    for n, one in enumerate(boxes):
        for other in boxes[:n]:
            across = min(one.x + one.width, other.x + other.width) - max(one.x, other.x)
            down = min(one.y + one.height, other.y + other.height) - max(one.y, other.y)
            assert min(across, down) < 1e-9
    shapes = [max(box.width, box.height) / min(box.width, box.height) for box in boxes[:8]]
    assert np.median(shapes) < 3  # slices of the whole box would be above 5


def test_a_map_has_every_leaf_once_with_its_words():
    leaves = [Leaf("a/x", 4, 0, "first <1>"), Leaf("a/y", 2, 1, "second"), Leaf("b", 2, 0, "third")]
    (svg,) = svgs(treemap("map", [*leaves, Leaf("none", 0, 0, "no area")], "all", "some words"))
    drawn = {group.find("title").text: group.find("rect") for group in svg.findall("g")}
    assert set(drawn) == {"first <1>", "second", "third"}
    sizes = {name: np.prod(numbers(box, "width", "height")) for name, box in drawn.items()}
    assert sizes["third"] == pytest.approx(WIDTH * HEIGHT / 4, rel=1e-3)
    assert sizes["first <1>"] / sizes["second"] == pytest.approx(2, rel=0.02)
    assert svg.find("desc").text == "some words"


def test_who_optimizes_what_is_told_in_a_map_a_list_and_a_table():
    description = gs.describe(gs.muon(0.02), PARAMS)
    page = describe_page(description, "muon", "mine.py:params")
    (svg,) = svgs(page)
    assert len(svg.findall("g")) == len(description.leaves) == 7
    hues = {
        group.find("title").text.split(":")[0]: group.get("class") for group in svg.findall("g")
    }
    assert hues["blocks/0/up"] == hues["blocks/2/up"] != hues["blocks/0/bias"]
    assert "matrices: momentum, orthogonalized: 3 leaves, 384 parameters, 1.5 kB of state" in page
    for leaf in description.leaves:
        assert f'<th scope="row">{leaf.path}<td>' in page
    assert description.summary() in page


def test_where_nothing_is_kept_the_area_is_that_of_the_parameters():
    page = describe_page(gs.describe(optax.sgd(0.1), PARAMS), "sgd", "mine.py:params")
    assert "nothing keeps a state" in page
    assert len(svgs(page)[0].findall("g")) == 7


def test_remarks_stand_on_top():
    tx = optax.chain(gs.scale_by_learning_rate(0.1), gs.momentum(0.9), optax.scale(0.5))
    found = gs.describe(tx, PARAMS)
    page = describe_page(found, "mine", "params")
    assert found.remarks
    assert page.index("Look at") < page.index("Who optimizes what")


def made_cost(flops, received):
    one = gs.update_cost(gs.per_matrix(lambda x: x), {"w": jax.ShapeDtypeStruct((4, 4), "f4")})
    kinds = (Collective("all-to-all", 2, received),) if received else ()
    changed = {"flops": flops, "collectives": kinds, "received": received, "buckets": ()}
    return type(one)(**{**vars(one), **changed})


def test_bars_are_as_long_as_the_numbers():
    costs = {"one": made_cost(4e9, 1e6), "other": made_cost(1e9, 0.0)}
    page = cost_page(costs, "mine", gs.describe(gs.muon(0.02), PARAMS))
    found = {svg.find("title").text: svg for svg in svgs(page)}
    assert len(found) == 5  # nothing by bucket but the state: these costs know none
    assert "No operation of the compiled program of one tells a bucket" in page
    lengths = lambda title: [float(x.get("width")) for x in found[title].iter("rect")]
    longest, shorter = lengths("Flops of matrix products")
    assert longest == pytest.approx(4 * shorter, rel=1e-2)
    assert lengths("Bytes received")[1] == 0
    assert "one, all-to-all: 1.0 MB in 2." in found["Bytes received"].find("desc").text
    assert "embedding: adam: 2.6 kB." in found["State of one by bucket"].find("desc").text


def test_flops_and_collectives_are_drawn_by_bucket():
    kinds = (Collective("all-to-all", 2, 3e6),)
    buckets = (
        BucketCost("6x8x16", 3e9, 3e6, kinds),
        BucketCost("6x8x16+2x8x8", 6e9, 0.0, ()),
        BucketCost("", 0.0, 1e6, (Collective("all-gather", 1, 1e6),)),
    )
    costs = {"one": dataclasses.replace(made_cost(9e9, 4e6), buckets=buckets)}
    page = cost_page(costs, "mine", gs.describe(gs.muon(0.02), PARAMS))
    found = {svg.find("title").text: svg for svg in svgs(page)}
    words = lambda title: found[title].find("desc").text
    assert words("Flops of one by bucket") == (
        "Flops of one by bucket. 6x8x16: 3 Gflop. 6x8x16 + 2x8x8: 6 Gflop."
    )
    assert words("Bytes one receives by bucket") == (
        "Bytes one receives by bucket. 6x8x16: 3.0 MB in 2 all-to-all. "
        "no bucket told: 1.0 MB in 1 all-gather."
    )
    widths = [float(x.get("width")) for x in found["Bytes one receives by bucket"].iter("rect")]
    assert widths[0] == pytest.approx(3 * widths[1], rel=1e-2)


def test_a_page_for_tpus_has_cycles_and_no_bounds():
    one = dataclasses.replace(made_cost(4e9, 1e6), cycles=Cycles(8_000_000, 6_000_000))
    one = dataclasses.replace(one, flops_bound=0.0, received_bound=0.0, on="v5e:2x4")
    page = cost_page({"one for v5e:2x4": one}, "mine", gs.describe(gs.muon(0.02), PARAMS))
    assert "one for v5e:2x4: 8 million, 75% with products." in page
    assert "(mark:" not in page
    assert "<td>-<td>" in page


def test_the_commands_write_the_pages_beside_what_they_print(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(MINE.replace("\n    ", "\n"))
    page = tmp_path / "page.html"
    assert describe("muon", "mine.py:params", html=page) == 0
    out, err = capfd.readouterr()
    assert "up" in out
    assert err == f"wrote {page}\n"
    assert "muon on mine.py:params" in page.read_text()
    assert cost("muon", "mine.py:params", alone=True, html=page) == 0
    assert "Cost of muon on mine.py:params" in page.read_text()
    with pytest.raises(UsageError, match="cannot write"):
        describe("muon", "mine.py:params", html=tmp_path / "none" / "page.html")
