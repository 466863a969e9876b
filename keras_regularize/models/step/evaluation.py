"""`evaluate` and `predict` of a wrapper: those of the model inside, and what only a method measures."""

import contextlib
from typing import Any

import keras
from keras import ops, tree

from keras_regularize.autodiff import Batch, Forward, backend
from keras_regularize.autodiff.functional import read_state
from keras_regularize.models.step.data import refuse_lost_weights, seen
from keras_regularize.models.step.hooks import Hooks
from keras_regularize.models.step.inside import overrides, prepared, prepared_into
from keras_regularize.models.step.objective import assign_updates
from keras_regularize.scores import one_label


class Evaluation(Hooks):
    """Evaluates and predicts with the steps of the wrapped model."""

    def test_step(self, *arguments: Any) -> Any:
        if self.outermost_evaluation() is None and not self.is_semi_supervised():
            return super().test_step(*arguments)
        return backend.test_step(self, self._measure, arguments)

    def predict_step(self, *arguments: Any) -> Any:
        if not self._acts_inside("predict_step"):
            return super().predict_step(*arguments)
        return backend.predict_step(self, self.innermost, arguments)

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
        assign_updates(state, forward.updates)
        label, weight = self.mask_unlabelled(label, forward.outputs, None)
        sizes = [ops.sum(part) for part in tree.flatten(weight) if part is not None]
        size = sum(sizes) / len(sizes) if sizes else None
        evaluation = self.outermost_evaluation()
        if evaluation is not None:
            weight = one_label(weight, forward.outputs, self)
            evaluation.update(self, x, label, forward.outputs, weight)
        return self._logs(loss, x, y, forward.outputs, sample_weight, size)

    def evaluate(self, x: Any = None, y: Any = None, *args: Any, **kwargs: Any) -> Any:
        if not kwargs.get(
            "_use_cached_eval_dataset"
        ):  # By which `fit` passes what it has prepared.
            x, y = prepared_into(self.innermost, kwargs, x, y)
            refuse_lost_weights(y, kwargs.get("sample_weight"))
        if self._acts_inside("test_step"):
            return self._evaluate_inside("evaluate", x, y, *args, **kwargs)
        with self._in_evaluation(x, y) as x:
            return super().evaluate(x, y, *args, **kwargs)

    def test_on_batch(self, x: Any, y: Any = None, sample_weight: Any = None, **kwargs: Any) -> Any:
        x, y, sample_weight = prepared(self.innermost, x, y, sample_weight)
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
        logs = getattr(self.innermost, how)(x, y, *args, **kwargs)
        evaluation = self.outermost_evaluation()
        if evaluation is not None:
            with self._in_evaluation(x, y):
                name = evaluation.metric.name
                logs = {**logs, name: getattr(super(), how)(x, y, *args, **kwargs)[name]}
        return logs if as_dictionary else list(logs.values())

    def predict(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        return super().predict(prepared(self.innermost, x)[0], *args, **kwargs)

    def predict_on_batch(self, x: Any) -> Any:
        return super().predict_on_batch(prepared(self.innermost, x)[0])

    def outermost_evaluation(self) -> Any:
        """What `evaluate` measures in the outermost wrapper that has it measure something, or `None`."""
        found = (wrapper.evaluation for wrapper in self.wrappers())
        return next((evaluation for evaluation in found if evaluation is not None), None)

    @contextlib.contextmanager
    def _in_evaluation(self, x, y):
        evaluation = self.outermost_evaluation()
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

    def _check_evaluation(self, x, y):
        """`x` to go on with, after a look at it for what `evaluate` measures."""
        evaluation = self.outermost_evaluation()
        x, y, data = seen(x, y, evaluation.checks_values)
        if x is not None:
            evaluation.check_data(x, self.split_columns(y)[0])
        return data

    def check_validation(self, data: Any) -> Any:
        """As `_check_evaluation`, for what `fit` passes to `evaluate` after an epoch."""
        if self.outermost_evaluation() is None or not self.compiled:
            return data
        if not isinstance(data, (list, tuple)):
            return self._check_evaluation(data, None)
        x, y, _ = keras.utils.unpack_x_y_sample_weight(data)
        self._check_evaluation(x, y)
        return data

    def _acts_inside(self, name):
        """Whether a step is one that the wrapped model has of its own."""
        if any(wrapper.predicts_itself for wrapper in self.wrappers()):
            return False
        return overrides(self.innermost, name)
