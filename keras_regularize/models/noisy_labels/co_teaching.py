"""Co-teaching: two networks show each other the samples whose labels they believe."""

from typing import Any

import keras
from keras import ops

from keras_regularize.autodiff.functional import without_samples
from keras_regularize.models.noisy_labels._two_networks import (
    TwoNetworks,
    labels_and_weights,
    outputs_of_both,
)
from keras_regularize.numerics import upcast
from keras_regularize.registration import export
from keras_regularize.validation import check_number


@export
class CoTeaching(TwoNetworks):
    r"""Trains two networks at once, each on the samples of the batch that the other one finds easy.

    Samples with wrong labels have large losses as long as a network has not memorized them. Both networks score
    the batch $B$; each learns from the fraction $1 - \tau$ of smallest loss **of the other**,

    $$L = \frac1{|S_b|} \sum_{i \in S_b} \ell_i(a) + \frac1{|S_a|} \sum_{i \in S_a} \ell_i(b), \qquad
    S_m = \text{the } \lfloor (1 - \tau) |B| \rfloor \text{ samples of smallest } \ell_i(m),$$

    at least one. A network that chose for itself would be confirmed in its errors; the two differ, as they start
    from different weights, and correct each other. The model predicts the mean of both outputs, which is also what
    metrics see.

    **Let the forget rate rise.** At the first step the networks know nothing and small losses mean nothing: the
    authors raise $\tau$ linearly from 0 over some epochs, 10 of 200, later papers 5. A schedule, evaluated at the
    step, does so:

    ```python
    keras.optimizers.schedules.PolynomialDecay(0.0, 5 * steps_per_epoch, end_learning_rate=0.4)
    ```

    The final rate is the share of wrong labels, or a little more; $\tau = 0$ trains both networks as usual.

    With `split=True` the first network chooses from the first half of the batch and the second from the rest, each
    by its losses at inference: the networks never learn from the same sample in a step, and what makes training
    noisy, such as `kr.layers.NestedDropout`, does not disturb the choice. Then shuffle the data.

    Samples of weight 0 and unlabelled ones are neither ranked nor counted; other sample weights multiply the
    losses of chosen samples and do not change the ranks. Gradient rules and added terms go around it:
    `SAM(CoTeaching(a, b))`, `VAT(CoTeaching(a, b))`, whose terms see the mean prediction. On TensorFlow replicas
    and torch ranks each chooses within its share of the batch.

    Args:
        model_a: The first network.
        model_b: The second one, of the same inputs and outputs and with other initial weights; often of the same
            architecture.
        forget_rate: $0 \le \tau < 1$, the fraction of a batch each network leaves out; or a schedule.
        split: Whether each network chooses from a half of the batch alone.
        **kwargs: `name` and other arguments of `keras.Model`.

    Attributes:
        model: The first network.
        model_b: The second one.

    Raises:
        ValueError: If a model is not a `keras.Model`, both are the same, or one is a wrapper, which belongs
            around; if `forget_rate` is out of range; if `fit` gets no labels.

    Cost: one forward-backward pass of each network per step, and two sorts of the batch's losses; with `split` one
    more forward pass of each.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr


    def network():
        return keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])


    rate = keras.optimizers.schedules.PolynomialDecay(0.0, 100, end_learning_rate=0.4)
    model = kr.models.CoTeaching(network(), network(), forget_rate=rate)
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(np.random.default_rng(0).random((8, 4)), np.arange(8) % 3, verbose=0)
    ```

    Reference: Bo Han, Quanming Yao, Xingrui Yu, Gang Niu, Miao Xu, Weihua Hu, Ivor Tsang and Masashi Sugiyama,
    *Co-teaching: Robust Training of Deep Neural Networks with Extremely Noisy Labels*, NeurIPS 2018,
    arXiv:1804.06872. Both networks share one optimizer, whose steps are those of two where it treats weights apart
    (all of Keras' without a global clip norm). `split` is the form of Yingyi Chen, Shell Xu Hu, Xi Shen, Chunrong
    Ai and Johan A. K. Suykens, *Compressing Features for Learning with Noisy Labels*, IEEE TNNLS 2022,
    arXiv:2206.13140, who combine it with nested dropout.
    """

    def __init__(
        self,
        model_a: keras.Model,
        model_b: keras.Model,
        forget_rate: Any = 0.2,
        split: bool = False,
        **kwargs: Any,
    ):
        super().__init__(model_a, model_b, **kwargs)
        self.forget_rate = check_number(
            "forget_rate", forget_rate, minimum=0, below=1, schedule=True
        )
        self.split = bool(split)

    def prepare(self, batch, forward):
        batch = super().prepare(batch, forward)
        if not self.split:
            return batch
        with outputs_of_both() as seen:
            forward(batch.x, training=False)
        y, _ = labels_and_weights(batch.replace(sample_weight=None), forward, seen[0][0])
        scores = [upcast(forward.sample_losses(y, outputs)) for outputs in seen[0]]
        return batch.add(**{self.key: scores})

    def objective(self, batch, forward):
        with outputs_of_both() as seen:
            loss, values = super().objective(without_samples(batch), forward)
        y, weights = labels_and_weights(batch, forward, forward.outputs)
        losses = [upcast(forward.sample_losses(y, outputs)) for outputs in seen[0]]
        weights = ops.cast(weights, losses[0].dtype)

        scores, candidates = losses, [weights > 0] * 2
        if self.split:
            size = ops.shape(weights)[0]
            first = ops.arange(size) < size // 2
            scores = batch.extra[self.key]
            candidates = [candidates[0] & half for half in (first, ~first)]
        rate = self.scheduled(self.forget_rate, batch)
        chosen = [_easiest(*of_one, rate) for of_one in zip(scores, candidates)]
        for own, (by_the_other, count) in zip(losses, reversed(chosen)):
            mean = ops.sum(ops.where(by_the_other, weights * own, 0.0)) / ops.cast(count, own.dtype)
            loss = loss + ops.cast(mean, loss.dtype)
        return loss, values


def _easiest(losses, candidates, rate):
    """Which samples have the smallest losses of the candidates, and how many they are, at least 1."""
    count = (1.0 - ops.cast(rate, "float32")) * ops.sum(ops.cast(candidates, "float32"))
    count = ops.maximum(ops.floor(count + 1e-3), 1.0)  # As with exact fractions.
    losses = ops.where(candidates, ops.stop_gradient(losses), float("inf"))
    ranks = ops.argsort(ops.argsort(losses))
    return (ops.cast(ranks, "float32") < count) & candidates, count
