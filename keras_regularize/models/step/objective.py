"""The objective of a train step as a function of the weights, with its gradient done right."""

import dataclasses
from typing import Any, NamedTuple

from keras import ops

from keras_regularize import autodiff
from keras_regularize.autodiff import backend


def scaled(x, scale):
    """`x * scale`, without an operation where the optimizer does not scale."""
    if isinstance(scale, float) and scale == 1.0:
        return x
    return x * ops.cast(scale, x.dtype)


class Aux(NamedTuple):
    """What comes with a queried loss: `values` of the objective, `outputs` and state `updates` of its pass.

    `states` is what gradient rules will remember, by name: with `micro_batch_size` the mean over the parts, where
    values and outputs are joined.
    """

    values: dict[str, Any]
    outputs: Any
    updates: dict[str, Any]
    states: dict[str, Any] = {}  # Never changed in place.


@dataclasses.dataclass(frozen=True, eq=False)
class Objective:
    """`objective(weights) -> (loss, aux)`: a model's objective on one prepared batch, pure.

    `value_and_grad` is what a gradient rule queries, at whatever weights it likes. The gradient is that of
    the unscaled loss (loss scaling of mixed precision is applied and divided out again in float32) and
    global: averaged over replicas or processes, unless `local()` was asked for.
    """

    model: Any
    batch: autodiff.Batch
    state: Any
    scale: Any = 1.0
    reduce: bool = True
    key: str | None = None

    def __call__(self, weights):
        forward = self.forward(weights)
        loss, values = self.model.objective(self.batch, forward)
        if forward.updates is None:
            raise ValueError(
                "`objective(batch, forward)` must call `forward.loss(…)`, which keeps the outputs for the "
                f"metrics. `{type(self.model).__name__}` did not."
            )
        return loss, Aux(values, forward.outputs, forward.updates)

    def forward(self, weights):
        """The model at given weights and the step's initial state."""
        return autodiff.Forward(self.model, weights, self.state, self.model.training_inputs)

    def on(self, batch):
        """The same objective on another batch."""
        return dataclasses.replace(self, batch=batch)

    def local(self):
        """The same objective with gradients of this replica's share of the batch alone."""
        return dataclasses.replace(self, reduce=False)

    def also_in(self, key):
        """The same objective, whose gradient in the tensors `batch.extra[key]` comes with it as `aux.values[key]`.

        One backward pass gives both; this one is of the replica's own share.
        """
        return dataclasses.replace(self, key=key)

    def value_and_grad(self, weights):
        """`loss, aux, gradients` at `weights`."""
        n, tensors = len(weights), [] if self.key is None else self.batch.extra[self.key]
        if not weights and not tensors:
            return *self(weights), []

        def scaled_loss(values):
            objective = self.on(self.batch.add(**{str(self.key): values[n:]})) if tensors else self
            loss, aux = objective(values[:n])
            return scaled(loss, self.scale), (loss, aux)

        values = [*weights, *tensors]
        (_, (loss, aux)), gradients = autodiff.value_and_grad(scaled_loss, has_aux=True)(values)
        gradients = [scaled(g, 1.0 / self.scale) for g in gradients]
        if tensors:
            aux = aux._replace(values={**aux.values, self.key: gradients[n:]})
        gradients = gradients[:n]
        if self.reduce:
            gradients = backend.reduce_mean_over_replicas(gradients)
        return loss, aux, gradients

    def hessian_vector_product(self, weights, vector):
        """Product of the objective's Hessian at `weights` with a list like them."""

        def scaled_loss(weights):
            return scaled(self(weights)[0], self.scale)

        _, products = autodiff.hvp(scaled_loss, weights, vector)
        products = [scaled(p, 1.0 / self.scale) for p in products]
        return backend.reduce_mean_over_replicas(products) if self.reduce else products


def assign_updates(state, updates):
    """Stores what a pass changed of the state it started from."""
    for position, value in updates.items():
        state[int(position)][0].assign(value)
