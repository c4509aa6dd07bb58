"""Broken contracts."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from .base import Momentum, leafwise, momentum, mutant, step, zeros


@mutant("is_transformation", "returns its two functions", rate=False)
def two_functions_in_a_tuple():
    return zeros, step


@mutant("update_signature", "takes no `params`", rate=False)
def no_params():
    return momentum(update=lambda updates, state: step(updates, state))


@mutant("update_signature", "third parameter is not called `params`", rate=False)
def another_name_for_params():
    return momentum(update=lambda updates, state, weights=None: step(updates, state))


@mutant("params_default", "`params` has no default", rate=False)
def params_without_default_and_no_chain():
    return momentum(update=lambda updates, state, params: step(updates, state))


@mutant("params_default", "`params` has no default")
def params_without_default():
    return momentum(update=lambda updates, state, params: step(updates, state))


@mutant("core_runs", "does not return two values")
def three_values():
    return momentum(update=lambda updates, state, params=None: (*step(updates, state), 0))


@mutant("updates_like_params", "float16.*widens|float16")
def half_precision_updates():
    return leafwise(lambda u: u.astype(jnp.float16))


@mutant("updates_like_params", "a reduction drops an axis")
def row_means():
    return leafwise(lambda u: u.mean(axis=-1))


@mutant("state_leaves_are_arrays", r"\['count'\] is 0 .*Python numbers")
def python_counter():
    return optax.GradientTransformation(
        lambda params: {"count": 0}, lambda u, s, params=None: (u, s)
    )


@mutant("state_stable", "another dtype than `init` chose")
def state_widens():
    def init(params):
        return Momentum(jax.tree.map(lambda p: jnp.zeros(p.shape, jnp.bfloat16), params))

    return momentum(init=init)


@mutant("state_stable", "weakly typed scalar")
def weakly_typed_counter():
    return optax.GradientTransformation(
        lambda params: {"scale": jnp.asarray(1.0)},
        lambda u, s, params=None: (u, {"scale": s["scale"] * np.float32(0.9)}),
    )


@mutant("extra_args_ignored", "takes only the arguments it knows", rate=False)
def strangers_rejected():
    def update(updates, state, params=None, *, value=0.0):
        return step(updates, state)

    return optax.GradientTransformationExtraArgs(zeros, update)


@mutant("params_optional", "`params` are used although nothing needs them")
def params_without_need():
    return optax.stateless(lambda u, p: jax.tree.map(lambda x, y: x + 0 * y, u, p))
