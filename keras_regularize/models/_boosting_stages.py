"""How a boosted model is given its next learner: the greedy step, and the corrective one."""

from typing import Any

import keras
from keras import ops

from keras_regularize.autodiff import backend
from keras_regularize.losses import Loss
from keras_regularize.models._boosting_targets import boosting_targets, task_loss


def capacity(count: int, most: int) -> int:
    """How many learners to run where `count` of them matter.

    Where steps are compiled the number rises in few leaps, since each number has a program of its own.
    """
    if backend.RUNS_ONE_BY_ONE or not count:
        return count
    size = 1
    while size < count:
        size *= 4
    return min(size, most)


class Stages:
    """Adds learners to a boosted model by the arguments `data` of `fit`. A step is kept while it fits."""

    def __init__(self, boosted: Any, last: int, data: dict[str, Any]):
        self.boosted, self.last, self.data = boosted, last, data
        self.kept: dict[type, tuple[int, Any]] = {}

    def grow(self) -> dict[str, float]:
        """Trains one more learner; the logs of the stage."""
        model = self.boosted
        stage, learner = model.num_learners, model.learners[model.num_learners]
        rate = float(ops.convert_to_numpy(model.optimizer.learning_rate))
        rate *= 0.5 ** (stage // model.rate_decay_every)
        model.become(stage, capacity(stage, self.last))
        model.trainable = False
        try:
            step = self._step(_GreedyStep)
            step.learner.set_weights(learner.get_weights())
            logs = self._train(step, rate, model.epochs_per_stage)
        finally:
            model.trainable = True
        learner.set_weights(step.learner.get_weights())
        logs["greedy_loss"], logs["loss"] = logs["loss"], logs.pop("task_loss")

        model.become(stage + 1, capacity(stage + 1, self.last))
        if stage and model.corrective_epochs:
            # Learners to come are run without effect; only their statistics move.
            waiting = model.learners[model.num_learners : model.capacity]
            untouched = [other.get_weights() for other in waiting]
            later = model.learners[model.capacity :]
            try:
                for other in later:
                    other.trainable = False
                step = self._step(_CorrectiveStep)
                logs |= self._train(step, rate * model.corrective_rate, model.corrective_epochs)
            finally:
                model.trainable = True
                for other, weights in zip(waiting, untouched):
                    other.set_weights(weights)
        return logs | {"boost_rate": float(ops.convert_to_numpy(model.boost_rate))}

    def _step(self, kind):
        size, step = self.kept.get(kind, (None, None))
        if size != self.boosted.capacity:
            step = kind(self.boosted)
            self.kept[kind] = self.boosted.capacity, step
        return step

    def _train(self, step, rate, epochs):
        """The logs of the last epoch."""
        for variable, value in zip(step.optimizer.variables, step.optimizer_start):
            variable.assign(value)
        step.optimizer.learning_rate = rate
        for _ in range(epochs):
            history = step.fit(**self.data, verbose=0).history
        return {name: values[-1] for name, values in history.items()}


class _Step(keras.Model):
    """Trains weights of a boosted model by the `fit` of Keras."""

    def __init__(self, boosted, name):
        super().__init__(dtype=boosted.dtype_policy, name=name)
        self.boosted = boosted

    def compile_like(self, boosted, loss, weighted_metrics):
        config = keras.optimizers.serialize(boosted.optimizer)
        options = {**boosted.step_options, "weighted_metrics": weighted_metrics}
        self.compile(keras.optimizers.deserialize(config), loss, **options)
        self.optimizer.build(self.trainable_variables)
        self.optimizer_start = [ops.convert_to_numpy(v) for v in self.optimizer.variables]


class _GreedyStep(_Step):
    """Trains the next learner."""

    def __init__(self, boosted):
        super().__init__(boosted, "greedy_step")
        self.learner = boosted.make_learner()
        first, _ = boosted.later_shape
        self.learner.build(boosted.later_shape if boosted.capacity else first)
        watched = boosted.step_options.get("weighted_metrics") or []
        watched = watched if isinstance(watched, (list, tuple)) else [watched]
        loss = task_loss(boosted.task, boosted.units)
        mean = keras.metrics.MeanMetricWrapper(loss.call, name="task_loss")
        self.compile_like(boosted, _Greedy(boosted), [*watched, mean])

    def call(self, inputs, training=None):
        """What there is, and what the learner adds, stacked."""
        before, seen = self.boosted.scores_and_features(inputs, training=False)
        given = inputs if seen is None else [inputs, seen]
        _, scores = self.learner(given, training=training, **self.boosted.mask(inputs))
        step = ops.convert_to_tensor(self.boosted.boost_rate) * ops.cast(scores, "float32")
        return ops.stack([ops.broadcast_to(before, ops.shape(step)), step], axis=-1)

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        return super().compute_metrics(x, y, ops.sum(y_pred, axis=-1), sample_weight)


class _Greedy(Loss):
    """Squared error of the newest learner to the boosting targets; the last axis has the parts of the scores."""

    def __init__(self, boosted):
        super().__init__(name="greedy")
        self.task, self.order = boosted.task, boosted.order

    def call(self, y_true, y_pred):
        before, step = ops.stop_gradient(y_pred[..., 0]), y_pred[..., 1]
        target, weight = boosting_targets(self.task, y_true, before, self.order)
        values = weight * ops.square(step - target)
        return ops.mean(values, axis=tuple(range(1, len(values.shape))))


class _CorrectiveStep(_Step):
    """Trains all learners that there are."""

    def __init__(self, boosted):
        super().__init__(boosted, "corrective_step")
        loss = task_loss(boosted.task, boosted.units)
        self.compile_like(boosted, loss, boosted.step_options.get("weighted_metrics"))

    def call(self, inputs, training=None):
        return self.boosted(inputs, training=training)
