"""Knowledge distillation: a model learns from a trained one beside the labels."""

from typing import Any

import keras
from keras import ops

from keras_regularize._export import export
from keras_regularize._validation import check_choice, check_number
from keras_regularize.compiled_losses import per_sample
from keras_regularize.losses.distillation import decoupled_distillation_loss
from keras_regularize.losses.distillation._distillation import softened_divergence
from keras_regularize.models._teacher import frozen_teacher
from keras_regularize.models.regularized_model import RegularizedModel
from keras_regularize.numerics import upcast
from keras_regularize.scores import class_scores, compiled_loss, one_output, uses_logits


@export
class Distillation(RegularizedModel):
    r"""Knowledge distillation: learns from a trained teacher's predictions beside the labels.

    $$\alpha\, L + (1 - \alpha)\,\frac1B \sum_i D(z_i, v_i)$$

    with $L$ the compiled loss, $z$ the logits of the model, $v$ those of the teacher, and $D$ by `loss` one of

    - `"kl"`: $T^2\, KL\big(\operatorname{softmax}(v / T) \,\|\, \operatorname{softmax}(z / T)\big)$, of Hinton et
      al.;
    - `"dkd"`: `kr.losses.decoupled_distillation_loss` with its weights 1 and 8 at temperature $T$, of Zhao et al.;
    - `"mse"`: the mean over outputs of $(p - q)^2$, of Borup and Andersen, $p$ and $q$ being the probabilities of
      model and teacher. Of models whose compiled loss takes no logits they are the outputs as they are, so that
      it distils regressions too.

    What says whether outputs are logits is the compiled loss; that of the teacher for the teacher, if it has one.

    The teacher knows how alike the classes are, and which labels are odd; a small model learns more from that
    than from labels alone. It is frozen (`teacher.trainable = False`), saved with this model, and runs once a
    step in inference mode on the inputs that the model gets. In self-distillation it is an earlier model of the
    same kind: every generation is then more regularized, which helps for a few and hurts after; some ground
    truth, $\alpha > 0$, keeps that in bounds. `kr.analysis.self_distill` runs the generations and finds $\alpha$.

    $\alpha$ acts like a sample weight on what the wrapped model trains on: penalties of weights and activities act
    in full. Sample weights count for both terms, metrics see labels. `alpha=1` is the model without a
    teacher, which is useful to compare. A high temperature, 2 to 5, shows more of what the teacher thinks of the
    wrong classes; take a lower one, or a larger $\alpha$, where the model is far smaller than the teacher.

    Args:
        model: The model to train, the student, or another wrapper; with one output.
        teacher: The trained teacher, with the inputs and outputs of `model`.
        alpha: Weight $\alpha$ of the labels from 0 to 1 (some codes have it the other way round); or a schedule.
        temperature: $T$, above 0; not used by `"mse"`.
        loss: `"kl"`, `"dkd"` or `"mse"`. Decoupled distillation raises its share over the first 20 epochs: use a
            schedule for `alpha` that falls from 1.
        **kwargs: `name` and other arguments of `keras.Model`.

    Raises:
        ValueError: If an argument is out of range; if `teacher` is no built model or shares trainable weights with
            `model`; if outputs do not fit each other, or are several.

    Cost: one forward-backward pass and a forward pass of the teacher.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    teacher = keras.Sequential([keras.Input((4,)), keras.layers.Dense(64), keras.layers.Dense(3)])
    teacher.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    x, y = np.random.default_rng(0).random((32, 4)), np.arange(32) % 3
    teacher.fit(x, y, verbose=0)

    student = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    model = kr.models.Distillation(student, teacher, alpha=0.5)
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(x, y, verbose=0)
    ```

    Reference: Geoffrey Hinton, Oriol Vinyals and Jeff Dean, *Distilling the Knowledge in a Neural Network*, 2015,
    arXiv:1503.02531. Kenneth Borup and Lars N. Andersen, *Even your Teacher Needs Guidance: Ground-Truth Targets
    Dampen Regularization Imposed by Self-Distillation*, NeurIPS 2021, arXiv:2102.13088. Borui Zhao, Quan Cui,
    Renjie Song, Yiyu Qiu and Jiajun Liang, *Decoupled Knowledge Distillation*, CVPR 2022, arXiv:2203.08679; their
    code weighs the labels by 1 where it is $\alpha$ here.
    """

    def __init__(
        self,
        model: keras.Model,
        teacher: keras.Model,
        alpha: Any = 0.1,
        temperature: float = 3.0,
        loss: str = "kl",
        **kwargs: Any,
    ):
        check_number("alpha", alpha, minimum=0, maximum=1, schedule=True)
        check_number("temperature", temperature, minimum=0)
        if temperature == 0:
            raise ValueError("`temperature` must be above 0. Received: temperature=0")
        check_choice("loss", loss, ("kl", "dkd", "mse"))
        super().__init__(model, **kwargs)
        self.teacher = frozen_teacher(teacher, model)
        self.alpha = alpha
        self.temperature = float(temperature)
        self.loss_name = loss

    def prepare(self, batch, forward):
        batch = super().prepare(batch, forward)
        taught = compiled_loss(self.teacher)
        logits = uses_logits(compiled_loss(forward) if taught is None else taught)
        outputs = self._comparable(self.teacher(batch.x, training=False), logits)
        return batch.add(**{self._key: ops.stop_gradient(outputs)})

    def objective(self, batch, forward):
        alpha = self.scheduled(self.alpha, batch)
        loss, values = super().objective(batch.reweight(lambda outputs: alpha), forward)
        logits = uses_logits(compiled_loss(forward))
        outputs = self._comparable(forward.outputs_at(batch.x), logits)
        taught = per_sample(self._distance(batch.y, outputs, batch.extra[self._key]))
        taught = (1.0 - alpha) * forward.sample_mean(taught, batch)
        return loss + ops.cast(taught, loss.dtype), values

    def _comparable(self, outputs, from_logits):
        """Outputs in the form in which model and teacher are compared, in at least float32."""
        outputs = one_output(outputs)
        if self.loss_name != "mse":
            return class_scores(outputs, from_logits)
        if not from_logits:
            return upcast(outputs)
        return ops.softmax(class_scores(outputs, True), axis=-1)

    def _distance(self, y, outputs, teacher):
        if tuple(outputs.shape[1:]) != tuple(teacher.shape[1:]):
            raise ValueError(
                "The teacher's outputs must have the shape of the model's. Received: "
                f"{tuple(teacher.shape)} of the teacher, {tuple(outputs.shape)} of the model"
            )
        if self.loss_name == "mse":
            return ops.mean(ops.square(outputs - teacher), axis=-1)
        if self.loss_name == "kl":
            return softened_divergence(outputs, teacher, self.temperature)
        return decoupled_distillation_loss(y, outputs, teacher, temperature=self.temperature)

    @property
    def _key(self):
        return f"{self.name}_teacher"

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "teacher": keras.saving.serialize_keras_object(self.teacher),
            "alpha": keras.saving.serialize_keras_object(self.alpha),
            "temperature": self.temperature,
            "loss": self.loss_name,
        }
