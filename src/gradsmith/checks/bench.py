"""The workbench: what the checks of one subject share, each thing made when first asked for."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.extend import core

from .problem import STANDARD, gradient, loss, sample, sample_like
from .subject import Subject
from .verdicts import NotApplicable, Result

PyTree = Any
STEPS = 3


class Step(NamedTuple):
    """One step as it was taken: what went in and what came out."""

    grads: PyTree
    state: PyTree
    params: PyTree
    updates: PyTree
    new_state: PyTree


class Bench:
    """One subject, its small problem, and its shared compiled step."""

    def __init__(self, subject: Subject):
        self.subject = subject
        self.results: dict[str, Result] = {}
        self.memory: dict[str, Any] = {}  # what one check leaves for its neighbours
        self.traces = 0

    # The subject.

    @functools.cached_property
    def tx(self) -> Any:
        """One instance, which most checks share."""
        return self.subject.build()

    def update(self, grads: PyTree, state: PyTree, params: PyTree, tx: Any = None) -> Any:
        """Call `update` with the extra arguments that the subject wants; may be traced."""
        tx = self.tx if tx is None else tx
        if self.subject.extra_args is None:
            return tx.update(grads, state, params)
        extra = self.extra_args(params, grads)
        return optax.with_extra_args_support(tx).update(grads, state, params, **extra)

    def extra_args(self, params: PyTree, grads: PyTree) -> dict[str, Any]:
        """The extra arguments that the subject wants, none for most."""
        if self.subject.extra_args is None:
            return {}
        return dict(self.subject.extra_args(loss, params, grads))

    @functools.cached_property
    def step(self) -> Any:
        """The compiled `update(grads, state, params)`; it counts how often it is traced."""

        def step(grads, state, params):
            self.traces += 1
            return self.update(grads, state, params)

        return jax.jit(step)

    # The problem.

    @functools.cached_property
    def params(self) -> PyTree:
        """Parameters on the device: the subject's own, its model's, or a matrix and a bias.

        The model's where it is small; their values are made up.
        """
        if self.subject.params is not None:
            return jax.tree.map(jnp.asarray, self.subject.params)
        if self.subject.small_model is not None:
            return sample_like(self.subject.small_model)
        return sample(STANDARD)

    @functools.cached_property
    def grads(self) -> PyTree:
        """The gradient at `params`."""
        return gradient(self.params)

    @property
    def state(self) -> PyTree:
        """A fresh state of the shared instance for `params`."""
        return self.tx.init(self.params)

    @functools.cached_property
    def trajectory(self) -> tuple[Step, ...]:
        """Three steps down the bowl with the shared compiled step; the basis of comparisons."""
        return self.walk(self.params, self.state)

    def walk(self, params: PyTree, state: PyTree, steps: int = STEPS) -> tuple[Step, ...]:
        """Take some steps with the compiled step."""
        taken = []
        for _ in range(steps):
            grads = gradient(params)
            updates, new_state = self.step(grads, state, params)
            taken.append(Step(grads, state, params, updates, new_state))
            params, state = optax.apply_updates(params, updates), new_state
        return tuple(taken)

    def program(self, *args: PyTree, tx: Any = None) -> core.ClosedJaxpr:
        """What `update` does, traced; `same_program` compares two."""
        return jax.make_jaxpr(lambda g, s, p: self.update(g, s, p, tx=tx))(*args)

    def require_own_trees(self) -> None:
        """Skip a check that would feed the subject other trees than those that it takes."""
        if self.subject.params is not None:
            raise NotApplicable("the subject is checked on parameters of its own")
        if self._refusal:
            raise NotApplicable(f"it takes the model alone: {self._refusal}")

    @functools.cached_property
    def _refusal(self) -> str:
        """What it says when it refuses the standard tree, because it is made for its model."""
        if self.subject.small_model is not None:
            try:
                jax.eval_shape(self.tx.init, sample(STANDARD))
            except ValueError as error:
                return str(error)
        return ""

    def compiled(self, tx: Any) -> Any:
        """The compiled `update(grads, state, params)` of another transformation, a wrapper say."""
        return jax.jit(lambda grads, state, params: self.update(grads, state, params, tx=tx))

    def two_steps(self, tx: Any = None) -> Any:
        """The function `(grads, state, params)` that takes two compiled steps with one gradient."""
        step = self.step if tx is None else self.compiled(tx)

        def run(grads: PyTree, state: PyTree, params: PyTree) -> Any:
            _, state = step(grads, state, params)
            return step(grads, state, params)

        return run


def bench_of(subject: Subject) -> Bench:
    """The workbench of a subject; it is kept on the subject, and goes with it."""
    return vars(subject).setdefault("_bench", Bench(subject))
