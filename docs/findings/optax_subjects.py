"""The optimizers of optax and optax.contrib as subjects: what each of them needs, and declares."""

import inspect

import optax
import optax.contrib

from gradsmith.checks import Subject

_VALUE = {"extra_args": lambda loss, params, grads: {"value": loss(params)}}
_LINE_SEARCH = {
    "extra_args": lambda loss, params, grads: {
        "value": loss(params),
        "grad": grads,
        "value_fn": loss,
    }
}
_OBJECTIVE = {"extra_args": lambda loss, params, grads: {"obj_fn": loss}}

DECLARED = {
    "lbfgs": _LINE_SEARCH,
    "polyak_sgd": _VALUE,
    "contrib.momo": {**_VALUE, "traits": {"needs_params"}},
    "contrib.momo_adam": {**_VALUE, "traits": {"needs_params"}},
    "contrib.sophia": _OBJECTIVE,
    "contrib.schedule_free": {"arguments": {"base_optimizer": optax.sgd(0.01)}},
    "contrib.mechanize": {"arguments": {"base_optimizer": optax.sgd(0.01)}},
    "contrib.sam": {
        "arguments": {
            "optimizer": optax.sgd(0.01),
            "adv_optimizer": optax.chain(optax.contrib.normalize(), optax.sgd(0.05)),
        },
        "traits": {"needs_params", "no_descent"},  # every other step climbs
    },
    "rprop": {"traits": {"no_schedule"}},
    "sm3": {"traits": {"no_schedule"}},
    "optimistic_adam": {"traits": {"no_schedule"}},
    "optimistic_adam_v2": {"traits": {"no_schedule"}},
    "contrib.ademamix": {"traits": {"no_schedule"}},
}
"""What an optimizer documents that it wants or cannot do."""

LEFT_OUT = (
    "scale_by_learning_rate",  # these three are transformations, no optimizers
    "scale_by_rprop",
    "contrib.scale_by_madgrad",
    "contrib.dpsgd",  # its gradients carry an axis of examples, which the bowl has not
)


def names() -> list[str]:
    """Every public function of optax and optax.contrib with a learning rate, and three more."""
    found = ["polyak_sgd", "contrib.mechanize", "contrib.sam"]
    for prefix, module in (("", optax), ("contrib.", optax.contrib)):
        for name, function in sorted(vars(module).items()):
            if name.startswith("_") or not inspect.isfunction(function):
                continue
            if "learning_rate" in inspect.signature(function).parameters:
                found.append(prefix + name)
    return [name for name in found if name not in LEFT_OUT]


def version(name: str) -> str:
    """The version of the package that an optimizer comes from."""
    return f"optax {optax.__version__}"


def subject_of(name: str) -> Subject:
    """The subject of one name; importable, so that a worker process can make it."""
    module = optax.contrib if name.startswith("contrib.") else optax
    factory = getattr(module, name.removeprefix("contrib."))
    return Subject(name, factory, **DECLARED.get(name, {}))
