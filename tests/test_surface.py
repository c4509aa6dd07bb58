"""The public surface is what is listed here, and imports only go down the floors."""

import ast
from pathlib import Path

import pytest

import gradsmith

SOURCE = Path(gradsmith.__file__).parent

SURFACE = {
    # make
    "MatrixAxes", "without_cuts", "per_stack", "per_matrix", "per_gram", "StackState",
    "partition_by_role", "roles", "Role",
    # scale
    "Owners", "state_shardings", "update_cost", "UpdateCost", "fit_state", "StateFit",
    # see
    "describe", "Description",
    # rules and transformations
    "orthogonalize", "polar_factor", "scale_by_aspect_ratio", "match_rms", "match_operator_norm",
    "momentum", "MomentumState", "scale_by_adam", "scale_by_ademamix",
    "ademamix_warmup", "correct_by_mars", "scale_by_soap", "scale_by_shampoo", "graft",
    "per_block", "scale_by_neuron_rms",
    "decay_weights", "decay_weights_cautiously", "scale_by_learning_rate",
    "clip_qk", "qk_clip", "average_weights", "averaged_weights",
    # optimizers
    "muon", "normuon", "soap", "shampoo", "asgo", "mars_muon", "mars_adamw", "ademamix",
    # namespaces
    "matrix", "checks", "race",
}  # fmt: skip

FLOORS = [
    {"_version", "xla"},
    {"matrix", "layout"},
    {"sites"},
    {"lift"},
    {"transforms"},
    {"optimizers", "observe"},
    {"catalogue"},
    {"cli"},
]
GUESTS = {"checks": set(), "race": set()}  # may import nothing of ours: a stranger is equal


def test_the_surface_is_its_list():
    public = {name for name in vars(gradsmith) if not name.startswith("_")}
    rooms = {path.stem for path in SOURCE.iterdir()} - SURFACE
    assert public - rooms - {"jaxtyping"} == SURFACE  # the import hook of the tests leaves a name


def test_every_public_object_says_what_it_is():
    for name in SURFACE:
        doc = getattr(gradsmith, name).__doc__
        assert doc, name
        assert doc.splitlines()[0].rstrip().endswith((".", ":")), name


def modules():
    return sorted(SOURCE.rglob("*.py"))


def imports_of(path):
    """Yield the room of gradsmith that each import of the file enters."""
    package = ("gradsmith", *path.relative_to(SOURCE).parent.parts)
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = (*base, *(node.module.split(".") if node.module else ()))
            names = [(*module, alias.name) for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [tuple(alias.name.split(".")) for alias in node.names]
        else:
            continue
        yield from (name[1] for name in names if name[0] == "gradsmith" and len(name) > 1)


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_only_go_down_the_floors(path):
    room = path.relative_to(SOURCE).parts[0].removesuffix(".py")
    if room == "__init__":
        return
    floor = {name: level for level, names in enumerate(FLOORS) for name in names}
    for entered in set(imports_of(path)) - {room, "_version"}:
        if room in GUESTS:
            assert entered in GUESTS[room], f"{room} imports {entered}"
        elif room == "cli":
            continue
        else:
            assert entered in floor, f"{room} imports {entered}"
            assert floor[entered] < floor[room], f"{room} imports {entered}"


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(SOURCE)))
def test_only_public_names_of_optax_are_used(path):
    assert "optax._" not in path.read_text()
