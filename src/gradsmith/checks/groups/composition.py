"""Inside Optax's wrappers, and beside other transformations."""

import jax
import optax

from ..bench import STEPS, Bench, fail_if_far
from ..registry import check
from ..verdicts import CheckFailure


@check(
    requires=("factory", "learning_rate"),
    needs=("core_runs", "updates_like_params", "state_stable"),
    call="tx = optax.inject_hyperparams(FACTORY)(0.01); print(tx.update(p, tx.init(p), p)[0])",
    cause="the factory looks at the learning rate (an `if`, float(), a format string), and "
    "injected it is a traced array",
    change="use the rate in arithmetic only; check it under `if isinstance(rate, float)`",
)
def check_inject_learning_rate(bench: Bench) -> None:
    """`optax.inject_hyperparams` over the learning rate gives the same steps, compiled once."""

    def factory(learning_rate):
        return bench.subject.build(**{str(bench.subject.rate_name): learning_rate})

    tx = optax.inject_hyperparams(factory)(learning_rate=bench.subject.rate_value)
    traces = 0

    @jax.jit
    def update(grads, state, params):
        nonlocal traces
        traces += 1
        return bench.update(grads, state, params, tx=tx)

    state = tx.init(bench.params)
    for step in bench.trajectory:
        updates, state = update(step.grads, state, step.params)
        fail_if_far(
            "the update with an injected rate", updates, step.updates, "with the same rate", 1e-3
        )
    if traces != 1:
        raise CheckFailure(f"`update` was traced {traces} times in {STEPS} steps")
