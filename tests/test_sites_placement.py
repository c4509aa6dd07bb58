"""On eight devices: whatever the mesh and however leaves are split, the numbers are the same."""

import functools
import warnings
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from matrix_oracles import unchecked_annotations
from overridden import overridden

import gradsmith as gs
from gradsmith import MatrixAxes, Owners
from gradsmith.layout.declare import matrix_leaves
from gradsmith.lift.per_gram import per_gram
from gradsmith.sites.exchange import Exchange, Piece
from gradsmith.sites.placement import sites_of

AUTO, EXPLICIT = AxisType.Auto, AxisType.Explicit

SHAPES = {
    "a": (16, 8),
    "b": (16, 8),
    "c": (16, 8),
    "turned": (8, 16),
    "layers": (3, 16, 8),
    "experts": (8, 8, 24),
    "fused": (16, 32),
    "heads": (16, 8, 8),
    "window": (4, 8, 16),
    "lone": (24, 40),
}
AXES = {
    "layers": MatrixAxes(batch_axis=0),
    "experts": MatrixAxes(batch_axis=0),
    "fused": MatrixAxes(cut_axis=1, blocks=(16, 8, 8)),
    "heads": MatrixAxes(0, 2, batch_axis=1),
    "window": MatrixAxes((0, 1), 2),
}
ON_ONE_AXIS = {
    "rows": dict.fromkeys(SHAPES, P("x"))
    | {"layers": P(None, "x"), "window": P(None, "x"), "heads": P("x")},
    "columns": dict.fromkeys(SHAPES, P(None, "x"))
    | {"layers": P(None, None, "x"), "experts": P(None, None, "x"), "window": P(None, None, "x")},
    "replicated": dict.fromkeys(SHAPES, P()),
}
ON_TWO_AXES = {
    "both": dict.fromkeys(SHAPES, P("x", "y"))
    | {"layers": P(None, "x", "y"), "experts": P(("x", "y"))},
    "each its own": {
        "a": P("x"),
        "b": P(None, "y"),
        "c": P("y", "x"),
        "turned": P(("y", "x")),
        "layers": P(None, None, ("x", "y")),
        "experts": P("y", "x"),
        "fused": P("y", "x"),
        "heads": P(None, "y", "x"),
        "window": P("x", "y"),
        "lone": P(),
    },
    "one of two": dict.fromkeys(SHAPES, P(None, "y")) | {"layers": P(None, None, "y")},
}


class TwoSided(NamedTuple):
    """The state of `two_sided`."""

    count: Any
    left: Any
    right: Any
    basis: Any


def two_sided(every=2):
    """A rule that whitens by running factors of both sides, in a basis refreshed now and then."""

    def init_fn(stack):
        k, m, n = stack.shape
        square = lambda size: jnp.broadcast_to(jnp.eye(size, dtype=stack.dtype), (k, size, size))
        return TwoSided(jnp.zeros((), jnp.int32), square(m), square(n), square(n))

    def update_fn(updates, state, params=None):
        assert updates.ndim == 3
        left = 0.5 * state.left + updates @ updates.mT
        right = 0.5 * state.right + updates.mT @ updates
        refresh = lambda: jnp.linalg.qr(right @ state.basis)[0]
        basis = jax.lax.cond(state.count % every == 0, refresh, lambda: state.basis)
        rotated = updates @ basis
        out = (rotated / (1 + jnp.abs(rotated))) @ basis.mT
        out = out + 0.01 * left @ updates
        if params is not None:
            out = out - 0.1 * params
        return out, TwoSided(state.count + 1, left, right, basis)

    return optax.GradientTransformation(init_fn, update_fn)


FEW = {name: SHAPES[name] for name in ("a", "b", "turned", "layers", "fused")}


def tree(seed=0, shapes=SHAPES):
    keys = jax.random.split(jax.random.key(seed), len(shapes))
    return {n: jax.random.normal(k, s) for k, (n, s) in zip(keys, shapes.items(), strict=True)}


