"""A Keras model as a function of its weights: predictions and losses that leave the model untouched."""

import contextlib
import dataclasses
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
from keras import ops, tree

from keras_regularize.autodiff import backend
from keras_regularize.autodiff.compiled_losses import (
    CONTAINERS,
    CompiledLoss,
    masked_sample_mean,
    weighted_sample_losses,
)
from keras_regularize.autodiff.taps import recorded_output
from keras_regularize.numerics import upcast


@dataclasses.dataclass(frozen=True, eq=False)
class Batch:
    """What a train step works on; immutable, changed copies come from `replace`.

    Attributes:
        x: Inputs, any nested structure the model takes.
        y: Labels as the compiled loss gets them.
        sample_weight: Weights per sample (or per position), an array or `None`.
        reweighting: A function `outputs -> factors (batch,)` of a method that weights samples by what the model
            gives out for them, or `None`. `Forward.loss` and `Forward.sample_mean` multiply the sample weights
            by its factors.
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
    reweighting: Callable[[Any], Any] | None = None
    loss_weight: Any = 1.0

    def replace(self, **changes: Any) -> "Batch":
        """A copy with other values."""
        return dataclasses.replace(self, **changes)

    def reweight(self, factors: Callable[[Any], Any]) -> "Batch":
        """A copy whose samples weigh `factors(outputs)`, `(batch,)` or a scalar, times as much."""
        known = self.reweighting
        if known is None:
            return self.replace(reweighting=factors)
        return self.replace(reweighting=lambda outputs: known(outputs) * factors(outputs))

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
        self.outputs: Any = None
        self.updates: Any = None
        self._state = read_state(model) if state is None else state
        self._weights = list(zip(model.trainable_variables, weights))
        self._inputs_of_loss = None
        self._watched: list[keras.layers.Layer] = []
        self._records: dict[int, list[Any]] = {}
        self._inputs = inputs or (lambda batch: batch.x)

    def __call__(self, x: Any, training: bool = False) -> Any:
        """Predicts; updates of batch statistics and seeds are dropped."""
        with self._scope():
            return self.model(x, training=training)

    def outputs_and_penalties(self, x: Any) -> tuple[Any, Any]:
        """Predictions, and the sum of `add_loss`, activity and weight penalties of the same pass."""
        with self._scope():
            outputs = self.model(x, training=False)
            return outputs, sum([ops.sum(upcast(p)) for p in self.model.losses], 0.0)

    def loss(self, batch: Batch, training: bool = True) -> Any:
        """The model's own objective on a batch: compiled loss, `add_loss`, activity and weight penalties.

        The first call keeps its outputs and state updates, for the metrics and for the step to store.
        """
        with self._scope() as current:
            before = [current(v) for v, _ in self._state]
            x = self._inputs(batch)
            with _recorded(self._watched) as records:
                outputs = self.model(x, training=training)
            # The whole loss but for penalties, by a factor that no reduction divides out.
            weighted = not (isinstance(batch.loss_weight, float) and batch.loss_weight == 1.0)
            penalties = sum(self.model.losses) if weighted else 0.0
            if batch.reweighting is None:
                weight = _copied(batch.sample_weight)
                loss = compute_loss(self.model, batch.x, batch.y, outputs, weight, training)
                # Keras divides by the replicas here; a step does so once for its whole objective.
                replicas = backend.num_replicas()
                loss = loss if replicas == 1 else loss * replicas
            else:
                loss = self._reweighted_loss(batch, outputs, training)
            after = [current(v) for v, _ in self._state]
        if self.updates is None:
            self.outputs, self._inputs_of_loss, self._records = outputs, x, records
            self.updates = {
                str(i): new for i, (old, new) in enumerate(zip(before, after)) if new is not old
            }
        if not weighted:
            return loss
        factor = ops.cast(batch.loss_weight, loss.dtype)
        penalties = ops.cast(penalties, loss.dtype)
        return factor * loss + (1.0 - factor) * penalties

    def _reweighted_loss(self, batch, outputs, training):
        """The loss with the factors of `batch.reweighting`, which no reduction of a loss divides out."""
        # Before the factors, which may wait for other replicas: meanwhile those forget the activity losses.
        penalties = [ops.sum(upcast(loss)) for loss in self.model.losses]
        if _computes_own_loss(self.model):
            weights = _for_positions(resolve_weights(batch, outputs), outputs)
            loss = compute_loss(self.model, batch.x, batch.y, outputs, _copied(weights), training)
            left = [ops.sum(upcast(loss)) for loss in self.model.losses]
            return loss * backend.num_replicas() + (sum(penalties) - sum(left))
        if isinstance(outputs, CONTAINERS):
            # Moves the trackers that Keras has for the loss of each.
            compute_loss(self.model, batch.x, batch.y, outputs, batch.sample_weight, training)
        if batch.reweighting is _nothing:
            return sum(penalties) if penalties else ops.zeros((), "float32")
        losses, weights = self.weighted_losses(batch, outputs)
        factors = ops.cast(batch.reweighting(outputs), losses.dtype)
        return sum(penalties, ops.mean(factors * weights * losses))

    def penalties(self, batch: Batch) -> Any:
        """`loss` without the compiled loss, for the methods that put their own in its place."""
        return self.loss(without_samples(batch))

    def sample_mean(self, values: Any, batch: Batch) -> Any:
        """Mean of `(batch,)` or `(batch, positions …)` values with weights and mask, as Keras reduces a loss.

        The mask is that of the outputs `loss` or `penalties` kept, on which `reweighting` may depend.
        """
        weights = resolve_weights(batch, self.outputs)
        return masked_sample_mean(values, self.outputs, weights) * batch.loss_weight

    def outputs_at(self, x: Any) -> Any:
        """Training outputs for `x`: those of the first `loss` call if it was on the same inputs."""
        return self.outputs if self._inputs_of_loss is x else self(x, training=True)

    def watch(self, layers: Sequence[keras.layers.Layer]) -> None:
        """Lets the first `loss` call keep what these layers give out, so that `layer_outputs_at` need not run."""
        self._watched = [*self._watched, *layers]

    def layer_outputs_at(self, x: Any, layers: Sequence[keras.layers.Layer]) -> list[list[Any]]:
        """What each layer gives out in training for `x`, call by call; see `outputs_at`."""
        records = self._records
        if self._inputs_of_loss is not x or any(id(layer) not in records for layer in layers):
            with _recorded(layers) as records:
                self(x, training=True)
        return [records[id(layer)] for layer in layers]

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
        """The compiled loss of every sample, `(batch,)`, without weights and penalties.

        The mean over the positions of a sample that are neither masked nor ignored by the loss.
        """
        return weighted_sample_losses(
            CompiledLoss.of(self.model, outputs).output_losses(y, outputs)
        )[0]

    def weighted_losses(self, batch: Batch, outputs: Any) -> tuple[Any, Any]:
        """`(losses, weights)`, both `(batch,)`: the mean of their product is the compiled loss of the batch.

        Weights are those of `batch.sample_weight`, not of its `reweighting`; they count unmasked positions, and
        the unlabelled rows of a semi-supervised model weigh nothing.
        """
        y, sample_weight = batch.y, batch.sample_weight
        if hasattr(self.model, "mask_unlabelled"):
            y, sample_weight = self.model.mask_unlabelled(y, outputs, sample_weight, rescale=True)
        entries = CompiledLoss.of(self.model, outputs).output_losses(y, outputs, sample_weight)
        return weighted_sample_losses(entries)

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


@contextlib.contextmanager
def _recorded(layers):
    """Context that yields what each of some layers gives out in it: lists, by the `id` of the layer."""
    with contextlib.ExitStack() as taps:
        known = {id(layer): layer for layer in layers}
        yield {key: taps.enter_context(recorded_output(layer)) for key, layer in known.items()}


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


def _computes_own_loss(model):
    if hasattr(model, "computes_own_loss"):
        return model.computes_own_loss
    return type(model).compute_loss is not keras.Model.compute_loss


def _for_positions(weights, outputs):
    """Weights of samples that weigh all positions of a sequence alike."""
    if (
        isinstance(outputs, CONTAINERS)
        or isinstance(weights, CONTAINERS)
        or len(weights.shape) != 1
    ):
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


def without_samples(batch: Batch) -> Batch:
    """The batch with weights of 0: of an objective, the terms that are no loss of samples are left."""
    return batch.replace(reweighting=_nothing)


def _nothing(outputs):
    leaf = next(leaf for leaf in tree.flatten(outputs) if leaf is not None)
    return ops.zeros((ops.shape(leaf)[0],))


def resolve_weights(batch: Batch, outputs: Any) -> Any:
    """Sample weights times the factors of `reweighting`, or `None`; a structure where the weights are one."""
    if batch.reweighting is None:
        return batch.sample_weight
    factors = batch.reweighting(outputs)
    if batch.sample_weight is None:
        return factors

    def product(weight):
        weight = ops.cast(ops.convert_to_tensor(weight), factors.dtype)
        return weight * ops.reshape(factors, (-1,) + (1,) * (len(weight.shape) - 1))

    return tree.map_structure(product, batch.sample_weight)
