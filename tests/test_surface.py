"""The public surface is what is listed here, and imports only go down the floors."""

import ast
import graphlib
import itertools
from pathlib import Path
from types import FunctionType, ModuleType

import pytest

import gradsmith

SOURCE = Path(gradsmith.__file__).parent

SURFACE = {
    # make
    "MatrixAxes", "without_cuts", "per_stack", "per_matrix", "per_gram", "StackState",
    "partition_by_role", "roles", "Role",
    # types that signatures mention
    "Axes", "RoleOverrides",
    # scale
    "Owners", "Placement", "state_shardings", "update_cost", "UpdateCost", "fit_state", "StateFit",
    "target", "Target",
    # see
    "describe", "Description", "diagnostics", "watch", "readings",
    "Reading", "WatchedStep", "WatchedLeaf", "WatchState",
    # rules and transformations
    "orthogonalize", "orthogonalize_largest", "polar_factor", "scale_by_aspect_ratio", "match_rms",
    "match_operator_norm",
    "momentum", "MomentumState", "scale_by_adam", "scale_by_ademamix",
    "ademamix_warmup", "correct_by_mars", "scale_by_soap", "scale_by_shampoo", "graft",
    "per_block", "scale_by_neuron_rms", "normalize_neurons", "floor_update", "brake_radius",
    "pin_radius", "hyperball", "scale_by_entry_rms", "scale_by_namo", "steepest_step",
    "quantize_state", "scale_by_psgd", "trapezoid", "whiten_momentum",
    # what they keep
    "AdemamixState", "AverageTailState", "AverageWeightsState", "EmaNesterovState",
    "EntryRmsState", "GraftState", "LargestState", "MarsState", "NamoState", "NeuronRmsState",
    "PsgdState",
    "QuantizedState", "ShampooState", "SoapState", "WhitenMomentumState",
    "decay_weights", "decay_weights_cautiously", "scale_by_learning_rate",
    "clip_qk", "qk_clip", "average_weights", "average_tail", "ema_nesterov", "eval_params",
    # optimizers
    "muon", "normuon", "muoneq", "adamuon", "namo", "muonh", "adamh", "scion", "kron", "soap",
    "soap_muon", "forge", "dion2", "shampoo", "asgo", "mars_muon", "mars_adamw", "ademamix",
    # namespaces
    "matrix", "checks", "race",
}  # fmt: skip

FLOORS = [
    {"_version", "readout", "xla"},
    {"matrix", "layout"},
    {"sites"},
    {"lift"},
    {"transforms"},
    {"optimizers", "observe"},
    {"catalogue"},
    {"cli"},
]
GUESTS = {"checks": set(), "race": {"readout"}}  # no optimizer of ours: a stranger is equal


def test_the_surface_is_its_list():
    public = {name for name in vars(gradsmith) if not name.startswith("_")}
    rooms = {path.stem for path in SOURCE.iterdir()} - SURFACE
    assert public - rooms - {"jaxtyping"} == SURFACE  # the import hook of the tests leaves a name


def test_no_file_is_longer_than_a_reader_holds():
    long = {path.name: len(path.read_text().splitlines()) for path in SOURCE.rglob("*.py")}
    assert {name: lines for name, lines in long.items() if lines > 350} == {}


def test_every_public_object_says_what_it_is():
    for name in SURFACE:
        thing = getattr(gradsmith, name)
        is_alias = not isinstance(thing, type | FunctionType | ModuleType)
        doc = doc_of_alias(name) if is_alias else thing.__doc__
        assert doc, name
        assert doc.splitlines()[0].rstrip().endswith((".", ":")), name


def doc_of_alias(name):
    """What is written under the assignment of a type, which has no `__doc__` of its own."""
    for path in modules():
        for node, below in itertools.pairwise(ast.parse(path.read_text()).body):
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name:
                return ast.literal_eval(below.value) if isinstance(below, ast.Expr) else None
    return None


def modules():
    return sorted(SOURCE.rglob("*.py"))


def name_of(path):
    """The parts of a module's dotted name."""
    parts = ("gradsmith", *path.relative_to(SOURCE).with_suffix("").parts)
    return parts[:-1] if parts[-1] == "__init__" else parts


def imports_of(path):
    """Yield the dotted name, as parts, of everything that the file imports."""
    package = ("gradsmith", *path.relative_to(SOURCE).parent.parts)
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = (*base, *(node.module.split(".") if node.module else ()))
            yield from ((*module, alias.name) for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (tuple(alias.name.split(".")) for alias in node.names)


def rooms_entered(path):
    """The rooms of gradsmith that the file imports from."""
    names = imports_of(path)
    return {name[1] for name in names if name[0] == "gradsmith" and len(name) > 1}


def test_no_import_runs_in_a_circle():
    paths = {name_of(path): path for path in modules()}
    graph = {
        module: {
            next(name for name in (imported, imported[:-1]) if name in paths)
            for imported in imports_of(path)
            if imported[0] == "gradsmith"
        }
        - {module}
        for module, path in paths.items()
    }
    tuple(graphlib.TopologicalSorter(graph).static_order())  # raises a CycleError that names them


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_only_go_down_the_floors(path):
    room = path.relative_to(SOURCE).parts[0].removesuffix(".py")
    if room == "__init__":
        return
    floor = {name: level for level, names in enumerate(FLOORS) for name in names}
    for entered in rooms_entered(path) - {room, "_version"}:
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