def put(leaves, mesh, specs):
    return {n: jax.device_put(x, NamedSharding(mesh, specs[n])) for n, x in leaves.items()}


def trained(tx, mesh=None, specs=None, shapes=SHAPES, steps=2):
    """Return the last update and the state after some steps, under `jit`."""
    place = lambda leaves: leaves if mesh is None else put(leaves, mesh, specs)
    params = place(tree(0, shapes))
    state = jax.jit(tx.init)(params)
    update = jax.jit(tx.update)
    for step in range(1, steps + 1):
        updates, state = update(place(tree(step, shapes)), state, params)
    return updates, state


def assert_close(actual, expected, atol=2e-5):
    for name, update in expected.items():
        np.testing.assert_allclose(actual[name], update, rtol=1e-4, atol=atol, err_msg=name)


@functools.cache
def expected(names):
    """Return what comes out without a mesh."""
    axes = {name: AXES[name] for name in names if name in AXES}
    return trained(gs.per_stack(two_sided(), axes=axes), shapes={n: SHAPES[n] for n in names})


def mesh_of(sizes, *kinds):
    return jax.make_mesh(sizes, ("x", "y")[: len(sizes)], axis_types=kinds)


def check(shapes, mesh, specs, placement):
    axes = {name: AXES[name] for name in shapes if name in AXES}
    with jax.set_mesh(mesh):
        tx = gs.per_stack(two_sided(), axes=axes, placement=placement)
        updates, state = trained(tx, mesh, specs, shapes)
    alone, state_alone = expected(tuple(shapes))
    assert_close(updates, alone)
    for name, update in updates.items():
        home = NamedSharding(mesh, specs[name])
        assert update.sharding.is_equivalent_to(home, update.ndim), name
    for name, own in state.buckets.items():
        k = own.left.shape[0]
        assert k % 8 == 0, name
        assert {shard.data.shape[0] for shard in own.left.addressable_shards} == {k // 8}, name
        assert own.count.sharding.is_fully_replicated
        known = state_alone.buckets[name]
        # Places that are left over hold the first matrices again.
        again = np.resize(known.left, own.left.shape)
        np.testing.assert_allclose(own.left, again, rtol=1e-4, atol=1e-4)


def test_a_stateful_rule_at_owners_on_one_axis():
    check(FEW, mesh_of((8,), EXPLICIT), ON_ONE_AXIS["rows"], "owners")


def test_a_stateful_rule_at_owners_on_two_axes():
    check(FEW, mesh_of((2, 4), EXPLICIT, EXPLICIT), ON_TWO_AXES["each its own"], "owners")


def test_a_stateful_rule_at_owners_on_an_auto_mesh():
    specs = ON_TWO_AXES["both"]
    mine = {name: specs[name] for name in FEW}
    check(FEW, mesh_of((2, 4), AUTO, AUTO), specs, Owners(param_specs=mine))


KINDS = {"auto": (AUTO, AUTO), "explicit": (EXPLICIT, EXPLICIT), "mixed": (AUTO, EXPLICIT)}
ANYWHERE = [(kinds, (8,), name) for kinds in ("auto", "explicit") for name in ON_ONE_AXIS] + [
    (kinds, sizes, name) for kinds in KINDS for sizes in ((2, 4), (4, 2)) for name in ON_TWO_AXES
]


def laid_out(kinds, sizes, layout):
    """Return the mesh, the specs of all leaves, and the placement that this kind of mesh needs."""
    mesh = mesh_of(sizes, *KINDS[kinds][: len(sizes)])
    specs = (ON_ONE_AXIS if len(sizes) == 1 else ON_TWO_AXES)[layout]
    by_path = Owners(param_specs=lambda path, leaf: specs[path])
    return mesh, specs, "owners" if kinds == "explicit" else by_path


@pytest.mark.slow
@pytest.mark.parametrize(("kinds", "sizes", "layout"), ANYWHERE, ids=str)
def test_a_stateful_rule_at_owners_anywhere(kinds, sizes, layout):
    check(SHAPES, *laid_out(kinds, sizes, layout))


SMALL = {"a": (16, 8), "b": (8, 16), "c": (16, 8)}
ROWS = dict.fromkeys(SMALL, P("x"))


FORMS = {"default": None, "max_error": 0.32}


def muon(form, names, placement="owners"):
    axes = {name: AXES[name] for name in names if name in AXES}
    roles = {"heads": "matrix"} if "heads" in names else None
    return gs.muon(0.02, max_error=FORMS[form], axes=axes, roles=roles, placement=placement)


@functools.cache
def expected_of_muon(form, names):
    """Return the updates of Muon without a mesh."""
    return trained(muon(form, names), shapes={n: SHAPES[n] for n in names})[0]


def check_muon(form, shapes, mesh, specs, placement):
    with jax.set_mesh(mesh):
        updates, _ = trained(muon(form, shapes, placement), mesh, specs, shapes)
    # A sum in another order, and about 500 times its rounding after Newton-Schulz, of 0.02.
    assert_close(updates, expected_of_muon(form, tuple(shapes)), atol=1e-6)
    if len(set(mesh.axis_types)) > 1:
        # Where an Auto and an Explicit axis split one axis of a leaf, JAX forgets the Auto one in
        # any product with a number, such as the learning rate.
        return
    for name, update in updates.items():
        home = NamedSharding(mesh, specs[name])
        assert update.sharding.is_equivalent_to(home, update.ndim), name


@pytest.mark.parametrize(
    ("form", "kinds", "sizes", "layout"),
    [
        ("default", "explicit", (8,), "rows"),
        ("default", "auto", (8,), "replicated"),
        ("default", "mixed", (2, 4), "both"),
        ("max_error", "auto", (8,), "columns"),
        ("max_error", "explicit", (2, 4), "each its own"),
    ],
    ids=str,
)
def test_muon_on_a_mesh_is_muon(form, kinds, sizes, layout):
    check_muon(form, FEW, *laid_out(kinds, sizes, layout))


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("kinds", "sizes", "layout"), ANYWHERE, ids=str)
def test_muon_anywhere_is_muon(form, kinds, sizes, layout):
    check_muon(form, SHAPES, *laid_out(kinds, sizes, layout))


