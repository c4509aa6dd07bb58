"""What a check may require of the subject and of the machine; without it, it is skipped."""

import importlib.util
from collections.abc import Callable

import jax

from .bench import Bench
from .subject import SMALL_MODEL
from .verdicts import NotApplicable


def require(condition: str, bench: Bench) -> None:
    """Raise `NotApplicable` with the reason when a condition does not hold."""
    _CONDITIONS[condition](bench)


def _factory(bench: Bench) -> None:
    if not bench.subject.is_factory:
        raise NotApplicable("needs a factory, to build the optimizer more than once")


def _learning_rate(bench: Bench) -> None:
    if bench.subject.rate_name is None:
        raise NotApplicable(
            "no parameter of the factory is known as its learning rate; name it: "
            "Subject(learning_rate=...)"
        )


def _model(bench: Bench) -> None:
    if bench.subject.model is None:
        raise NotApplicable("no model is given: --params, or Subject(model=...)")


def _small_model(bench: Bench) -> None:
    _model(bench)
    if bench.subject.small_model is None:
        raise NotApplicable(
            f"the model is traced alone: it has more than {SMALL_MODEL / 2**20:g} MiB, or leaves "
            "that are no real floating numbers"
        )


def _mesh(bench: Bench) -> None:
    if not bench.subject.mesh:
        raise NotApplicable("no mesh is given: --mesh, or Subject(mesh=...)")


def _eight_devices(bench: Bench) -> None:
    if len(jax.devices()) < 8:
        raise NotApplicable(
            "needs eight devices: set XLA_FLAGS=--xla_force_host_platform_device_count=8"
        )


def _package(name: str) -> Callable[[Bench], None]:
    def condition(bench: Bench) -> None:
        if importlib.util.find_spec(name) is None:
            raise NotApplicable(f"needs the package {name}, which is not installed")

    return condition


_CONDITIONS: dict[str, Callable[[Bench], None]] = {
    "factory": _factory,
    "learning_rate": _learning_rate,
    "eight_devices": _eight_devices,
    "model": _model,
    "small_model": _small_model,
    "mesh": _mesh,
    "flax": _package("flax"),
    "orbax": _package("orbax"),
    "equinox": _package("equinox"),
}
