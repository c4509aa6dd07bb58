"""MuonEq-R: neurons of equal length, before the orthogonalization."""

import optax

from ..xla.dtypes import wide_dtype
from .lengths import NEURON, over_length


def normalize_neurons() -> optax.GradientTransformation:
    """Give every neuron's part of the momentum the length one (a rule).

    A neuron is an output unit, a column of `(m, n)`. This belongs between the momentum and the
    polar factor, which then no longer sees that some neurons have larger gradients than others. It
    changes nothing if the columns are orthogonal. A column of zeros stays zero.

    A direction: stands before the learning rate, inside `per_stack`. Keeps no state.

    Examples:
        >>> import jax.numpy as jnp
        >>> import gradsmith as gs
        >>> rule = gs.normalize_neurons()
        >>> stack = jnp.array([[[3.0, 0.0], [4.0, 0.0]]])
        >>> print(rule.update(stack, rule.init(stack))[0])
        [[[0.6 0. ]
          [0.8 0. ]]]

    References:
        Q Labs, slowrun, https://github.com/qlabs-eng/slowrun, which divides by at least 1e-7.
    """

    def update_fn(updates, params=None):
        del params
        wide = updates.astype(wide_dtype(updates.dtype))
        return over_length(wide, NEURON).astype(updates.dtype)

    return optax.stateless(update_fn)