def sorted_sides(shape):
    return min(shape), max(shape)


@pytest.mark.parametrize("where", ["without a mesh", "at owners", "unseen"])
def test_matrices_that_are_transposed_meet_the_others_and_come_home(where):
    """Each row of a leaf is multiplied by its number, though half of them are columns there."""

    def by_number(stack, mask):
        _, m, n = stack.shape
        by_row = stack * jnp.arange(m, dtype=stack.dtype)[None, :, None]
        by_column = stack * jnp.arange(n, dtype=stack.dtype)[None, None, :]
        return by_row if mask is None else jnp.where(mask[:, None, None], by_column, by_row)

    def step(members, params, states):
        assert params is None
        outs = [[by_number(stack, some.transposed) for stack in some.stacks] for some in members]
        return outs, states

    def run(grads):
        leaves = matrix_leaves({"layers": AXES["layers"]}, grads)
        ((site, _),) = sites_of("owners", leaves, sorted_sides, may_stay_split=False)
        nothing = [() for _ in site.buckets]
        out, _ = site.update(step, lambda stacks: nothing, leaves, None, nothing)
        return dict(zip(sorted(grads), out, strict=True))

    shapes = {"a": (16, 8), "b": (8, 16), "c": (16, 8), "layers": (9, 16, 8), "square": (8, 8)}
    grads = tree(0, shapes)
    if where == "without a mesh":
        updates = run(grads)
    else:
        mesh = mesh_of((2, 4), *[EXPLICIT if where == "at owners" else AUTO] * 2)
        specs = {n: P(*[None] * (len(shape) - 2), "x", "y") for n, shape in shapes.items()}
        with jax.set_mesh(mesh), warnings.catch_warnings():
            warnings.simplefilter("ignore" if where == "unseen" else "error")
            updates = jax.jit(run)(put(grads, mesh, specs))
    for name, grad in grads.items():
        rows = np.arange(grad.shape[-2], dtype=np.float32)[:, None]
        np.testing.assert_array_equal(updates[name], np.asarray(grad) * rows, err_msg=name)


