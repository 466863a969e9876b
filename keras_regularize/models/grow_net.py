"""Gradient boosting with small networks in the place of trees."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_regularize.configuration import Configured
from keras_regularize.layers.boosted_learner import BoostedLearner
from keras_regularize.models._boosting_data import split, starting_score
from keras_regularize.models._boosting_stages import Stages
from keras_regularize.models._boosting_targets import (
    TASKS,
    BoostingTargets,
    boosting_targets,
    task_loss,
)
from keras_regularize.models.step.data import seen
from keras_regularize.registration import export
from keras_regularize.validation import check_choice, check_integer, check_number


@export
class GrowNet(Configured, keras.Model):
    r"""Gradient boosting that adds small networks one by one, each with a look at what the last one has seen.

    $$s_K(x) = c_0 + \beta \sum_{k=1}^{K} f_k(x, h_{k-1}(x)), \qquad f_k, h_k: \text{`kr.layers.BoostedLearner`}$$

    `fit` adds a learner in each stage. With the gradient $g$ and the second derivative $h$ of the loss $\ell$ of a
    sample in its score $s_{k-1}$, first only the new learner is trained (the greedy step), on

    $$\operatorname*{mean}_i\; h_i \Big(\beta f_k(x_i) + \frac{g_i}{h_i}\Big)^2,$$

    the expansion of the loss to second order, but for a constant; with `order=1` it is the plain squared error to
    $-g$. Then all learners and $\beta$ are trained on $\ell$ itself (the corrective step), from the second stage
    on. Networks of earlier stages are in inference mode in the greedy step. Each step has an optimizer of its own.
    Of arrays the last batch of an epoch is left out where it is not full.

    | task | loss $\ell$ | labels | $c_0$ |
    |---|---|---|---|
    | `"regression"` | squared error | `(batch, units)` | mean |
    | `"classification"`, one unit | cross-entropy of the sigmoid | 0 or 1 | log odds |
    | the same, more units | that of the softmax, with a diagonal $h$ | class ids, or rows | log shares |
    | `"ranking"` | `kr.losses.PairwiseLogistic` | relevances `(batch, list)`, -1 for padding | 0 |

    The inputs of a ranking are `(batch, list, features)`, and an item whose features are all 0 is padding, which
    normalization leaves out; `kr.metrics.NDCG` measures it.

    An epoch of `fit` is a stage: callbacks act after each, as in any training, `EarlyStopping` and
    `ModelCheckpoint` among them. With validation data the model is in the end that of the stage of the least
    validation loss. A model that has not all its stages, loaded or not, goes on where it stopped when `fit` is
    called again. The model is one of Keras otherwise: `predict` gives scores, `predict_proba` probabilities.

    Args:
        stages: Largest number of learners $K$, at least 1. The weights of all are made at once, those that are not
            trained yet have no part in the scores.
        task: `"regression"`, `"classification"` or `"ranking"`.
        boost_rate: $\beta > 0$ at the start; the corrective step trains it.
        order: 2, or 1 for first-order boosting.
        epochs_per_stage: Epochs of the greedy step, at least 1.
        corrective_epochs: Epochs of the corrective step; 0 leaves it out.
        hidden_units: Width of the learners, at least 1. For other learners override `make_learner()`, which gives
            a layer like `kr.layers.BoostedLearner`.
        learning_rate: Positive rate of Adam, unless `compile` is given an optimizer.
        corrective_rate: The rate of the corrective step, as a multiple of that of the greedy one; positive.
        rate_decay_every: After so many stages rates are halved, at least 1.
        units: Number of scores: of targets or of classes; 1 for two classes and for ranking.
        **kwargs: `name`, `dtype` and other arguments of `keras.Model`.

    Attributes:
        learners: The layers of all stages.
        num_learners: How many of them the model consists of.

    Raises:
        ValueError: If an argument is out of range; by `fit`, if labels do not fit the task, there are no samples,
            the model has all its stages already, or for a generator, which cannot be read twice.

    Cost: the greedy step of stage $k$ takes $k$ forward passes and one backward pass of small networks, the
    corrective step $k$ of both. JAX and TensorFlow, which compile steps, do so for 1, 4, 16, 64, … learners and
    `stages` at most, and run so many: with small data compiling is most of the time, on torch none of it.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    x = np.random.normal(size=(64, 4))
    model = kr.models.GrowNet(stages=2, task="classification", hidden_units=8)
    model.compile(metrics=[keras.metrics.BinaryAccuracy(threshold=0.0)])
    history = model.fit(x, x[:, 0] > 0, validation_split=0.25, verbose=0)
    model.predict_proba(x, verbose=0)
    ```

    Reference: Sarkhan Badirli, Xuanqing Liu, Zhengming Xing, Avradeep Bhowmik, Khoa Doan and Sathiya S. Keerthi,
    *Gradient Boosting Neural Networks: GrowNet*, 2020, arXiv:2002.07971. In their code networks of earlier stages
    stay in training mode in the greedy step, which moves their statistics; a ranking counts the pairs of equal
    relevance too, and none by its part in NDCG. Several classes are this package's own.
    """

    def __init__(
        self,
        stages: int = 40,
        task: str = "regression",
        boost_rate: float = 1.0,
        order: int = 2,
        epochs_per_stage: int = 1,
        corrective_epochs: int = 1,
        hidden_units: int = 16,
        learning_rate: float = 5e-3,
        corrective_rate: float = 0.5,
        rate_decay_every: int = 15,
        units: int = 1,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.stages = check_integer("stages", stages, minimum=1)
        self.task = check_choice("task", task, TASKS)
        self.initial_boost_rate = check_number("boost_rate", boost_rate, above=0)
        self.order = check_choice("order", order, (1, 2))
        self.epochs_per_stage = check_integer("epochs_per_stage", epochs_per_stage, minimum=1)
        self.corrective_epochs = check_integer("corrective_epochs", corrective_epochs, minimum=0)
        self.hidden_units = check_integer("hidden_units", hidden_units, minimum=1)
        self.learning_rate = check_number("learning_rate", learning_rate, above=0)
        self.corrective_rate = check_number("corrective_rate", corrective_rate, above=0)
        self.rate_decay_every = check_integer("rate_decay_every", rate_decay_every, minimum=1)
        self.units = check_integer("units", units, minimum=1)
        if task == "ranking" and units != 1:
            raise ValueError(f"A ranking needs one score per item. Received: units={units}")
        self.learners = [self.make_learner() for _ in range(self.stages)]
        self.num_learners = self.capacity = 0

    def make_learner(self) -> keras.layers.Layer:
        """A new learner: from `x`, after the first from `[x, features]`, to `[features, scores]`."""
        return BoostedLearner(self.hidden_units, output_units=self.units, dtype=self.dtype_policy)

    def build(self, input_shape: Any) -> None:
        shape = tuple(input_shape)
        rank = 3 if self.task == "ranking" else 2
        if len(shape) != rank or shape[-1] is None:
            wanted = "(batch, list, features)" if rank == 3 else "(batch, features)"
            raise ValueError(
                f"`GrowNet` needs a single array of inputs {wanted} for the task {self.task!r}. "
                f"Received: shape={shape}"
            )
        first, *others = self.learners
        first.build(shape)
        self.later_shape = [shape, tuple(first.compute_output_shape(shape)[0])]
        for learner in others:
            learner.build(self.later_shape)
        options: Any = {"autocast": False, "dtype": "float32"}
        rate = keras.initializers.Constant(self.initial_boost_rate)
        self.boost_rate = self.add_weight((), rate, name="boost_rate", **options)
        self.start = self.add_weight(
            (self.units,), "zeros", trainable=False, name="start", **options
        )
        self.grown = self.add_weight((), "zeros", trainable=False, name="grown", **options)
        self._build_optimizer()

    def compile(
        self, optimizer: Any = None, loss: Any = None, metrics: Any = None, **kwargs: Any
    ) -> None:
        """As `keras.Model.compile`, but the task decides on the loss.

        Args:
            optimizer: Copies of it train the steps; by default Adam with `learning_rate`. Its own rate must be a
                number.
            loss: None.
            metrics: As in Keras, of scores.
            **kwargs: Other arguments of `keras.Model.compile`.
        """
        if loss is not None:
            raise ValueError(
                f"The task decides on the loss of `GrowNet`. Received: loss={loss!r} and task={self.task!r}"
            )
        optimizer = keras.optimizers.get(optimizer or keras.optimizers.Adam(self.learning_rate))
        if not isinstance(optimizer.learning_rate, keras.Variable):
            raise ValueError(
                "`GrowNet` sets the learning rate of each step, so the optimizer's must be a number. Received an "
                "optimizer whose learning rate is a schedule."
            )
        super().compile(optimizer, loss=task_loss(self.task, self.units), metrics=metrics, **kwargs)
        self.step_options = {"metrics": metrics, **kwargs}
        self._build_optimizer()

    def _build_optimizer(self):
        # Only copies of it step. Built for one weight, it has the same variables in every file.
        if self.compiled and hasattr(self, "boost_rate"):
            self.optimizer.build([self.boost_rate])

    def get_compile_config(self) -> dict[str, Any]:
        config = super().get_compile_config()
        return {name: value for name, value in config.items() if name != "loss"}

    def compile_from_config(self, config: dict[str, Any]) -> None:
        self.compile(**keras.saving.deserialize_keras_object(config))

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        return self.scores_and_features(inputs, training)[0]

    def scores_and_features(self, inputs: Any, training: bool | None = None) -> tuple[Any, Any]:
        """The scores, and the features that the next learner is given, `None` for the first."""
        mask = self.mask(inputs)
        total = ops.zeros_like(ops.cast(inputs[..., :1], "float32"))
        seen = None
        for index, learner in enumerate(self.learners[: self.capacity]):
            grown = ops.convert_to_tensor(self.grown) > index
            given = inputs if seen is None else [inputs, seen]
            features, scores = learner(given, training=training, **mask)
            total = ops.where(grown, total + ops.cast(scores, "float32"), total)
            seen = features if seen is None else ops.where(grown, features, seen)
        rate = ops.convert_to_tensor(self.boost_rate)
        return ops.convert_to_tensor(self.start) + rate * total, seen

    def mask(self, inputs: Any) -> dict[str, Any]:
        """The argument of learners that says which items are no padding."""
        ranking = self.task == "ranking"
        return {"mask": ops.any(ops.not_equal(inputs, 0), axis=-1)} if ranking else {}

    def fit(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        epochs: int | None = None,
        verbose: str | int = "auto",
        callbacks: Any = None,
        validation_split: float = 0.0,
        validation_data: Any = None,
        shuffle: bool = True,
        class_weight: Any = None,
        sample_weight: Any = None,
        steps_per_epoch: int | None = None,
        validation_steps: int | None = None,
        validation_batch_size: int | None = None,
    ) -> keras.callbacks.History:
        """Adds learners until there are `epochs` of them, by default `stages`.

        The history has an entry per stage: `loss` and metrics in training, `greedy_loss`, `boost_rate`, and those
        of validation. Arguments are those of `keras.Model.fit`.
        """
        if not self.compiled:
            self.compile()
        last = check_integer("epochs", epochs, minimum=1, maximum=self.stages, optional=True)
        last = last or self.stages
        if self.num_learners >= last:
            raise ValueError(
                f"`GrowNet` has {self.num_learners} learners already, and nothing is left to train. Received: "
                f"stages={self.stages}, epochs={epochs}"
            )
        if validation_split:
            x, y, sample_weight, validation_data = split(x, y, sample_weight, validation_split)
        if hasattr(x, "__next__"):
            raise ValueError(
                "`GrowNet` reads its data several times: pass arrays or a dataset. Received a generator."
            )
        held_out = keras.utils.unpack_x_y_sample_weight(validation_data)
        if hasattr(held_out[0], "shape") and not len(held_out[0]):
            raise ValueError("`GrowNet` needs validation data of at least one sample. Received: 0")
        first, _, x = seen(x, y, values=True)
        start = None
        if not self.num_learners:
            given = x, y, sample_weight, steps_per_epoch
            start = starting_score(self.task, self.units, *given)
        if not self.built:
            self.build((None, *getattr(first, "shape", (None,))[1:]))
        if start is not None:
            self.start.assign(start)
        if steps_per_epoch is None and hasattr(x, "shape"):
            # Of a last batch that is smaller, statistics are poor, and for its size all would be compiled again.
            steps_per_epoch = max(len(x) // (batch_size or 32), 1)
        data = {"x": x, "y": y, "batch_size": batch_size, "sample_weight": sample_weight}
        data |= {"shuffle": shuffle, "class_weight": class_weight}
        data |= {"steps_per_epoch": steps_per_epoch}

        def validate():
            names = ("x", "y", "sample_weight")
            return self.evaluate(
                **dict(zip(names, held_out)),
                batch_size=validation_batch_size or batch_size,
                steps=validation_steps,
                verbose=0,
                return_dict=True,
            )

        watched = validation_data is not None
        best, least = None, float("inf")
        if watched and self.num_learners:
            best, least = self.get_weights(), validate()["loss"]
        callbacks = keras.callbacks.CallbackList(
            callbacks,
            add_history=True,
            add_progbar=verbose not in (0, "0"),
            verbose=1 if verbose == "auto" else verbose,
            epochs=last,
            steps=1,
            model=self,
        )
        self.stop_training = False
        callbacks.on_train_begin()
        stages = Stages(self, last, data)
        logs: dict[str, Any] = {}
        try:
            for stage in range(self.num_learners, last):
                callbacks.on_epoch_begin(stage)
                logs = stages.grow()
                if watched:
                    found = validate()
                    logs |= {f"val_{name}": value for name, value in found.items()}
                    if found["loss"] < least:
                        best, least = self.get_weights(), found["loss"]
                callbacks.on_epoch_end(stage, logs)
                if self.stop_training:
                    break
        finally:
            self.become(self.num_learners)
        if best is not None:
            self.set_weights(best)
        callbacks.on_train_end(logs)
        return self.history

    def train_on_batch(self, *args: Any, **kwargs: Any) -> Any:
        """Not possible: a learner is trained on all data before the next one is added."""
        raise ValueError("`GrowNet` grows by `fit`; it has no step for a single batch.")

    def predict_proba(self, x: Any, **kwargs: Any) -> np.ndarray:
        """Probabilities of classes `(batch, classes)`, as in scikit-learn.

        Args:
            x: Inputs, as `predict` takes them.
            **kwargs: Arguments of `predict`.
        """
        if self.task != "classification":
            raise ValueError(
                f"Probabilities are those of a classification. Received: task={self.task!r}"
            )
        scores = np.asarray(self.predict(x, **kwargs), "float64")
        if self.units == 1:
            scores = np.concatenate([np.zeros_like(scores), scores], axis=-1)
        p = np.exp(scores - scores.max(axis=-1, keepdims=True))
        return p / p.sum(axis=-1, keepdims=True)

    @staticmethod
    def boosting_targets(task: str, y: Any, score: Any, order: int = 2) -> BoostingTargets:
        """What a new learner is to add to the scores of a batch, and how much each error matters.

        Args:
            task: `"regression"`, `"classification"` or `"ranking"`.
            y: Labels, as `fit` takes them.
            score: Scores of the learners so far, `(batch,)`, `(batch, units)` or `(batch, list)`.
            order: 2 for `-g / h` under the weight `h`, 1 for `-g` under the weight 1.

        Returns:
            `target` and `weight`, of the shape of the scores, of at least float32.
        """
        return boosting_targets(task, y, score, order)

    def set_weights(self, weights: Any) -> None:
        super().set_weights(weights)
        self._count_learners()

    def load_own_variables(self, store: Any) -> None:
        super().load_own_variables(store)
        self._count_learners()

    def _count_learners(self):
        self.become(int(ops.convert_to_numpy(self.grown)))

    def become(self, count: int, capacity: int | None = None) -> None:
        """A model of `count` learners, which runs `capacity` of them, by default as many.

        What Keras has compiled stays for as long as the same ones are run.
        """
        capacity = count if capacity is None else capacity
        if capacity != self.capacity:
            self.test_function = self.predict_function = None
        self.num_learners, self.capacity = count, capacity
        self.grown.assign(float(count))
