"""A Keras model as a function of its weights: predictions and losses that leave the model untouched."""

import contextlib
import dataclasses
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
from keras import ops, tree

from keras_regularize.autodiff import backend
from keras_regularize.numerics import upcast

CONTAINERS = (Mapping, list, tuple)


@dataclasses.dataclass(frozen=True, eq=False)
class Batch:
    """What a train step works on; immutable, changed copies come from `replace`.

    Attributes:
        x: Inputs, any nested structure the model takes.
        y: Labels as the compiled loss gets them.
        sample_weight: Weights per sample, or `None`. A method that weights samples by what the model gives
            out for them may put a function `outputs -> weights` here.
        columns: Extra columns of `y`, such as `{"index": …}` or `{"group": …}`.
        step: Number of updates done so far (`optimizer.iterations`), an integer tensor.
        variables: The trainable variables whose values a gradient rule receives, in the same order.
        extra: What the `prepare` hooks added, by name.
        loss_weight: Factor of the whole loss of the samples, which leaves weight and activity penalties as they
            are. Sample weights that are all equal would do the same but for losses that divide by their sum.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    batch = kr.autodiff.Batch(np.ones((4, 3)), y=np.zeros(4), columns={"index": np.arange(4)})
    louder = batch.replace(x=2 * batch.x).add(noise=np.zeros((4, 3)))
    louder.extra["noise"].shape  # (4, 3); `batch` is unchanged
    ```
    """

    x: Any
    y: Any = None
    sample_weight: Any = None
    columns: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    step: Any = 0
    variables: Sequence[keras.Variable] = ()
    extra: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    loss_weight: Any = 1.0

    def replace(self, **changes: Any) -> "Batch":
        """A copy with other values."""
        return dataclasses.replace(self, **changes)

    def add(self, **entries: Any) -> "Batch":
        """A copy with more entries in `extra`."""
        return self.replace(extra={**self.extra, **entries})


