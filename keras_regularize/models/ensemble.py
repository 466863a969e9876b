"""Several trained models as one."""

from collections.abc import Iterable, Sequence
from typing import Any

import keras
from keras import ops, tree

from keras_regularize.numerics import upcast
from keras_regularize.registration import export
from keras_regularize.scores import class_scores, known_logits
from keras_regularize.validation import check_choice


@export
class Ensemble(keras.Model):
    r"""Predicts the mean of its members' predictions.

    For logits $z^{(1)}, \dots, z^{(K)}$ of the members,

    $$\bar z = \frac1K \sum_k z^{(k)} \qquad \text{or} \qquad
    \bar z = \log \frac1K \sum_k \operatorname{softmax}(z^{(k)}),$$

    the geometric or the arithmetic mean of their probabilities: `average="logits"` is that of the authors' code,
    `average="probabilities"` punishes a single confident error less. Both are logits again, so that the
    ensemble compiles with the loss of its members and may be the teacher of a `Distillation`. With `"logits"`,
    outputs of any other kind are averaged as they are: regressions, probabilities, dictionaries of outputs.

    Members are trained apart, with weights of their own from the start on; `fit` of the ensemble would train the
    loss of the mean, which makes them rely on each other. More epochs and less weight decay than are best for a
    single model are best for a member.

    Args:
        members: Models of the same inputs and outputs; at least one.
        average: `"logits"`, the mean of the outputs, or `"probabilities"`, for which these must be logits.
        **kwargs: `name` and other arguments of `keras.Model`.

    Input: that of the members. Output: as theirs, logits `(…, classes)` or a single column.

    Raises:
        ValueError: If there is no member, one is not a `keras.Model` or given twice, or `average` is neither.

    Cost: one forward pass of each member.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    x, y = np.random.default_rng(0).random((8, 4)), np.arange(8) % 3
    members = [keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)]) for _ in range(2)]
    for member in members:
        member.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        member.fit(x, y, verbose=0)
    classes = kr.models.Ensemble(members).predict(x, verbose=0).argmax(axis=-1)
    ```

    With more members $K$ the loss falls as $A / K^B + C$; the authors fit all three numbers
    (`kr.analysis.fit_power_law`), so $B$ need not be 1.

    Reference: Konwoo Kim, Suhas Kotha, Percy Liang and Tatsunori Hashimoto, *Pre-training under infinite compute*,
    2025, arXiv:2509.14786.
    """

    def __init__(self, members: Sequence[keras.Model], average: str = "logits", **kwargs: Any):
        given, members = members, list(members) if isinstance(members, Iterable) else []
        if not members or not all(isinstance(member, keras.Model) for member in members):
            raise ValueError(
                f"`members` must be a list of at least one `keras.Model`. Received: members={given!r}"
            )
        if len({id(member) for member in members}) < len(members):
            raise ValueError(f"`members` must be different models. Received: {members!r}")
        check_choice("average", average, ("logits", "probabilities"))
        super().__init__(**kwargs)
        self.members = members
        self.average = average

    @property
    def from_logits(self) -> bool | None:
        """Whether outputs are logits, `None` if the members do not say."""
        return True if self.average == "probabilities" else known_logits(self.members[0])

    def build(self, input_shape: Any) -> None:
        for member in self.members:
            if not member.built:
                member.build(input_shape)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        outputs = [member(inputs, training=training) for member in self.members]
        mean = _mean if self.average == "logits" else _mean_probability
        return tree.map_structure(lambda *parts: mean(parts), *outputs)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "members": [keras.saving.serialize_keras_object(member) for member in self.members],
            "average": self.average,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> "Ensemble":
        members = [
            keras.saving.deserialize_keras_object(member, custom_objects)
            for member in config["members"]
        ]
        return cls(**{**config, "members": members})


def _mean(outputs):
    return sum(outputs[1:], start=outputs[0]) / len(outputs)


def _mean_probability(outputs):
    """Logits of the mean probabilities; the constant that no softmax sees is left out."""
    scores = [ops.log_softmax(class_scores(upcast(z), True), axis=-1) for z in outputs]
    mean = ops.logsumexp(ops.stack(scores), axis=0) - ops.log(float(len(scores)))
    if outputs[0].shape[-1] == 1:
        mean = mean[..., 1:] - mean[..., :1]
    return ops.cast(mean, outputs[0].dtype)