def averaged_gram(grams):
    return grams / jnp.linalg.norm(grams, axis=(-2, -1), keepdims=True)


def test_gram_rules_at_owners_are_gram_rules():
    """With and without a state, and a shape scale that sees the true shape of what is turned."""
    kept = optax.chain(
        optax.trace(0.5), optax.stateless(lambda grams, params: averaged_gram(grams))
    )
    mesh = mesh_of((2, 4), EXPLICIT, EXPLICIT)
    specs = dict.fromkeys(SMALL, P("x", "y"))
    for rule in (averaged_gram, kept):
        tx = per_gram(rule, postprocess=gs.scale_by_aspect_ratio())
        alone, _ = trained(tx, shapes=SMALL)
        with jax.set_mesh(mesh):
            updates, _ = trained(tx, mesh, specs, SMALL)
        assert_close(updates, alone)


def test_replicated_computes_everything_everywhere():
    seen = []
    rule = optax.stateless(lambda updates, params: seen.append(updates.shape) or 2 * updates)
    mesh = mesh_of((8,), EXPLICIT)
    with jax.set_mesh(mesh):
        tx = gs.per_stack(rule, placement="replicated")
        updates, _ = trained(tx, mesh, ROWS, SMALL, steps=1)
    assert seen == [(2, 16, 8), (1, 8, 16)]
    assert updates["a"].sharding.spec == P("x", None)


def test_each_owner_sees_its_own_matrices_and_no_mesh():
    seen = []

    def rule(updates, params):
        seen.append((updates.shape, jax.sharding.get_abstract_mesh().empty))
        return 2 * updates

    mesh = mesh_of((8,), EXPLICIT)
    with jax.set_mesh(mesh):
        trained(gs.per_stack(optax.stateless(rule)), mesh, ROWS, SMALL, steps=1)
    assert seen == [((1, 16, 8), True), ((1, 8, 16), True)]


def test_a_traced_hyperparameter_reaches_a_rule_on_an_explicit_mesh():
    def scaled(factor):
        return gs.per_stack(optax.stateless(lambda u, p: u * jnp.asarray(factor, u.dtype)))

    tx = optax.inject_hyperparams(scaled)(factor=3.0)
    mesh = mesh_of((8,), EXPLICIT)
    with jax.set_mesh(mesh):
        updates, _ = trained(tx, mesh, ROWS, SMALL, steps=1)
    assert_close(updates, jax.tree.map(lambda x: 3 * x, tree(1, SMALL)))


def test_extra_arguments_reach_the_rule_at_owners():
    def update_fn(updates, state, params=None, *, loss, name):
        assert name == "x"
        return updates * loss, state

    rule = optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), update_fn)
    tx = gs.per_stack(rule)
    mesh = mesh_of((8,), EXPLICIT)
    with jax.set_mesh(mesh):
        grads = put(tree(0, SMALL), mesh, ROWS)
        step = lambda grads, loss: tx.update(grads, tx.init(grads), loss=loss, name="x")[0]
        updates = jax.jit(step)(grads, jnp.float32(2.0))
    assert_close(updates, jax.tree.map(lambda x: 2 * x, tree(0, SMALL)))


def test_a_transfer_in_bfloat16_rounds_and_halves():
    grads = tree(0, SMALL)
    mesh = mesh_of((8,), EXPLICIT)
    with jax.set_mesh(mesh):
        tx = gs.per_stack(optax.identity(), placement=Owners(transfer_dtype=jnp.bfloat16))
        step = jax.jit(lambda grads: tx.update(grads, tx.init(grads))[0])
        compiled = step.lower(put(grads, mesh, ROWS)).compile()
        updates = compiled(put(grads, mesh, ROWS))
    rounded = lambda x: x.astype(jnp.bfloat16).astype(jnp.float32)
    jax.tree.map(
        np.testing.assert_array_equal, jax.device_get(updates), jax.tree.map(rounded, grads)
    )
    exchanges = [line for line in compiled.as_text().splitlines() if "all-to-all(" in line]
    assert exchanges
    assert all("u16[" in line and "f32[" not in line for line in exchanges)


