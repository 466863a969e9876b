"""The one train step of the package."""

import functools
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
from keras import ops

from keras_regularize.autodiff import Batch, Forward, backend
from keras_regularize.autodiff.functional import read_state, read_values
from keras_regularize.models.step.averages import keep_apart
from keras_regularize.models.step.callbacks import with_own_callbacks
from keras_regularize.models.step.data import refuse_lost_weights, seen
from keras_regularize.models.step.hooks import Hooks
from keras_regularize.models.step.inside import prepared, prepared_into
from keras_regularize.models.step.objective import Objective, assign_updates, scaled
from keras_regularize.models.step.recurrent import carried_states


class Training(Hooks):
    """`fit` and `train_on_batch`: prepares a batch, queries gradients, lets the optimizer step, remembers."""

    _replicas_synchronized: bool
    _carried: Callable[[], list[Any]] | None

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
        objective = Objective(self, batch, state, scale=self.loss_scale())
        loss, aux, gradients = self.gradients(objective, weights, batch)

        self.apply_gradients([scaled(g, objective.scale) for g in gradients], variables)
        assign_updates(state, aux.updates)
        self._remember(objective, batch, aux, gradients)
        return loss, aux

    def loss_scale(self) -> Any:
        """By what the objective is multiplied before it is differentiated, 1 but in mixed precision."""
        return self.optimizer.scale_loss(1.0)

    def apply_gradients(self, gradients: list[Any], variables: Sequence[keras.Variable]) -> None:
        """Lets the optimizer step, by gradients of the scaled objective."""
        backend.apply_gradients(self.optimizer, gradients, variables)

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

    def fit(
        self, x: Any = None, y: Any = None, *args: Any, **kwargs: Any
    ) -> keras.callbacks.History:
        x, y = prepared_into(self.innermost, kwargs, x, y)
        validation = kwargs.get("validation_data")
        if isinstance(validation, (list, tuple)):
            parts = prepared(self.innermost, *validation)
            refuse_lost_weights(*parts[1:])
            validation = keras.utils.pack_x_y_sample_weight(*parts)
        elif validation is not None:
            validation, _, _ = prepared(self.innermost, validation)
        refuse_lost_weights(y, kwargs.get("sample_weight"))
        x = self._check(x, y, kwargs.get("class_weight"))
        if validation is not None:
            kwargs["validation_data"] = self.check_validation(validation)
        parts = [*self.wrappers(), self.innermost]
        own = [c for part in parts for c in getattr(part, "training_callbacks", list)()]
        args, kwargs = with_own_callbacks(own, self, (x, y, *args), kwargs)
        with backend.keep_weights_on_error(self):
            history = super().fit(*args, **kwargs)
        keep_apart(self)
        return history

    def train_on_batch(
        self, x: Any, y: Any = None, sample_weight: Any = None, **kwargs: Any
    ) -> Any:
        x, y, sample_weight = prepared(self.innermost, x, y, sample_weight)
        self._check(x, y, kwargs.get("class_weight"))
        with backend.keep_weights_on_error(self):
            return super().train_on_batch(x, y, sample_weight, **kwargs)

    def _check(self, x, y, class_weight):
        """`x` to go on with, after a look at it."""
        if not self.compiled:
            return x  # Keras says so itself.
        self.check_loss(self)
        x, y, data = seen(x, y, self.checks_values)
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
