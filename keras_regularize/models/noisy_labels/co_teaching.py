"""Co-teaching: two networks show each other the samples whose labels they believe."""

import contextlib
from typing import Any

import keras
from keras import ops, tree

from keras_regularize._export import export
from keras_regularize._validation import check_number
from keras_regularize.autodiff.functional import per_sample, resolve_weights, without_samples
from keras_regularize.models import _data
from keras_regularize.models.regularized_model import RegularizedModel
from keras_regularize.numerics import upcast


@export
class CoTeaching(RegularizedModel):
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

    Samples of weight 0 and unlabelled ones are neither ranked nor counted; other sample weights multiply the
    losses of chosen samples and do not change the ranks. Gradient rules and added terms go around it:
    `SAM(CoTeaching(a, b))`, `VAT(CoTeaching(a, b))`, whose terms see the mean prediction. On TensorFlow replicas
    and torch ranks each chooses within its share of the batch.

    Args:
        model_a: The first network. Its `compute_loss`, if overridden, is not used.
        model_b: The second one, of the same inputs and outputs and with other initial weights; often of the same
            architecture.
        forget_rate: $0 \le \tau < 1$, the fraction of a batch each network leaves out; or a schedule.
        **kwargs: `name` and other arguments of `keras.Model`.

    Attributes:
        model: The first network.
        model_b: The second one.

    Raises:
        ValueError: If a model is not a `keras.Model`, both are the same, or one is a wrapper, which belongs
            around; if `forget_rate` is out of range.

    Cost: one forward-backward pass of each network per step, and two sorts of the batch's losses.

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
    (all of Keras' without a global clip norm). Chen et al. (2022, arXiv:2206.13140) combine it with
    `kr.layers.NestedDropout`.
    """

    def __init__(
        self,
        model_a: keras.Model,
        model_b: keras.Model,
        forget_rate: Any = 0.2,
        **kwargs: Any,
    ):
        for name, model in (("model_a", model_a), ("model_b", model_b)):
            if not isinstance(model, keras.Model) or isinstance(model, RegularizedModel):
                raise ValueError(
                    f"`{name}` must be a plain `keras.Model`; wrappers go around `CoTeaching`. "
                    f"Received: {name}={model!r}"
                )
        if model_a is model_b:
            raise ValueError(
                "`CoTeaching` needs two networks with weights of their own. "
                f"Received the same one twice: {model_a!r}"
            )
        check_number("forget_rate", forget_rate, minimum=0, maximum=1, schedule=True)
        if forget_rate == 1:
            raise ValueError("`forget_rate` must be below 1. Received: forget_rate=1")
        super().__init__(model_a, **kwargs)
        self.model_b = model_b
        self.forget_rate = forget_rate
        self._report = None

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        outputs = [model(inputs, training=training) for model in (self.model, self.model_b)]
        if self._report is not None:
            self._report(outputs)
        return tree.map_structure(lambda a, b: (a + b) / 2, *outputs)

    def objective(self, batch, forward):
        with self._watched() as seen:
            loss, values = super().objective(without_samples(batch), forward)
        y, weights = batch.y, resolve_weights(batch, forward.outputs)
        if forward.model._is_semi_supervised():
            y, weights = _data.mask_unlabelled(y, forward.outputs, weights)
        losses = [upcast(forward.sample_losses(y, outputs)) for outputs in seen[0]]
        weights = ops.ones_like(losses[0]) if weights is None else weights
        weights = per_sample(ops.cast(weights, losses[0].dtype))

        present = weights > 0
        rate = ops.cast(self.scheduled(self.forget_rate, batch), "float32")
        kept = (1.0 - rate) * ops.sum(ops.cast(present, "float32"))
        kept = ops.maximum(ops.floor(kept + 1e-3), 1.0)  # As with exact fractions.
        chosen = [_smallest(values, present, kept) for values in losses]
        for own, by_the_other in zip(losses, reversed(chosen)):
            mean = ops.sum(ops.where(by_the_other, weights * own, 0.0)) / ops.cast(kept, own.dtype)
            loss = loss + ops.cast(mean, loss.dtype)
        return loss, values

    @contextlib.contextmanager
    def _watched(self):
        """Collects the outputs of both networks, of which `call` gives out the mean alone."""
        seen = []
        self._report = seen.append  # A list of its own Keras would track.
        try:
            yield seen
        finally:
            self._report = None

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        config["model_a"] = config.pop("model")
        return {
            **config,
            "model_b": keras.saving.serialize_keras_object(self.model_b),
            "forget_rate": keras.saving.serialize_keras_object(self.forget_rate),
        }


def _smallest(losses, present, count):
    """Which of the present samples have the `count` smallest losses."""
    losses = ops.where(present, ops.stop_gradient(losses), float("inf"))
    ranks = ops.argsort(ops.argsort(losses))
    return (ops.cast(ranks, "float32") < count) & present