def test_outside_jit_arrays_tell_how_they_are_split():
    mesh = mesh_of((8,), AUTO)
    with jax.set_mesh(mesh):
        grads = put(tree(0, SMALL), mesh, ROWS)
        tx = gs.per_stack(optax.trace(0.5))
        updates, state = tx.update(grads, tx.init(grads))
    assert_close(updates, tree(0, SMALL))
    assert state.buckets["2x16x8 float32"].trace.shape == (8, 16, 8)


def test_an_auto_mesh_without_specs_is_right_and_says_once_what_is_lost():
    mesh = mesh_of((2, 4), AUTO, AUTO)
    alone, _ = trained(gs.per_stack(optax.trace(0.5)), shapes=SMALL)
    tx = gs.per_stack(optax.trace(0.5))
    run = lambda: trained(tx, mesh, dict.fromkeys(SMALL, P("x", "y")), SMALL)
    with jax.set_mesh(mesh), pytest.warns(UserWarning, match=r"leaf 'a' .*param_specs") as said:
        updates, state = run()
    assert len(said) == 1
    assert_close(updates, alone)
    shards = state.buckets["2x16x8 float32"].trace.addressable_shards
    assert {shard.data.shape for shard in shards} == {(1, 16, 8)}


def test_inside_shard_map_each_device_computes_what_it_is_given():
    tx = gs.per_stack(optax.trace(0.5))
    mesh = mesh_of((8,), EXPLICIT)
    with jax.set_mesh(mesh):
        step = lambda grads: tx.update(grads, tx.init(grads))[0]
        mapped = jax.jit(jax.shard_map(step, in_specs=(P("x"),), out_specs=P("x")))
        updates = mapped(put(tree(0, SMALL), mesh, ROWS))
    assert_close(updates, tree(0, SMALL))


def test_specs_are_found_by_path_and_by_prefix():
    mesh = mesh_of((8,), AUTO)
    grads = {"block": tree(0, SMALL), "head": jnp.ones((16, 8))}
    specs = {"block": P("x"), "head": NamedSharding(mesh, P(None, "x"))}
    with jax.set_mesh(mesh):
        tx = gs.per_stack(optax.trace(0.5), placement=Owners(param_specs=specs))
        updates, _ = jax.jit(tx.update)(grads, jax.jit(tx.init)(grads))
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(updates), jax.device_get(grads))
    assert updates["head"].sharding.is_equivalent_to(specs["head"], 2)


def test_specs_for_what_is_not_there_are_refused():
    specs = {"a": P("x"), "blokc": P("x")}
    grads = {"a": jnp.ones((16, 8)), "block": {"b": jnp.ones((16, 8))}}
    tx = gs.per_stack(optax.trace(0.5), placement=Owners(param_specs=specs))
    with (
        jax.set_mesh(mesh_of((8,), AUTO)),
        pytest.raises(ValueError, match=r"param_specs name 'blokc'.*they have a, block/b"),
    ):
        tx.init(grads)


@pytest.mark.parametrize("dtype", ["bf", jnp.int8], ids=str)
def test_what_no_number_travels_in_is_refused_without_a_mesh(dtype):
    with pytest.raises(ValueError, match=r"transfer_dtype=.* is no floating-point dtype; give one"):
        Owners(transfer_dtype=dtype)
    assert Owners(transfer_dtype="bfloat16") == Owners(None, "bfloat16")


def test_specs_of_leaves_that_others_optimize_are_no_error():
    specs = {"a": P("x"), "bias": P("x")}
    tx = gs.muon(0.1, placement=Owners(param_specs=specs))
    params = {"a": jnp.ones((16, 8)), "bias": jnp.ones(8)}
    with jax.set_mesh(mesh_of((8,), AUTO)):
        jax.jit(tx.update)(params, jax.jit(tx.init)(params), params)


