"""Optimizers of other packages as subjects, for those packages that are installed and import."""

import functools
import importlib
import importlib.metadata
import importlib.util

import jax
import optax

from gradsmith.checks import Subject

_PLAIN = {
    "arguments": {"learning_rate": 0.01, "fused": False, "master_weight_bits": None},
    "traits": {"needs_params"},
}

DECLARED = {
    "rollfast.adamw": {},
    "rollfast.adamw8": {},
    "rollfast.adamw_hyperball": {},
    "rollfast.aurora": {},
    "rollfast.kron": {},
    "rollfast.muon": {},
    "rollfast.pion": {},
    "rollfast.prism": {},
    "psgdax.kron": {},
    "psgd_jax.kron.kron": {},
    "psgd_jax.xmat.xmat": {},
    "distributed_kron.kron": {},
    "distributed_kron.pro": {},
    "aura_optax.adam_aura": {},
    "aura_optax.muon_aura": {},
    "flashoptim_jax.flash_adamw": _PLAIN,
    "flashoptim_jax.flash_lion": _PLAIN,
    "flashoptim_jax.flash_sgd": _PLAIN,
    "optax_adan.adan": {},
    "optax_shampoo.distributed_shampoo.distributed_shampoo": {"arguments": {"block_size": 128}},
}
"""Where an optimizer stands, and what it documents that it wants or cannot do."""


def names() -> list[str]:
    """The optimizers whose packages are installed, those that do not import included."""
    return [name for name in DECLARED if importlib.util.find_spec(name.partition(".")[0])]


def version(name: str) -> str:
    """The package that an optimizer comes from, and its version."""
    package = name.partition(".")[0]
    distribution = importlib.metadata.packages_distributions()[package][0]
    return f"{distribution} {importlib.metadata.version(distribution)}"


def subject_of(name: str) -> Subject:
    """The subject of one name; importable, so that a worker process can make it."""
    module, _, function = name.rpartition(".")
    factory = getattr(importlib.import_module(module), function)
    if module == "flashoptim_jax":
        factory = _stepping(factory)
    return Subject(name, factory, **DECLARED[name])


def _stepping(factory):
    """A factory of `(init, step)`, whose `step` returns new parameters, as one of Optax."""

    @functools.wraps(factory)
    def wrapped(*args, **kwargs):
        init, step = factory(*args, **kwargs)

        def update(updates, state, params=None):
            new, state = step(params, state, updates)
            return jax.tree.map(lambda a, b: a - b, new, params), state

        return optax.GradientTransformation(init, update)

    return wrapped
