"""Faults in other dtypes."""

import jax
import jax.numpy as jnp
import optax

from .base import Momentum, leafwise, momentum, mutant


@mutant("bf16", "a float32 array or numpy scalar joins")
def float32_joins():
    return leafwise(lambda u: u * jnp.ones((), jnp.float32))


@mutant("bf16_finite", "0.999 is 1.0 in bfloat16")
def decay_that_rounds_to_one():
    return leafwise(lambda u: u / (1 - jnp.full((), 0.999, u.dtype)))


@mutant("bf16_zero_grads", "an eps that float32 holds is lost")
def eps_that_rounds_away():
    return leafwise(lambda u: u / ((1 + jnp.abs(u) + 1e-3) - 1))


@mutant("f16", "the range of float16 ends at 65504")
def largest_number_beyond_float16():
    return leafwise(lambda u: u * 1e6 / jnp.asarray(1e6, u.dtype))


@mutant("f16_zero_grads", "an eps of 1e-8 is zero in float16")
def eps_below_float16():
    return leafwise(lambda u: u / (jnp.abs(u) + 1e-8))


@mutant("f16_not_stalled", "the square of 300 is beyond float16")
def squares_beyond_float16():
    return optax.scale_by_rms(eps=1e-3)


@mutant("f32_under_x64", r"\['count'\] is int64.*a sum of integers")
def counter_that_widens():
    return optax.GradientTransformation(
        lambda params: {"count": jnp.zeros([], jnp.int32)},
        lambda u, s, params=None: (u, {"count": s["count"] + jnp.sum(jnp.ones(1, bool))}),
    )


@mutant("f64", "float32 is written into the code")
def always_float32():
    def init(params):
        return Momentum(jax.tree.map(lambda p: jnp.zeros(p.shape, jnp.float32), params))

    def update(updates, state, params=None):
        new = jax.tree.map(lambda m, u: (0.9 * m + u).astype(m.dtype), state.momentum, updates)
        return jax.tree.map(lambda m, u: m.astype(u.dtype), new, updates), Momentum(new)

    return momentum(init, update)


@mutant("mixed_dtypes", "in a global norm")
def one_norm_for_all():
    return optax.stateless(
        lambda u, p: jax.tree.map(
            lambda x: x / (1 + sum(jnp.sum(jnp.abs(y)) for y in jax.tree.leaves(u))), u
        )
    )


@mutant("f32_grads_bf16_params", "and that of the gradients after")
def state_takes_the_dtype_of_gradients():
    def update(updates, state, params=None):
        new = jax.tree.map(lambda m, u: 0.9 * m.astype(u.dtype) + u, state.momentum, updates)
        return updates, Momentum(new)

    return momentum(update=update)


@mutant("bf16_grads_f32_params", "and that of the gradients after")
def state_narrows_with_gradients():
    return momentum(update=lambda u, s, params=None: (u, Momentum(u)))


@mutant("complex64", "the real part alone")
def real_numbers_only():
    return leafwise(lambda u: jnp.sign(u.real) + 0 * u.imag)


@mutant("strict_promotion", "'int32'.*arrays of different dtypes meet")
def whole_number_meets_float():
    return leafwise(lambda u: u * jnp.ones((), jnp.int32))


@mutant("rank_promotion", "a vector meets a matrix")
def vector_meets_matrix():
    return leafwise(lambda u: u - jnp.mean(u, axis=0))


def average(decay, power):
    """An average of a power of the gradient, in the dtype of the parameters."""

    def update(updates, state, params=None):
        rule = lambda m, u: (decay * m + (1 - decay) * u**power).astype(m.dtype)
        return updates, Momentum(jax.tree.map(rule, state.momentum, updates))

    return momentum(update=update)


@mutant("bf16_averages_move", "an average is kept in bfloat16")
def first_moment_that_stops():
    return average(0.99, 1)


@mutant("bf16_averages_move", "an average is kept in bfloat16")
def second_moment_that_stops():
    return average(0.999, 2)


@mutant("bf16_averages_move", "an average is kept in bfloat16")
def second_moment_that_is_always_narrow():
    narrow = lambda params: jax.tree.map(lambda p: jnp.zeros_like(p, dtype=jnp.bfloat16), params)
    stopping = average(0.999, 2)
    return optax.GradientTransformation(lambda p: Momentum(narrow(p)), stopping.update)


@mutant("f16_not_stalled", "the square of 300 is beyond float16", rate=False)
def stalled_after_a_warmup(learning_rate=0.01):
    schedule = lambda count: jnp.minimum(count, 5) * learning_rate / 5
    return optax.chain(optax.scale_by_rms(eps=1e-3), optax.scale_by_learning_rate(schedule))