@pytest.mark.parametrize("wrap", [jax.jit, lambda f: f], ids=["jit", "eager"])
@pytest.mark.parametrize("specs", [None, {"a": P("x")}], ids=["no specs", "specs"])
def test_a_mesh_that_nobody_set_is_told(wrap, specs):
    """Otherwise every device would compute everything, in silence."""
    tx = gs.per_stack(optax.identity(), placement=Owners(param_specs=specs))
    grads = put({"a": jnp.ones((16, 8))}, mesh_of((8,), AUTO), {"a": P("x")})
    with pytest.warns(UserWarning, match="leaf 'a' lies on a mesh of Auto axes, x=8, and no mesh"):
        wrap(lambda grads: tx.update(grads, tx.init(grads))[0])(grads)
    meant = gs.per_stack(optax.identity(), placement="replicated")
    wrap(lambda grads: meant.update(grads, meant.init(grads))[0])(grads)  # no warning


def test_specs_without_any_mesh_are_told():
    tx = gs.per_stack(optax.identity(), placement=Owners(param_specs={"a": P("x")}))
    with pytest.warns(UserWarning, match=r"Set it around init and update, with jax.set_mesh"):
        tx.init({"a": jnp.ones((16, 8))})


def test_a_scan_over_steps_keeps_all_types():
    tx = gs.per_stack(two_sided())
    mesh = mesh_of((8,), EXPLICIT)
    with jax.set_mesh(mesh):
        params = put(tree(0, SMALL), mesh, ROWS)

        def step(carry, _):
            params, state = carry
            updates, state = tx.update(params, state, params)
            return (optax.apply_updates(params, updates), state), None

        run = lambda params: jax.lax.scan(step, (params, tx.init(params)), length=3)[0][0]
        assert jax.eval_shape(run, params)["a"].sharding.spec == P("x", None)


@pytest.mark.parametrize(
    ("specs", "says"),
    [
        (dict.fromkeys(SMALL, P("z")), r"leaf 'a' has the spec .*no axis 'z', only x=8"),
        (dict.fromkeys(SMALL, P(None, None, "x")), r"leaf 'a' has rank 2 and the spec"),
        ({"a": P()} | dict.fromkeys("bc", P("x", "x")), r"leaf 'b' .* names 'x' twice"),
    ],
    ids=["no such axis", "too long", "an axis twice"],
)
def test_specs_that_do_not_fit_are_refused_with_the_leaf(specs, says):
    tx = gs.per_stack(optax.identity(), placement=Owners(param_specs=specs))
    with jax.set_mesh(mesh_of((8,), AUTO)), pytest.raises(ValueError, match=says):
        jax.eval_shape(tx.init, tree(0, SMALL))


def test_a_spec_that_does_not_divide_is_refused_with_the_leaf():
    tx = gs.per_stack(optax.identity(), placement=Owners(param_specs=P("x")))
    says = r"leaf 'odd' of shape \(12, 8\) .* 12 is not divisible among the 8 devices of x"
    with jax.set_mesh(mesh_of((8,), AUTO)), pytest.raises(ValueError, match=says):
        jax.eval_shape(tx.init, {"odd": jnp.ones((12, 8))})


def test_a_state_made_without_the_mesh_is_refused_with_the_bucket():
    tx = gs.per_stack(optax.trace(0.5))
    state = tx.init(tree(0, SMALL))
    mesh = mesh_of((8,), EXPLICIT)
    says = r"the state of bucket 2x16x8.*has shape \(2, 16, 8\), .*another mesh, or without one"
    with jax.set_mesh(mesh), pytest.raises(ValueError, match=says):
        jax.jit(tx.update)(put(tree(0, SMALL), mesh, ROWS), state)


