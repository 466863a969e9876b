"""The wrapper model whose train step methods change."""

import itertools
import warnings
from typing import Any

import keras

from keras_regularize.autodiff import backend
from keras_regularize.models.step import columns, inside
from keras_regularize.models.step.evaluation import Evaluation
from keras_regularize.models.step.measuring import Measuring
from keras_regularize.models.step.saving import Saving
from keras_regularize.models.step.training import Training
from keras_regularize.registration import export


@export
class RegularizedModel(Training, Evaluation, Measuring, Saving, keras.Model):
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

    Reference: None; the step is this package's own; the methods built on it name their papers.
    """

    def __init__(self, model: keras.Model, **kwargs: Any):
        if not isinstance(model, keras.Model):
            raise ValueError(
                f"`{type(self).__name__}` wraps a `keras.Model`. Received: {model!r} "
                f"of type {type(model).__name__}"
            )
        if not isinstance(model, RegularizedModel):
            inside.refuse_own_train_step(type(self).__name__, model)
        kwargs.setdefault(
            "dtype", model.dtype_policy
        )  # Decides on loss scaling, as without the wrapper.
        super().__init__(**kwargs)
        self.model = model
        #: The key of this wrapper's notes in `batch.extra` and in the values of an objective: names may repeat.
        self.key = f"{self.name}_{next(_KEYS)}"
        self._column_metrics: list[keras.metrics.Metric] = []
        self._outputs_seen = None
        self.loss_weights = None
        self._replicas_synchronized = False
        self._evaluating = False
        self._has_metrics_inside = False
        self._carried = None

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        outputs = self.model(inputs, training=training)
        if self._outputs_seen is None:
            self._outputs_seen = inside.without_tensors(outputs)
        return outputs

    def compute_output_spec(
        self, inputs: Any, training: bool | None = None, mask: Any = None
    ) -> Any:
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
        metrics, self._column_metrics = columns.split_column_metrics(metrics)
        if self.is_semi_supervised():
            metrics, weighted_metrics = None, columns.join_metrics(metrics, weighted_metrics)
        self._carried = None  # Layers of a model without fixed inputs come with its first batch.
        given = {
            "loss": loss,
            "loss_weights": loss_weights,
            "metrics": metrics,
            "weighted_metrics": weighted_metrics,
            **kwargs,
        }
        self.loss_weights = loss_weights
        given = inside.compile_inside(self.innermost, "rmsprop", given)
        self.ensure_built()
        super().compile(optimizer, **given)
        self._has_metrics_inside = bool(inside.metrics_inside(self.innermost))
        self._compile_arguments["optimizer"] = self.optimizer

    def get_compile_config(self) -> dict[str, Any]:
        if not self.compiled:
            return {}
        return keras.saving.serialize_keras_object(self._compile_arguments)

    def compile_from_config(self, config: dict[str, Any]) -> None:
        self.compile(**keras.saving.deserialize_keras_object(config))
        if self.built:
            self.optimizer.build(self.trainable_variables)

    def _compilable(self):
        double_backward = any(wrapper.double_backward for wrapper in self.wrappers())
        return backend.COMPILES_DOUBLE_BACKWARD or not double_backward

    def get_layer(self, name: str | None = None, index: int | None = None) -> keras.layers.Layer:
        """A layer of the wrapped model."""
        return self.model.get_layer(name=name, index=index)

    @property
    def inputs(self) -> Any:
        """Symbolic inputs of the wrapped model."""
        return self.innermost.inputs

    @property
    def outputs(self) -> Any:
        """Symbolic outputs of the wrapped model."""
        return self.innermost.outputs

    @property
    def output_names(self) -> list[str] | None:
        """Names of the wrapped model's outputs, by which Keras assigns losses and metrics."""
        return getattr(self.innermost, "output_names", None)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "model": keras.saving.serialize_keras_object(self.model)}


_KEYS = itertools.count()
