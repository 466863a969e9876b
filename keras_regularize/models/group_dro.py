"""Group DRO: the worst group of samples counts, not the average sample."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_regularize.autodiff import backend
from keras_regularize.models._samples import weighted_losses
from keras_regularize.models.regularized_model import RegularizedModel
from keras_regularize.registration import export
from keras_regularize.validation import check_integer, check_number


@export
class GroupDRO(RegularizedModel):
    r"""Trains for the worst of several known groups: a group's weight grows with its loss.

    With the mean loss $L_g$ of each group $g$ in the batch, every step minimizes

    $$\sum_g q_g L_g, \qquad q_g \propto q_g \exp\!\Big(\eta\,\Big(L_g + \frac{C}{\sqrt{n_g}}\Big)\Big),$$

    the weights $q$ beginning at $1/G$ and moved once a step, before they are used. A classifier that is
    right on average by a shortcut which fails a minority group can thus no longer win by it. Data come as
    `y={"label": y, "group": g}` with integer ids $0 \dots G-1$, for instance one per combination of class and
    spurious attribute.

    **Regularize, or stop early.** A network that fits every training sample has no worst group in training, and
    then nothing is gained: the authors' point is that strong weight decay, early stopping or `adjustment` make
    the difference. Sampling the groups equally often helps too, as groups absent from a batch have $L_g = 0$
    there, so their weight shrinks relative to the others'. A group of weight near 0 comes back only as slowly as
    it went: keep `step_size` times the number of steps moderate. Watch `kr.metrics.WorstGroupAccuracy`.

    The method reweights the samples of what it wraps, and so composes: `SAM(GroupDRO(model))`,
    `GroupDRO(VAT(model))`, `GroupDRO(AdversarialTraining(model, attack))`, whose groups are weighted by their
    adversarial losses. Penalties and added terms are not reweighted. Sample weights count within their
    group: $L_g$ is its weighted mean. Under gradient rules every query weights the groups by its own losses,
    starting from the stored $q$; stored is that of the first query, at the unperturbed weights.

    On several devices $L_g$ is the mean over the samples of all of them, so $q$ is the same everywhere and the
    step equals that on one device.

    Args:
        model: The model to train, or another wrapper. Compiled with a loss that gives a value per sample; with
            several outputs their sum is what groups are compared by.
        num_groups: Number of groups $G$, at least 1.
        step_size: Step $\eta \ge 0$ of the weights; or a schedule. 0 keeps them equal. The authors use 0.01.
        adjustment: Generalization adjustment $C \ge 0$, which favours small groups; needs `group_counts`. The
            authors try 0 to 5.
        group_counts: Number of training samples in each group, or `None`.
        normalize: Whether the adjusted losses are divided by their sum before they enter the exponential.
        **kwargs: `name` and other arguments of `keras.Model`.

    Attributes:
        group_weights: The variable that holds $q$, `(num_groups,)`; saved with the model.

    Raises:
        ValueError: If an argument is out of range; if the column `group` is missing; if an array of groups
            holds an id outside $0 \dots G-1$. A `tf.data.Dataset` is not read for that check: there, a sample
            with such an id belongs to no group and has weight 0.

    Cost: one forward-backward pass per step, and the loss of the outputs a second and third time.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    net = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    model = kr.models.GroupDRO(net, num_groups=2, step_size=0.05)
    model.compile(
        keras.optimizers.AdamW(weight_decay=1e-2),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy", kr.metrics.WorstGroupAccuracy(num_groups=2)],
    )
    x = np.random.default_rng(0).random((8, 4))
    model.fit(x, {"label": np.arange(8) % 2, "group": np.arange(8) // 4}, verbose=0)
    ```

    Reference: Sagawa, Koh, Hashimoto and Liang, *Distributionally Robust Neural Networks for Group Shifts: On the
    Importance of Regularization for Worst-Case Generalization*, ICLR 2020, arXiv:1911.08731. Their code logs the
    adjusted losses; here the logged loss is the objective.
    """

    reads_columns = ("group",)

    def __init__(
        self,
        model: keras.Model,
        num_groups: int,
        step_size: Any = 0.01,
        adjustment: float = 0.0,
        group_counts: Sequence[float] | None = None,
        normalize: bool = False,
        **kwargs: Any,
    ):
        super().__init__(model, **kwargs)
        self.num_groups = check_integer("num_groups", num_groups, minimum=1)
        self.step_size = check_number("step_size", step_size, minimum=0, schedule=True)
        self.adjustment = check_number("adjustment", adjustment, minimum=0)
        if group_counts is not None:
            counts = np.asarray(group_counts)
            if counts.dtype.kind not in "iuf" or counts.shape != (num_groups,) or counts.min() <= 0:
                raise ValueError(
                    f"`group_counts` must be {num_groups} positive numbers, one per group. "
                    f"Received: group_counts={group_counts!r}"
                )
            group_counts = [float(count) for count in counts]
        elif adjustment > 0:
            raise ValueError(
                "`adjustment` needs `group_counts`, the number of training samples in each group. "
                f"Received: adjustment={adjustment}, group_counts=None"
            )
        self.group_counts = group_counts
        self.normalize = bool(normalize)
        self.group_weights = self.add_weight(
            shape=(self.num_groups,),
            initializer=keras.initializers.Constant(1.0 / self.num_groups),
            dtype="float32",
            trainable=False,
            autocast=False,
            aggregation="only_first_replica",  # Every replica has the same.
            name="group_weights",
        )

    def check_columns(self, columns):
        super().check_columns(columns)
        groups = _group_column(columns)
        if isinstance(groups, np.ndarray) and groups.size:
            low, high = groups.min(), groups.max()
            if low < 0 or high >= self.num_groups:
                raise ValueError(
                    f"The column 'group' must hold ids from 0 to {self.num_groups - 1}. "
                    f"Received ids from {low} to {high}"
                )

    def objective(self, batch, forward):
        def reweighted(outputs):
            return self._reweight(batch, *weighted_losses(batch, forward, outputs))[1]

        loss, values = super().objective(batch.reweight(reweighted), forward)
        losses, weights = weighted_losses(batch, forward, forward.outputs)
        return loss, {**values, self.key: {"losses": losses, "weights": weights}}

    def after_update(self, batch, aux, gradients):
        super().after_update(batch, aux, gradients)
        self.group_weights.assign(self._reweight(batch, **aux.values[self.key])[0])

    def _reweight(self, batch, losses, weights):
        """New group weights, and factors of the samples with which the mean loss is the objective."""
        groups = _group_column(batch.columns)
        step_size = self.scheduled(self.step_size, batch)
        groups = ops.cast(ops.reshape(groups, (-1, 1)), "int32")
        member = ops.cast(groups == ops.arange(self.num_groups, dtype="int32"), losses.dtype)
        sums = ops.matmul(ops.stack([weights * losses, weights]), member)
        (sums,) = backend.reduce_mean_over_replicas([sums])
        present = sums[1] > 0
        size = ops.where(present, sums[1], 1.0)

        adjusted = ops.where(present, sums[0], 0.0) / size
        if self.adjustment > 0 and self.group_counts:
            bonus = [self.adjustment / count**0.5 for count in self.group_counts]
            adjusted = adjusted + ops.convert_to_tensor(bonus, dtype=adjusted.dtype)
        if self.normalize:
            total = ops.sum(adjusted)
            adjusted = adjusted / ops.where(total > 0, total, 1.0)
        exponent = ops.cast(step_size, "float32") * ops.cast(adjusted, "float32")
        # In logarithms: a weight that has become 0 stays so, and leaves a sum to divide by.
        logits = ops.log(self.group_weights.value) + exponent
        q = ops.exp(logits - ops.max(logits))
        q = q / ops.sum(q)

        rows = ops.cast(ops.shape(losses)[0], losses.dtype)
        per_member = ops.where(present, ops.cast(q, losses.dtype), 0.0) * rows / size
        return q, ops.stop_gradient(ops.matmul(member, per_member[:, None])[:, 0])


def _group_column(columns):
    if "group" not in columns:
        raise ValueError(
            "Group DRO needs the group of each sample: `y={'label': y, 'group': groups}`. "
            f"Received the columns {sorted(columns)} beside the label"
        )
    return columns["group"]
