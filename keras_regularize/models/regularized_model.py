"""The one train step of the package, and the wrapper model that owns it."""

import contextlib
import functools
import warnings
from collections.abc import Mapping
from typing import Any

import keras
from keras import ops, tree

from keras_regularize._export import deserialize_entries, export
from keras_regularize.autodiff import Batch, Forward, backend
from keras_regularize.autodiff.functional import compute_loss, read_state, read_values
from keras_regularize.models import _data
from keras_regularize.models._objective import Aux, Objective, scaled
from keras_regularize.models._recurrent import carried_states


@export
class RegularizedModel(keras.Model):
    r"""Wraps a model and trains it with a step that methods change through four hooks.

    The base class changes nothing: its `fit` is that of the wrapped model, number for number. A method
    overrides the hook it is about; the default of every hook is the wrapped model's own when that is a
    `RegularizedModel` too, so wrappers nest: `SAM(VAT(model))`.

    | hook | called | does |
    |---|---|---|
    | `prepare(batch, forward)` | once a step, undifferentiated | adds what the objective needs to the batch |
    | `objective(batch, forward)` | at every gradient query | the differentiable scalar; pure |
    | `gradients(objective, weights, batch)` | once a step | queries gradients, also at other weights |
    | `after_update(batch, aux, gradients)` | once a step, after the optimizer | stores what was learnt |

    Every pass of a step starts from the same non-trainable state, so dropout masks agree and batch
    normalization moves once. The logged loss is that of the first query at the unperturbed weights;
    `evaluate`, `predict` and `export` are those of the wrapped model. The wrapped model shares its weights
    and stays usable alone. `y` may be a dictionary `{"label": …, "index": …}` whose further columns reach
    the hooks as `batch.columns`.

    Args:
        model: The `keras.Model` to train, built or not, or another wrapper.
        **kwargs: `name` and other arguments of `keras.Model`.

    Raises:
        ValueError: If `model` is not a `keras.Model`.

    Cost: one forward-backward pass per step.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr


    class GradientNoise(kr.models.RegularizedModel):
        "Evaluates the gradient at slightly moved weights."

        def gradients(self, objective, weights, batch):
            return super().gradients(objective, [w * 1.01 for w in weights], batch)


    net = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model = GradientNoise(net)
    model.compile("sgd", "mse")
    model.fit(np.ones((8, 3)), np.zeros((8, 1)), verbose=0)
    ```

    Reference: The step is this package's own; the methods built on it name their papers.
    """

    #: Whether integer labels of -1 mark unlabelled rows.
    semi_supervised = False
    #: Whether the step differentiates through a gradient.
    double_backward = False
    #: What `evaluate` measures beside the compiled metrics: an object with a `metric`, `check_data` and `update`.
    evaluation = None

    def __init__(self, model: keras.Model, **kwargs: Any):
        if not isinstance(model, keras.Model):
            raise ValueError(
                f"`{type(self).__name__}` wraps a `keras.Model`. Received: {model!r} "
                f"of type {type(model).__name__}"
            )
        kwargs.setdefault(
            "dtype", model.dtype_policy
        )  # Decides on loss scaling, as without the wrapper.
        super().__init__(**kwargs)
        self.model = model
        self._column_metrics = []
        self._replicas_synchronized = False
        self._evaluating = False
        self._carried = None

    # Hooks

    def prepare(self, batch: Batch, forward: Forward) -> Batch:
        """Adds to the batch what the objective needs, once a step at the unperturbed weights."""
        inner = self._inner()
        return batch if inner is None else inner.prepare(batch, forward)

    def objective(self, batch: Batch, forward: Forward) -> tuple[Any, dict[str, Any]]:
        """`(loss, values)`: any differentiable scalar, and tensors for `after_update`. Assigns nothing."""
        inner = self._inner()
        return (forward.loss(batch), {}) if inner is None else inner.objective(batch, forward)

    def gradients(
        self, objective: Objective, weights: list[Any], batch: Batch
    ) -> tuple[Any, Aux, list[Any]]:
        """`(loss, aux, gradients)`; call it with other `weights` for the gradient there."""
        inner = self._inner()
        if inner is None:
            return objective.value_and_grad(weights)
        return inner.gradients(objective, weights, batch)

    def after_update(self, batch: Batch, aux: Aux, gradients: list[Any]) -> None:
        """Stores what the step learnt; `aux.values` is what the objective returned beside the loss.

        The place to assign state: not called where a scaled loss overflowed and the optimizer skips the step.
        """
        inner = self._inner()
        if inner is not None:
            inner.after_update(batch, aux, gradients)

    def training_inputs(self, batch: Batch) -> Any:
        """What the wrapped model is called on in training: `batch.x` unless a wrapper feeds it more."""
        inner = self._inner()
        return batch.x if inner is None else inner.training_inputs(batch)

    def check_data(self, x: Any, y: Any) -> None:
        """Raises `ValueError` for data the step cannot use, before Keras traces it.

        Gets arrays, or the specification of a `tf.data.Dataset`; `y` is the label alone.
        """
        inner = self._inner()
        if inner is not None:
            inner.check_data(x, y)

    @property
    def updates_per_batch(self) -> int:
        """How often in a row a batch is prepared, queried and followed by an optimizer step."""
        inner = self._inner()
        return 1 if inner is None else inner.updates_per_batch

    def check_columns(self, columns: Mapping[str, Any]) -> None:
        """Raises `ValueError` for extra columns of `y` the step cannot use, before Keras traces it.

        Gets what `check_data` gets: arrays, or the specifications of a `tf.data.Dataset`.
        """
        inner = self._inner()
        if inner is not None:
            inner.check_columns(columns)

    # The step

    def train_step(self, *arguments: Any) -> Any:
        return backend.train_step(self, self._step, arguments)

    def _step(self, data):
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        if not self.built:
            self(x)  # TensorFlow is the backend on which Keras leaves building to the first step.
        variables = self.trainable_variables
        if not variables:
            warnings.warn("The model does not have any trainable weights.")
        if not self._replicas_synchronized:
            backend.synchronize(self.variables)
            self._replicas_synchronized = True
        loss, aux = self._update(variables, x, y, sample_weight)
        for _ in range(self.updates_per_batch - 1):
            self._update(variables, x, y, sample_weight)

        logs = self._logs(loss, x, y, aux.outputs, sample_weight)
        if backend.average([*self.non_trainable_variables, *self.metrics_variables]):
            logs = self.get_metrics_result()
        return logs

    def _update(self, variables, x, y, sample_weight):
        weights = read_values(variables)
        label, columns = _data.split_columns(y, self)
        sample_weight, _ = _data.split_columns(sample_weight, self)
        step = ops.convert_to_tensor(self.optimizer.iterations)
        batch = Batch(x, label, sample_weight, columns, step, tuple(variables))
        batch = self.prepare(batch, Forward(self, weights, inputs=self.training_inputs))

        if self._carried is None:
            carried = carried_states(self)
            self._carried = lambda: carried  # Behind a function, so that Keras does not track them.
        state = [*read_state(self), *((v, backend.read(v)) for v in self._carried())]
        objective = Objective(self, batch, state, scale=self.optimizer.scale_loss(1.0))
        loss, aux, gradients = self.gradients(objective, weights, batch)

        rescaled = [scaled(g, objective.scale) for g in gradients]
        backend.apply_gradients(self.optimizer, rescaled, variables)
        _assign(state, aux.updates)
        self._remember(objective, batch, aux, gradients)
        return loss, aux

    def _remember(self, objective, batch, aux, gradients):
        """`after_update`, but for a step that the optimizer skips since the scaled loss overflowed."""

        def store():
            self.after_update(batch, aux, gradients)

        if isinstance(objective.scale, float):
            store()
        else:
            finite = [ops.all(ops.isfinite(g)) for g in gradients]
            finite = functools.reduce(ops.logical_and, finite, ops.convert_to_tensor(True))
            backend.run_or_undo(finite, store, self.non_trainable_variables)

    def test_step(self, *arguments: Any) -> Any:
        if self._outermost_evaluation() is None:
            return super().test_step(*arguments)
        return backend.test_step(self, self._measure, arguments)

    def _measure(self, data):
        """Keras' test step, in which what only `evaluate` measures gets the same outputs."""
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        if not self.built:
            self(x)
        state = read_state(self)
        forward = Forward(self, state=state)
        label, _ = _data.split_columns(y, self)
        loss = forward.loss(Batch(x, y, sample_weight), training=False)
        _assign(state, forward.updates)
        weight = None
        if self._is_semi_supervised():
            label, weight = _data.mask_unlabelled(label, forward.outputs, None)
        self._outermost_evaluation().update(self, x, label, forward.outputs, weight)
        return self._logs(loss, x, y, forward.outputs, sample_weight)

    def _logs(self, loss, x, y, outputs, sample_weight):
        """Updates the metrics, of which the first is the tracker of the loss; their results."""
        size = ops.shape(next(leaf for leaf in tree.flatten(x) if leaf is not None))[0]
        self.metrics[0].update_state(loss, sample_weight=size)
        return self.compute_metrics(x, y, outputs, sample_weight)

    def scheduled(self, value: Any, batch: Batch) -> Any:
        """A hyperparameter at the batch's step: the number itself, or the schedule's value there."""
        if isinstance(value, keras.optimizers.schedules.LearningRateSchedule):
            return value(batch.step)
        return value

    # Keras

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        return self.model(inputs, training=training)

    def compile(
        self,
        optimizer: Any = "rmsprop",
        loss: Any = None,
        loss_weights: Any = None,
        metrics: Any = None,
        weighted_metrics: Any = None,
        **kwargs: Any,
    ) -> None:
        """As `keras.Model.compile`.

        Metrics whose `update_state` names a column of `y` (`group`) are given it. In a semi-supervised
        model all metrics see labelled rows only.
        """
        self._compile_arguments = {
            "optimizer": optimizer,
            "loss": loss,
            "loss_weights": loss_weights,
            "metrics": metrics,
            "weighted_metrics": weighted_metrics,
            **kwargs,
        }
        if kwargs.get("jit_compile") is True and not self._compilable():
            warnings.warn(
                "`torch.compile` cannot differentiate through a gradient, as this model's step does: it runs "
                "eagerly. Received: jit_compile=True"
            )
            kwargs["jit_compile"] = False
        metrics, self._column_metrics = _data.split_column_metrics(metrics)
        if self._is_semi_supervised():
            metrics, weighted_metrics = None, _data.join_metrics(metrics, weighted_metrics)
        self._carried = None  # Layers of a model without fixed inputs come with its first batch.
        base = self._base()
        if type(base).compute_loss is not keras.Model.compute_loss:
            # The user's own `compute_loss` acts, and reads the loss compiled into its model.
            optimizer_of_base = base.optimizer if base.compiled else "rmsprop"
            base.compile(optimizer_of_base, loss=loss, loss_weights=loss_weights)
        self._ensure_built()
        super().compile(
            optimizer,
            loss=loss,
            loss_weights=loss_weights,
            metrics=metrics,
            weighted_metrics=weighted_metrics,
            **kwargs,
        )
        self._compile_arguments["optimizer"] = self.optimizer

    def get_compile_config(self) -> dict[str, Any]:
        if not self.compiled:
            return {}
        return keras.saving.serialize_keras_object(self._compile_arguments)

    def compile_from_config(self, config: dict[str, Any]) -> None:
        self.compile(**keras.saving.deserialize_keras_object(config))
        if self.built:
            self.optimizer.build(self.trainable_variables)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True) -> Any:
        y, _ = _data.split_columns(y, self)
        sample_weight, _ = _data.split_columns(sample_weight, self)
        if self._is_semi_supervised():
            y, sample_weight = _data.mask_unlabelled(y, y_pred, sample_weight, rescale=True)
        base = self._base()
        if type(base).compute_loss is keras.Model.compute_loss:
            return super().compute_loss(x, y, y_pred, sample_weight, training)
        return compute_loss(base, x, y, y_pred, sample_weight, training)

    def compute_metrics(self, x, y, y_pred, sample_weight=None) -> dict[str, Any]:
        y, columns = _data.split_columns(y, self)
        sample_weight, _ = _data.split_columns(sample_weight, self)
        if self._is_semi_supervised():
            y, sample_weight = _data.mask_unlabelled(y, y_pred, sample_weight)
        for metric in self._column_metrics:
            _data.update_column_metric(metric, y, y_pred, sample_weight, columns)
        return super().compute_metrics(x, y, y_pred, sample_weight)

    def fit(
        self, x: Any = None, y: Any = None, *args: Any, **kwargs: Any
    ) -> keras.callbacks.History:
        self._check(x, y, kwargs.get("class_weight"))
        with backend.keep_weights_on_error(self):
            return super().fit(x, y, *args, **kwargs)

    def train_on_batch(self, x: Any, y: Any = None, *args: Any, **kwargs: Any) -> Any:
        self._check(x, y, kwargs.get("class_weight"))
        with backend.keep_weights_on_error(self):
            return super().train_on_batch(x, y, *args, **kwargs)

    def evaluate(self, x: Any = None, y: Any = None, *args: Any, **kwargs: Any) -> Any:
        with self._in_evaluation(x, y):
            return super().evaluate(x, y, *args, **kwargs)

    def test_on_batch(self, x: Any, y: Any = None, *args: Any, **kwargs: Any) -> Any:
        with self._in_evaluation(x, y):
            return super().test_on_batch(x, y, *args, **kwargs)

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """Those of Keras, and during `evaluate` what only it measures."""
        if not self._evaluating:
            return super().metrics
        return [*super().metrics, self._outermost_evaluation().metric]

    def load_weights(self, *args: Any, **kwargs: Any) -> None:
        self._ensure_built()
        super().load_weights(*args, **kwargs)

    def save(self, *args: Any, **kwargs: Any) -> None:
        self._ensure_built()
        super().save(*args, **kwargs)

    def save_weights(self, *args: Any, **kwargs: Any) -> None:
        self._ensure_built()
        super().save_weights(*args, **kwargs)

    def export(self, *args: Any, **kwargs: Any) -> None:
        self._ensure_built()
        super().export(*args, **kwargs)

    def summary(self, *args: Any, **kwargs: Any) -> None:
        self._ensure_built()
        super().summary(*args, **kwargs)

    def save_own_variables(self, store: Any) -> None:
        super().save_own_variables(store)
        for i, seed in enumerate(self._seed_states()):
            store[f"seed_{i}"] = seed.numpy()

    def load_own_variables(self, store: Any) -> None:
        # Keras saves no seeds; without them training would not go on where it stopped.
        seeds = {key: store[key] for key in store.keys() if key.startswith("seed_")}
        super().load_own_variables({k: store[k] for k in store.keys() if k not in seeds})
        for i, seed in enumerate(self._seed_states()):
            if f"seed_{i}" in seeds:
                seed.assign(seeds[f"seed_{i}"])

    def _seed_states(self):
        return [v for v in self.non_trainable_variables if v.name == "seed_generator_state"]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "model": keras.saving.serialize_keras_object(self.model)}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> "RegularizedModel":
        return cls(**deserialize_entries(config, custom_objects))

    # Wrapping

    @property
    def output_names(self) -> list[str] | None:
        """Names of the wrapped model's outputs, by which Keras assigns losses and metrics."""
        return getattr(self._base(), "output_names", None)

    def _inner(self):
        return self.model if isinstance(self.model, RegularizedModel) else None

    def _chain(self):
        model = self
        while isinstance(model, RegularizedModel):
            yield model
            model = model.model

    def _base(self):
        return list(self._chain())[-1].model

    def _is_semi_supervised(self):
        return any(wrapper.semi_supervised for wrapper in self._chain())

    def _compilable(self):
        double_backward = any(wrapper.double_backward for wrapper in self._chain())
        return backend.COMPILES_DOUBLE_BACKWARD or not double_backward

    def _outermost_evaluation(self):
        found = (wrapper.evaluation for wrapper in self._chain())
        return next((evaluation for evaluation in found if evaluation is not None), None)

    @contextlib.contextmanager
    def _in_evaluation(self, x, y):
        evaluation = self._outermost_evaluation()
        if evaluation is None or not self.compiled:
            yield
            return
        x, y = _data.specification(x, y)
        if x is not None:
            evaluation.check_data(x, _data.split_columns(y, self)[0])
        self._evaluating = True
        try:
            with backend.keep_weights_on_error(self):
                yield
        finally:
            self._evaluating = False

    def _ensure_built(self):
        # A symbolic call, not `build`: that locks the state before a subclass has made its variables.
        if not self.built and self._base().built and getattr(self._base(), "inputs", None):
            self(self._symbolic_inputs())

    def _symbolic_inputs(self):
        if self._inner() is not None:
            return self._inner()._symbolic_inputs()
        model = self.model
        inputs = model.inputs[0] if isinstance(model, keras.Sequential) else model.input
        return tree.map_structure(
            lambda t: keras.Input(batch_shape=t.shape, dtype=t.dtype, name=t.name), inputs
        )

    def _check(self, x, y, class_weight):
        if not self.compiled:
            return  # Keras says so itself.
        x, y = _data.specification(x, y)
        if class_weight is not None and isinstance(y, Mapping):
            raise ValueError(
                "`class_weight` needs plain labels. Received a dictionary "
                f"{sorted(y)}; pass the weights as `sample_weight` instead."
            )
        if x is not None:
            label, columns = _data.split_columns(y, self)
            self.check_data(x, label)
            self.check_columns(columns)


def _assign(state, updates):
    """Stores what a pass changed of the state it started from."""
    for position, value in updates.items():
        state[int(position)][0].assign(value)