class Forward:
    r"""A model at given weights: `forward(x)` predicts, `forward.loss(batch)` is the compiled loss there.

    The model itself is not changed: every pass runs inside one `keras.StatelessScope` that holds prediction
    and loss, so weight regularizers are evaluated at the given weights, activity losses and `add_loss` count,
    and an overridden `compute_loss` acts. All passes start from the same state, hence see the same dropout
    masks. `loss` and `sample_losses` need a compiled model.

    Args:
        model: A built `keras.Model`.
        weights: Values of `model.trainable_variables`; their current values by default.
        state: Pairs `(variable, value)` of all else, as `read_state` gives them; by default the current
            values.
        inputs: Function that picks the model's training inputs from a batch; `batch.x` by default.

    Attributes:
        outputs: Outputs of the first `loss` call.
        updates: `{position in state: value}` for the variables that first call changed (batch statistics,
            seeds, loss trackers).

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    batch = kr.autodiff.Batch(np.ones((4, 3), "float32"), np.zeros((4, 1), "float32"))
    weights = [v.value for v in model.trainable_variables]
    gradient = kr.autodiff.grad(lambda w: kr.autodiff.Forward(model, w).loss(batch))(weights)
    ```
    """

    def __init__(
        self,
        model: keras.Model,
        weights: Sequence[Any] | None = None,
        state: Sequence[tuple[keras.Variable, Any]] | None = None,
        inputs: Callable[[Batch], Any] | None = None,
    ):
        if weights is None:
            weights = read_values(model.trainable_variables)
        self.model = model
        self.outputs = None
        self.updates = None
        self._state = read_state(model) if state is None else state
        self._weights = list(zip(model.trainable_variables, weights))
        self._inputs_of_loss = None
        self._inputs = inputs or (lambda batch: batch.x)

    def __call__(self, x: Any, training: bool = False) -> Any:
        """Predicts; updates of batch statistics and seeds are dropped."""
        with self._scope():
            return self.model(x, training=training)

    def loss(self, batch: Batch, training: bool = True) -> Any:
        """The model's own objective on a batch: compiled loss, `add_loss`, activity and weight penalties.

        The first call keeps its outputs and state updates, for the metrics and for the step to store.
        """
        replicas = backend.num_replicas()
        with self._scope() as current:
            before = [current(v) for v, _ in self._state]
            x = self._inputs(batch)
            outputs = self.model(x, training=training)
            # Weights of all replicas together: while this one waits, another forgets its activity losses.
            shared = callable(batch.sample_weight) and replicas > 1
            weighted = not (isinstance(batch.loss_weight, float) and batch.loss_weight == 1.0)
            penalties = sum(self.model.losses) if shared or weighted else 0.0
            forgotten = penalties if shared else 0.0
            sample_weight = _copied(resolve_weights(batch, outputs))
            loss = compute_loss(self.model, batch.x, batch.y, outputs, sample_weight, training)
            if shared:
                forgotten = forgotten - sum(self.model.losses)
            after = [current(v) for v, _ in self._state]
        if self.updates is None:
            self.outputs, self._inputs_of_loss = outputs, x
            self.updates = {
                str(i): new for i, (old, new) in enumerate(zip(before, after)) if new is not old
            }
        # Keras divides by the replicas here; a step does so once for its whole objective.
        loss = loss if replicas == 1 else loss * replicas + forgotten
        if not weighted:
            return loss
        weight = ops.cast(batch.loss_weight, loss.dtype)
        return weight * loss + (1.0 - weight) * ops.cast(penalties, loss.dtype)

    def penalties(self, batch: Batch) -> Any:
        """`loss` without the compiled loss, for the methods that put their own in its place."""
        return self.loss(without_samples(batch))

    def sample_mean(self, values: Any, batch: Batch) -> Any:
        """Mean of `(batch,)` values with the sample weights of the batch, as Keras reduces a loss.

        Weights that depend on the outputs take those that `loss` or `penalties` kept.
        """
        weights = resolve_weights(batch, self.outputs)
        if weights is not None:
            weights = per_sample(ops.convert_to_tensor(weights))
            values = values * ops.cast(weights, values.dtype)
        return ops.mean(values) * batch.loss_weight

    def outputs_at(self, x: Any) -> Any:
        """Training outputs for `x`: those of the first `loss` call if it was on the same inputs."""
        return self.outputs if self._inputs_of_loss is x else self(x, training=True)

    def with_values(self, pairs: Sequence[tuple[keras.Variable, Any]]) -> "Forward":
        """The same pass, with other values of some variables that are not trained."""
        values = {id(variable): value for variable, value in pairs}
        state = [(v, values.get(id(v), value)) for v, value in self._state]
        return Forward(self.model, [w for _, w in self._weights], state, self._inputs)

    def redrawn(self) -> "Forward":
        """The same pass with the random numbers that come after those of the first `loss` call."""
        state = [
            (v, self.updates.get(str(i), value) if _is_random(v) else value)
            for i, (v, value) in enumerate(self._state)
        ]
        return Forward(self.model, [w for _, w in self._weights], state, self._inputs)

    def move_seeds(self, other: "Forward") -> None:
        """Lets the random numbers of the next step come after those that another pass has drawn."""
        for i, (v, _) in enumerate(self._state):
            if _is_random(v) and str(i) in other.updates:
                self.updates[str(i)] = other.updates[str(i)]

    def weight(self, variable: keras.Variable) -> Any:
        """The value of a trainable variable in this pass."""
        for candidate, value in self._weights:
            if candidate is variable:
                return value
        raise ValueError(
            f"`variable` must be a trainable variable of the model. Received: {variable!r}"
        )

    def sample_losses(self, y: Any, outputs: Any) -> Any:
        """The compiled loss of every sample, `(batch,)`, without weights and penalties."""
        loss = self.model.loss
        if isinstance(loss, Mapping) and isinstance(outputs, (list, tuple)):
            names = self.model.output_names
            outputs = dict(zip(names, outputs))
            y = dict(zip(names, y)) if isinstance(y, (list, tuple)) else y
        return sample_losses(loss, y, outputs)

    @contextlib.contextmanager
    def _scope(self):
        """Everything at the given values; yields the function that reads the current ones."""
        variables = [(v, value) for v, value in self._state if isinstance(v, keras.Variable)]
        others = [(v, value) for v, value in self._state if not isinstance(v, keras.Variable)]
        ambient = [v.value for v, _ in others]
        mapping = [*self._weights, *variables]
        try:
            for v, value in others:
                v.assign(value)
            with keras.StatelessScope(state_mapping=mapping, collect_losses=True) as scope:
                yield (
                    lambda v: (
                        scope.get_current_value(v) if isinstance(v, keras.Variable) else v.value
                    )
                )
        finally:
            for (v, _), value in zip(others, ambient):
                v.assign(value)


def _is_random(variable):
    """Whether a variable is the state of a `SeedGenerator`, or one of the global generators of torch."""
    return not isinstance(variable, keras.Variable) or variable.name == "seed_generator_state"