def test_params_and_updates_on_different_meshes_are_refused_with_the_leaf():
    tx = gs.per_stack(optax.trace(0.5))
    one, other = mesh_of((8,), EXPLICIT), mesh_of((2, 4), EXPLICIT, EXPLICIT)
    grads, params = put(tree(0, SMALL), one, ROWS), put(tree(0, SMALL), other, ROWS)
    with jax.set_mesh(one):
        state = tx.init(grads)
        with pytest.raises(ValueError, match=r"leaf 'a' lies on the mesh x=2, y=4.*x=8"):
            tx.update(grads, state, params)


def test_a_state_on_another_mesh_is_refused_with_the_bucket():
    tx = gs.per_stack(optax.trace(0.5))
    one, other = mesh_of((8,), EXPLICIT), mesh_of((4, 2), EXPLICIT, EXPLICIT)
    with jax.set_mesh(other):
        state = tx.init(put(tree(0, SMALL), other, ROWS))
    grads = put(tree(0, SMALL), one, ROWS)
    with jax.set_mesh(one), pytest.raises(ValueError, match=r"bucket 2x16x8.* mesh x=4, y=2.*x=8"):
        tx.update(grads, state)


def test_state_that_grows_in_no_one_axis_is_refused():
    rule = optax.GradientTransformation(
        lambda stack: jnp.zeros((stack.shape[0], stack.shape[0])), lambda u, s, p=None: (u, s)
    )
    mesh = mesh_of((8,), EXPLICIT)
    with jax.set_mesh(mesh), pytest.raises(ValueError, match="placement='replicated'"):
        gs.per_stack(rule).init(put(tree(0, SMALL), mesh, ROWS))


def test_an_unknown_placement_is_refused():
    with (
        unchecked_annotations(),
        pytest.raises(ValueError, match="no placement is called 'everywhere'"),
    ):
        gs.per_stack(optax.identity(), placement="everywhere")


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=str)
def test_injected_numbers_on_a_mesh_do_not_mind_chunks(kind):
    """Loops around formulas that close over traced numbers of the mesh would be refused there."""
    mesh = jax.make_mesh((2,), ("x",), axis_types=(kind,))
    shardings = {f"kernel{i}": NamedSharding(mesh, P("x")) for i in range(4)}
    grads = tree(shapes=dict.fromkeys(shardings, (8, 12)))
    tx = optax.inject_hyperparams(gs.soap, static_args="max_side")(
        0.1, axes=MatrixAxes(0, 1), placement=Owners(param_specs=shardings)
    )
    with overridden(chunk_bytes=1, gram_block=4, least_gram_block=4):
        alone, _ = tx.update(grads, tx.init(grads), grads)
        with jax.set_mesh(mesh):
            params = jax.device_put(grads, shardings)
            updates, _ = jax.jit(tx.update)(params, jax.jit(tx.init)(params), params)
    for name, update in updates.items():
        np.testing.assert_allclose(update, alone[name], atol=1e-6)


def test_blocks_of_different_shapes_travel_in_strips_of_one_width():
    rows = Piece(1, ((8, ("x",)),), ((4, ()),))
    columns = Piece(1, ((8, ()),), ((4, ("x",)),))
    exchange = Exchange({"x": 2}, (), (rows, columns))
    block = jnp.arange(16.0).reshape(1, 4, 4)  # half of a matrix that is cut along its rows
    strips = exchange._in_strips(block)
    assert strips.shape == (1, 8, 2)
    np.testing.assert_array_equal(strips[0, :4], block[0, :, :2])
    np.testing.assert_array_equal(strips[0, 4:], block[0, :, 2:])
    below = jnp.pad(strips, [(0, 0), (0, 3), (0, 0)])
    np.testing.assert_array_equal(exchange._out_of_strips(rows, below), block)


def test_blocks_of_one_shape_travel_as_they_are():
    exchange = Exchange({"x": 2}, (), (Piece(2, ((8, ("x",)),), ((4, ()),)),) * 3)
    block = jnp.arange(32.0).reshape(2, 4, 4)
    np.testing.assert_array_equal(exchange._in_strips(block), block)
