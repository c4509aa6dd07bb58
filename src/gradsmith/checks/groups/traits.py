"""Properties that some optimizers have and others need not: held only against those who claim."""

import jax
import optax

from ..bench import Bench
from ..check import check
from ..compare import fail_if_far, fail_if_not_finite
from ..problem import loss
from ..steps import STEP_IS_SOUND


@check(
    tier="trait",
    needs=(*STEP_IS_SOUND, "no_recompile"),
    call='g = {"layer": {**p["layer"], "bias": 9 * p["layer"]["bias"]}}; '
    'print(tx.update(g, s, p)[0]["layer"]["kernel"])',
    cause="a global norm, or a scalar estimated from all leaves",
    change="take the claim back, or reduce over each leaf alone",
)
def check_leaf_independent(bench: Bench) -> None:
    """Changing one leaf's gradient leaves the updates of the others bit-identical."""
    leaves, tree = jax.tree.flatten(bench.grads)
    other = jax.tree.unflatten(tree, [leaves[0] * 9, *leaves[1:]])
    changed, _ = bench.step(other, bench.state, bench.params)
    plain, _ = bench.step(bench.grads, bench.state, bench.params)
    fail_if_far(
        "the update of the other leaves",
        jax.tree.leaves(changed)[1:],
        jax.tree.leaves(plain)[1:],
        "before",
        rtol=0.0,
    )


@check(
    tier="trait",
    needs=(*STEP_IS_SOUND, "no_recompile"),
    requires=("factory", "learning_rate"),
    call="i = FACTORY(0.02); print(i.update(p, i.init(p), p)[0])",
    cause="the learning rate enters twice, or decides a bound",
    change="take the claim back, or scale once, at the end",
)
def check_rate_linear(bench: Bench) -> None:
    """Twice the learning rate gives twice the first update."""
    rate, value = str(bench.subject.rate_name), bench.subject.rate_value
    doubled = bench.subject.build(**{rate: 2 * value})
    single = bench.subject.build(**{rate: value})

    def update(tx):
        return bench.update(bench.grads, tx.init(bench.params), bench.params, tx=tx)[0]

    expected = jax.tree.map(lambda u: 2 * u, update(single))
    fail_if_far("the update at twice the rate", update(doubled), expected, "twice that", rtol=1e-5)


@check(
    tier="trait",
    needs=STEP_IS_SOUND,
    call="f = lambda g: optax.tree.norm(tx.update(g, s, p)[0]); print(jax.grad(f)(p))",
    cause="a root or norm at zero, a while_loop, or a custom derivative that is missing",
    change="guard the root by jnp.where on its argument; use lax.scan or fori_loop of fixed length",
)
def check_differentiable(bench: Bench) -> None:
    """The loss after two steps has a finite gradient in the initial parameters."""

    def after_two_steps(params):
        state = bench.state
        for _ in range(2):
            updates, state = bench.update(jax.grad(loss)(params), state, params)
            params = optax.apply_updates(params, updates)
        return loss(params)

    fail_if_not_finite("the meta-gradient", jax.jit(jax.grad(after_two_steps))(bench.params))
