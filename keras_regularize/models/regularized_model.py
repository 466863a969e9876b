"""The one train step of the package, and the wrapper model that owns it."""

import contextlib
import functools
import itertools
import warnings
from collections.abc import Mapping
from typing import Any

import keras
from keras import ops, tree

from keras_regularize._export import deserialize_entries, export
from keras_regularize.autodiff import Batch, Forward, backend
from keras_regularize.autodiff.compiled_losses import CONTAINERS
from keras_regularize.autodiff.functional import compute_loss, read_state, read_values
from keras_regularize.models import _data, _wrapped
from keras_regularize.models._objective import Aux, Objective, scaled
from keras_regularize.models._recurrent import carried_states
from keras_regularize.scores import one_label


@export
class RegularizedModel(keras.Model):
    r"""Wraps a model and trains it with a step that methods change through four hooks.

    The base class changes nothing: its `fit` is that of the wrapped model, number for number, with two exceptions
    on single backends. On TensorFlow plain Keras hands the optimizer the rows of an `Embedding`'s gradient one
    by one; Adam, RMSprop and Adagrad then square an id that repeats in a batch entry by entry, where the gradient
    is their sum. Wrappers take the sum, as JAX and torch do; the gradient of a table is then as large as the
    table (a step with very large ones costs what a dense update of them does). On torch plain Keras cannot train
    stateful LSTMs and GRUs; wrappers can. A method
    overrides the hook it is about; the default of every hook is the wrapped model's own when that is a
    `RegularizedModel` too, so wrappers nest: `SAM(VAT(model))`.

    | hook | called | does |
    |---|---|---|
    | `prepare(batch, forward)` | once a step, undifferentiated | adds what the objective needs to the batch |
    | `objective(batch, forward)` | at every gradient query | the differentiable scalar; pure |
    | `gradients(objective, weights, batch)` | once a step | queries gradients, also at other weights |
    | `after_update(batch, aux, gradients)` | once a step, after the optimizer | stores what was learnt |

    Every pass of a step starts from the same non-trainable state, so dropout masks agree and batch
    normalization moves once. The logged loss is that of the first query at the unperturbed weights.

    The wrapped model shares its weights and stays usable alone. `evaluate`, `predict` and `export` are its own,
    and what its class defines acts: `compute_loss`, `compute_metrics`, `metrics`, `test_step`, `predict_step`,
    further arguments of `compile`, and the preprocessor of a KerasHub task, for `fit` on strings. Only a
    `train_step` of its own is refused, since two steps cannot both act.

    `y` may be a dictionary `{"label": …, "index": …}` whose further columns reach the hooks as `batch.columns`,
    unless the model takes a dictionary with that key itself: for an output `"label"`, or in a `compute_loss` of
    its own (then only wrappers that name columns in `reads_columns` take it apart).

    Args:
        model: The `keras.Model` to train, built or not, or another wrapper.
        **kwargs: `name` and other arguments of `keras.Model`.

    Raises:
        ValueError: If `model` is not a `keras.Model`, or has a `train_step` of its own.

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
    #: Whether predictions are the method's own, so that a `test_step` or `predict_step` of the model cannot act.
    predicts_itself = False
    #: Names of the columns of `y` that the method reads.
    reads_columns = ()

    def __init__(self, model: keras.Model, **kwargs: Any):
        if not isinstance(model, keras.Model):
            raise ValueError(
                f"`{type(self).__name__}` wraps a `keras.Model`. Received: {model!r} "
                f"of type {type(model).__name__}"
            )
        if not isinstance(model, RegularizedModel):
            _wrapped.refuse_own_train_step(type(self).__name__, model)
        kwargs.setdefault(
            "dtype", model.dtype_policy
        )  # Decides on loss scaling, as without the wrapper.
        super().__init__(**kwargs)
        self.model = model
        #: The key of this wrapper's notes in `batch.extra` and in the values of an objective: names may repeat.
        self.key = f"{self.name}_{next(_KEYS)}"
        self._column_metrics = []
        self._outputs_seen = None
        self.loss_weights = None
        self._replicas_synchronized = False
        self._evaluating = False
        self._has_metrics_inside = False
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

    def check_loss(self, model: keras.Model) -> None:
        """Raises `ValueError` for a compiled loss the step cannot use, before Keras traces it.

        Gets the outermost wrapper, which was compiled.
        """
        inner = self._inner()
        if inner is not None:
            inner.check_loss(model)

    def check_data(self, x: Any, y: Any) -> None:
        """Raises `ValueError` for data the step cannot use, before Keras traces it.

        Gets arrays, or the specification of a `tf.data.Dataset`, or if `checks_values` the first batch of any
        dataset; `y` is the label alone.
        """
        inner = self._inner()
        if inner is not None:
            inner.check_data(x, y)

    @property
    def checks_values(self) -> bool:
        """Whether `check_data` looks at values, so that it gets the first batch of a dataset."""
        inner = self._inner()
        return inner is not None and inner.checks_values

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
        label, columns = self.split_columns(y)
        sample_weight, _ = self.split_columns(sample_weight)
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
        if self._outermost_evaluation() is None and not self.is_semi_supervised():
            return super().test_step(*arguments)
        return backend.test_step(self, self._measure, arguments)

    def predict_step(self, *arguments: Any) -> Any:
        if not self._acts_inside("predict_step"):
            return super().predict_step(*arguments)
        return backend.predict_step(self, self._base(), arguments)

    def _measure(self, data):
        """Keras' test step, in which what only `evaluate` measures gets the same outputs.

        In a semi-supervised model the loss is the mean over all labelled rows, however they are spread over
        batches.
        """
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        if not self.built:
            self(x)
        state = read_state(self)
        forward = Forward(self, state=state)
        label, _ = self.split_columns(y)
        loss = forward.loss(Batch(x, y, sample_weight), training=False)
        _assign(state, forward.updates)
        label, weight = self.mask_unlabelled(label, forward.outputs, None)
        sizes = [ops.sum(part) for part in tree.flatten(weight) if part is not None]
        size = sum(sizes) / len(sizes) if sizes else None
        evaluation = self._outermost_evaluation()
        if evaluation is not None:
            weight = one_label(weight, forward.outputs, self)
            evaluation.update(self, x, label, forward.outputs, weight)
        return self._logs(loss, x, y, forward.outputs, sample_weight, size)

    def _logs(self, loss, x, y, outputs, sample_weight, size=None):
        """Updates the metrics, of which the first is the tracker of the loss; their results."""
        if size is None:
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
        outputs = self.model(inputs, training=training)
        if self._outputs_seen is None:
            self._outputs_seen = _wrapped.without_tensors(outputs)
        return outputs

    def compute_output_spec(self, inputs: Any, training: bool | None = None, mask: Any = None):
        # Operation by operation: a trace of the whole takes all unknown sizes for one and the same, while the
        # model inside knows its own.
        return self.call(inputs, training=training)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return self.model.compute_output_shape(input_shape)

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
        model all metrics see labelled rows only. Further arguments that only the wrapped model's `compile` knows
        reach it.
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
        if self.is_semi_supervised():
            metrics, weighted_metrics = None, _data.join_metrics(metrics, weighted_metrics)
        self._carried = None  # Layers of a model without fixed inputs come with its first batch.
        given = {
            "loss": loss,
            "loss_weights": loss_weights,
            "metrics": metrics,
            "weighted_metrics": weighted_metrics,
            **kwargs,
        }
        self.loss_weights = loss_weights
        given = _wrapped.compile_inside(self._base(), "rmsprop", given)
        self._ensure_built()
        super().compile(optimizer, **given)
        self._has_metrics_inside = bool(_wrapped.metrics_inside(self._base()))
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
        y, _ = self.split_columns(y)
        sample_weight, _ = self.split_columns(sample_weight)
        y, sample_weight = self.mask_unlabelled(y, y_pred, sample_weight, rescale=True)
        base = self._base()
        if not _wrapped.overrides(base, "compute_loss"):
            return super().compute_loss(x, y, y_pred, sample_weight, training)
        return compute_loss(base, x, y, y_pred, sample_weight, training)

    def compute_metrics(self, x, y, y_pred, sample_weight=None) -> dict[str, Any]:
        y, columns = self.split_columns(y)
        sample_weight, _ = self.split_columns(sample_weight)
        y, sample_weight = self.mask_unlabelled(y, y_pred, sample_weight)
        for metric in self._column_metrics:
            _data.update_column_metric(metric, y, y_pred, sample_weight, columns)
        if not _wrapped.overrides(self._base(), "compute_metrics"):
            return super().compute_metrics(x, y, y_pred, sample_weight)
        logs = dict(self._base().compute_metrics(x, y, y_pred, sample_weight))
        one = ops.ones((1, 1))
        super().compute_metrics(None, one, one)  # Only builds, see `_wrapped.Unmoved`.
        if "loss" in logs:
            logs["loss"] = self.metrics[0].result()
        return {**logs, **{metric.name: metric.result() for metric in self._column_metrics}}

    def get_metrics_result(self) -> dict[str, Any]:
        results = super().get_metrics_result()
        results.pop(_wrapped.Unmoved.NAME, None)
        if "loss" in results:  # Also the name of a tracker that the model inside was compiled with.
            results["loss"] = self.metrics[0].result()
        return results

    def fit(
        self, x: Any = None, y: Any = None, *args: Any, **kwargs: Any
    ) -> keras.callbacks.History:
        x, y = self._prepare_into(kwargs, x, y)
        validation = kwargs.get("validation_data")
        if isinstance(validation, (list, tuple)):
            validation = keras.utils.pack_x_y_sample_weight(*self._prepared(*validation))
        elif validation is not None:
            validation, _, _ = self._prepared(validation)
        x = self._check(x, y, kwargs.get("class_weight"))
        if validation is not None:
            kwargs["validation_data"] = self._check_validation(validation)
        with backend.keep_weights_on_error(self):
            return super().fit(x, y, *args, **kwargs)

    def train_on_batch(
        self, x: Any, y: Any = None, sample_weight: Any = None, **kwargs: Any
    ) -> Any:
        x, y, sample_weight = self._prepared(x, y, sample_weight)
        self._check(x, y, kwargs.get("class_weight"))
        with backend.keep_weights_on_error(self):
            return super().train_on_batch(x, y, sample_weight, **kwargs)

    def evaluate(self, x: Any = None, y: Any = None, *args: Any, **kwargs: Any) -> Any:
        if not kwargs.get(
            "_use_cached_eval_dataset"
        ):  # By which `fit` passes what it has prepared.
            x, y = self._prepare_into(kwargs, x, y)
        if self._acts_inside("test_step"):
            return self._evaluate_inside("evaluate", x, y, *args, **kwargs)
        with self._in_evaluation(x, y) as x:
            return super().evaluate(x, y, *args, **kwargs)

    def test_on_batch(self, x: Any, y: Any = None, sample_weight: Any = None, **kwargs: Any) -> Any:
        x, y, sample_weight = self._prepared(x, y, sample_weight)
        if self._acts_inside("test_step"):
            return self._evaluate_inside(
                "test_on_batch", x, y, sample_weight=sample_weight, **kwargs
            )
        with self._in_evaluation(x, y) as x:
            return super().test_on_batch(x, y, sample_weight, **kwargs)

    def _evaluate_inside(self, how, x, y, *args, **kwargs):
        """Evaluates the wrapped model by a `test_step` of its own, and beside it what only we measure."""
        kwargs.pop("_use_cached_eval_dataset", None)
        as_dictionary, kwargs["return_dict"] = kwargs.get("return_dict", False), True
        y, kwargs["sample_weight"] = (
            self.split_columns(given)[0] for given in (y, kwargs.get("sample_weight"))
        )
        logs = getattr(self._base(), how)(x, y, *args, **kwargs)
        evaluation = self._outermost_evaluation()
        if evaluation is not None:
            with self._in_evaluation(x, y):
                name = evaluation.metric.name
                logs = {**logs, name: getattr(super(), how)(x, y, *args, **kwargs)[name]}
        return logs if as_dictionary else list(logs.values())

    def predict(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        return super().predict(self._prepared(x)[0], *args, **kwargs)

    def predict_on_batch(self, x: Any) -> Any:
        return super().predict_on_batch(self._prepared(x)[0])

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """Those of Keras and of the wrapped model itself, and during `evaluate` what only it measures."""
        if not self._evaluating and not self._has_metrics_inside:
            return super().metrics  # Nothing more is done with it, for the sake of `torch.compile`.
        metrics = super().metrics
        known = {id(metric) for metric in metrics}
        inside = _wrapped.metrics_inside(self._base()) if self._has_metrics_inside else []
        metrics = [*metrics, *(metric for metric in inside if id(metric) not in known)]
        return [*metrics, self._outermost_evaluation().metric] if self._evaluating else metrics

    def get_layer(self, name: str | None = None, index: int | None = None) -> keras.layers.Layer:
        """A layer of the wrapped model."""
        return self.model.get_layer(name=name, index=index)

    @property
    def inputs(self) -> Any:
        """Symbolic inputs of the wrapped model."""
        return self._base().inputs

    @property
    def outputs(self) -> Any:
        """Symbolic outputs of the wrapped model."""
        return self._base().outputs

    def load_weights(self, filepath: Any, *args: Any, **kwargs: Any) -> None:
        self._ensure_built()
        try:
            super().load_weights(filepath, *args, **kwargs)
        except ValueError as error:
            raise ValueError(
                f"{error}\n\nA file of weights that the wrapped model wrote is loaded by "
                f"`{self.name}.model.load_weights`."
            ) from error

    def build_from_config(self, config: dict[str, Any]) -> None:
        self._ensure_built()
        if not self.built:
            super().build_from_config(config)

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

    def is_semi_supervised(self) -> bool:
        """Whether this wrapper or one inside takes rows without labels."""
        return any(wrapper.semi_supervised for wrapper in self._chain())

    @property
    def computes_own_loss(self) -> bool:
        """Whether `compute_loss` is not that of Keras, so that no loss per sample is known."""
        own = type(self).compute_loss is not RegularizedModel.compute_loss
        return own or _wrapped.overrides(self._base(), "compute_loss")

    def mask_unlabelled(
        self, y: Any, outputs: Any, sample_weight: Any, rescale: bool = False
    ) -> tuple[Any, Any]:
        """Labels and weights without the unlabelled rows of a semi-supervised model; as they are for others.

        With `rescale`, the weights turn a mean over all rows into the mean over labelled ones. Of several outputs
        each with a loss has unlabelled rows of its own.
        """
        if not self.is_semi_supervised():
            return y, sample_weight
        if isinstance(outputs, CONTAINERS) or isinstance(y, CONTAINERS):
            if y is None or self.computes_own_loss:  # Which alone knows what is whose label.
                return y, sample_weight
            return _data.mask_unlabelled_outputs(self, y, outputs, sample_weight, rescale)
        return _data.mask_unlabelled(y, outputs, sample_weight, rescale)

    def split_columns(self, y: Any) -> tuple[Any, dict[str, Any]]:
        """`(label, other columns)` of what was passed as `y`; sample weights too.

        Beside a dictionary of columns, Keras repeats the sample weights for each.
        """
        if not isinstance(y, Mapping) or _wrapped.LABEL not in y or self._takes_label():
            return y, {}
        return y[_wrapped.LABEL], {n: column for n, column in y.items() if n != _wrapped.LABEL}

    def _takes_label(self):
        base = self._base()
        reads = self._column_metrics or any(wrapper.reads_columns for wrapper in self._chain())
        structure = _wrapped.output_structure(base)
        if structure is None:
            structure = self._outputs_seen
        return _wrapped.takes_label(base, getattr(self, "loss", None), structure, bool(reads))

    def _acts_inside(self, name):
        """Whether a step is one that the wrapped model has of its own."""
        if any(wrapper.predicts_itself for wrapper in self._chain()):
            return False
        return _wrapped.overrides(self._base(), name)

    def _prepared(self, x, y=None, sample_weight=None):
        return _wrapped.prepared(self._base(), x, y, sample_weight)

    def _prepare_into(self, kwargs, x, y):
        x, y, sample_weight = self._prepared(x, y, kwargs.get("sample_weight"))
        if sample_weight is not None:
            kwargs["sample_weight"] = sample_weight
        return x, y

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
            yield x
            return
        x = self._check_evaluation(x, y)
        self._evaluating = True
        try:
            with backend.keep_weights_on_error(self):
                yield x
        finally:
            self._evaluating = False

    def _ensure_built(self):
        # A symbolic call, not `build`: that locks the state before a subclass has made its variables.
        if not self.built and self._base().built and getattr(self._base(), "inputs", None):
            # From the inside out: with a part that is not built, Keras traces the whole as one call.
            for wrapper in reversed(list(self._chain())):
                wrapper._build_parts()
                if not wrapper.built:
                    wrapper(wrapper._symbolic_inputs())

    def _build_parts(self):
        """Creates variables that need the weights of the model inside; else Keras traces a call to do so."""

    def _symbolic_inputs(self):
        if self._inner() is not None:
            return self._inner()._symbolic_inputs()
        model = self.model
        inputs = model.inputs[0] if isinstance(model, keras.Sequential) else model.input
        return tree.map_structure(
            lambda t: keras.Input(batch_shape=t.shape, dtype=t.dtype, name=t.name), inputs
        )

    def _check(self, x, y, class_weight):
        """`x` to go on with, after a look at it."""
        if not self.compiled:
            return x  # Keras says so itself.
        self.check_loss(self)
        x, y, data = self._seen(x, y, self.checks_values)
        if class_weight is not None and isinstance(y, Mapping):
            raise ValueError(
                "`class_weight` needs plain labels. Received a dictionary "
                f"{sorted(y)}; pass the weights as `sample_weight` instead."
            )
        if x is not None:
            label, columns = self.split_columns(y)
            self.check_data(x, label)
            self.check_columns(columns)
        return data

    def _check_evaluation(self, x, y):
        """`x` to go on with, after a look at it for what `evaluate` measures."""
        evaluation = self._outermost_evaluation()
        x, y, data = self._seen(x, y, evaluation.checks_values)
        if x is not None:
            evaluation.check_data(x, self.split_columns(y)[0])
        return data

    def _check_validation(self, data):
        """As `_check_evaluation`, for what `fit` passes to `evaluate` after an epoch."""
        if self._outermost_evaluation() is None or not self.compiled:
            return data
        if not isinstance(data, (list, tuple)):
            return self._check_evaluation(data, None)
        x, y, _ = keras.utils.unpack_x_y_sample_weight(data)
        self._check_evaluation(x, y)
        return data

    def _seen(self, x, y, values):
        """`(x, y)` to look at, `(None, None)` if there is nothing, and the data to go on with."""
        first = None
        if values:
            first, x = _data.peek(x)
        if first is None:
            return *_data.specification(x, y), x
        return *keras.utils.unpack_x_y_sample_weight(first)[:2], x


_KEYS = itertools.count()


def _assign(state, updates):
    """Stores what a pass changed of the state it started from."""
    for position, value in updates.items():
        state[int(position)][0].assign(value)