def read_values(variables: Sequence[keras.Variable]) -> list[Any]:
    """Current values of variables, unconnected to any recorded computation."""
    return [backend.read(v) for v in variables]


def read_state(model: keras.Model) -> list[tuple[keras.Variable, Any]]:
    """Pairs `(variable, value)` of everything in a model but its trainable weights.

    On torch also the global generators, which dropout without a seed draws from.
    """
    variables = [*model.non_trainable_variables, *model.metrics_variables]
    others = backend.random_states()
    return [*zip(variables, read_values(variables)), *((v, v.value) for v in others)]


def compute_loss(
    model: keras.Model, x: Any, y: Any, outputs: Any, sample_weight: Any, training: bool
) -> Any:
    """`model.compute_loss`, also where a user's override has no `training` argument."""
    if _takes_training(type(model)):
        return model.compute_loss(x, y, outputs, sample_weight, training=training)
    return model.compute_loss(x, y, outputs, sample_weight)


def _takes_training(kind):
    # A dictionary, since `torch.compile` warns of the caches of `functools`.
    if kind not in _KNOWN:
        _KNOWN[kind] = "training" in inspect.signature(kind.compute_loss).parameters
    return _KNOWN[kind]


_KNOWN: dict[type, bool] = {}


def without_samples(batch: Batch) -> Batch:
    """The batch with weights of 0: of an objective, the terms that are no loss of samples are left."""

    def nothing(outputs):
        leaf = next(leaf for leaf in tree.flatten(batch.x) if leaf is not None)
        return ops.zeros((ops.shape(leaf)[0],))

    return batch.replace(sample_weight=nothing)


def sample_losses(loss: Any, y: Any, outputs: Any) -> Any:
    """Per-sample values `(batch,)` of what `compile(loss=…)` was given; several outputs are added up."""
    if isinstance(outputs, CONTAINERS):
        if not isinstance(loss, CONTAINERS):
            named = isinstance(outputs, Mapping)
            loss = dict.fromkeys(outputs, loss) if named else [loss] * len(outputs)
        names = list(loss) if isinstance(loss, Mapping) else range(len(loss))
        names = [name for name in names if loss[name] is not None]
        return sum(sample_losses(loss[name], y[name], outputs[name]) for name in names)
    loss, y = only(loss), only(y)
    loss = keras.losses.get(loss)
    if loss is None:
        raise ValueError("The loss per sample needs `compile(loss=…)`. Received: loss=None")
    outputs = upcast(outputs)  # As Keras does: half precision holds few class ids.
    y = ops.cast(y, outputs.dtype)
    values = loss.call(y, outputs) if isinstance(loss, keras.losses.Loss) else loss(y, outputs)
    if len(values.shape) == 0:
        raise ValueError(
            f"The compiled loss must give a value per sample. Received the scalar of {loss}"
        )
    return per_sample(values)


def resolve_weights(batch: Batch, outputs: Any) -> Any:
    """The sample weights of a batch, or `None`, where they may depend on the outputs.

    A weight per sample that a method computed is shaped to weight all positions of a sequence alike.
    """
    if not callable(batch.sample_weight):
        return batch.sample_weight
    weights = batch.sample_weight(outputs)
    if isinstance(outputs, CONTAINERS) or len(weights.shape) != 1:
        return weights
    weights = ops.reshape(weights, (-1,) + (1,) * max(0, len(outputs.shape) - 2))
    if len(outputs.shape) < 3:
        return weights
    # Spelled out per position: a loss may divide by their sum.
    return weights * ops.cast(ops.ones(ops.shape(outputs)[:-1]), weights.dtype)


def _copied(weights: Any) -> Any:
    """Weights per position that Keras may multiply by a mask in place, as it does on torch."""
    if isinstance(weights, CONTAINERS):
        return tree.map_structure(_copied, weights)
    return ops.copy(weights) if weights is not None and len(weights.shape) > 1 else weights


def only(structure: Any) -> Any:
    """The one entry of a container of one, as Keras takes them for models with one output."""
    if isinstance(structure, CONTAINERS) and len(structure) == 1:
        return next(iter(structure.values() if isinstance(structure, Mapping) else structure))
    return structure


def per_sample(values: Any) -> Any:
    """Mean over all axes but the first."""
    axes = tuple(range(1, len(values.shape)))
    return ops.mean(values, axis=axes) if axes else values
