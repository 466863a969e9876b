"""Gradient alignment: single-step adversarial training with input gradients that agree."""

from typing import Any

import keras
from keras import ops

from keras_regularize.attacks.attack import Attack
from keras_regularize.attacks.bounds import uniform_noise
from keras_regularize.attacks.gradient_sign import FGSM
from keras_regularize.models._input_gradients import inner_products, input_gradients
from keras_regularize.models.attacked_model import AttackedModel
from keras_regularize.numerics import GUARD, TINY, maximum, mean
from keras_regularize.registration import export
from keras_regularize.validation import check_number


@export
class GradAlign(AttackedModel):
    r"""Fast adversarial training with input gradients that point the same way all over the ball.

    $$L(x') + \lambda\,\Big(1 - \frac1B\sum_i
    \cos\big(\nabla_x \ell(x_i),\, \nabla_x \ell(x_i + \eta_i)\big)\Big)$$

    with $x'$ from the attack and $\eta = U(-\epsilon, \epsilon)$, where $\epsilon$ is the attack's radius.
    A single-step attack is a good one as long as the gradient it follows holds on the way, which this asks for;
    it prevents catastrophic overfitting at the price of a second derivative. `ELLE` does so without.

    The gradient at $x$ is a constant, found once a step; that at $x + \eta$ is differentiated. Both are of the
    compiled loss per sample and, like the attack, see the model in training mode, as in the authors' code.
    Samples without a gradient are left out of the mean. The step's one kept pass is that on $x'$: logged are
    the objective and metrics on adversarial inputs.

    On TensorFlow with batch normalization in training mode, the second derivatives that the step needs are wrong:
    Keras takes moments by an operation that treats the mean within the variance as a constant.

    Args:
        model: The model to train, or another wrapper.
        attack: The attack, one with a radius `epsilon`; `None` for `FGSM()`. One with `layer=` perturbs that
            layer's output, and the gradients are those with respect to it; one with `inputs=` these inputs.
        factor: Weight $\lambda$ of the misalignment, at least 0; or a schedule. The authors use 0.2 at
            $\epsilon = 8/255$ on CIFAR-10, up to 2 at 16/255.
        seed: Seed of $\eta$.
        **kwargs: `name` and other arguments of `keras.Model`.

    Raises:
        ValueError: If an argument is out of range, the attack has no `epsilon`, labels are missing, or the
            inputs are integers and the attack has no `layer`.

    Cost: the attack (FGSM: one forward and input-backward pass), another such pass, one forward-backward pass
    on the attacked inputs, and one with a double backward. `torch.compile` cannot do that: `jit_compile=True`
    runs eagerly on torch, with a warning.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    net = keras.Sequential([keras.Input((4,)), keras.layers.Dense(5, "tanh"), keras.layers.Dense(3)])
    model = kr.models.GradAlign(net, kr.attacks.FGSM(epsilon=0.1), factor=0.2)
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    x = np.random.default_rng(0).random((8, 4))
    model.fit(x, np.arange(8) % 3, verbose=0)
    ```

    Reference: Andriushchenko and Flammarion, *Understanding and Improving Fast Adversarial Training*,
    NeurIPS 2020, arXiv:2007.02617.
    """

    double_backward = True
    attack_training = True

    def __init__(
        self,
        model: keras.Model,
        attack: Attack | None = None,
        factor: Any = 0.2,
        seed: int | None = None,
        **kwargs: Any,
    ):
        check_number("factor", factor, minimum=0, schedule=True)
        super().__init__(model, FGSM() if attack is None else attack, **kwargs)
        if not hasattr(self.attack, "epsilon"):
            raise ValueError(
                f"`attack` must have a radius `epsilon`, as `FGSM` has. Received: attack={attack!r}"
            )
        self.factor = factor
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def prepare(self, batch, forward):
        batch = super().prepare(batch, forward)
        gradients = self._gradients(forward, batch)
        noise = [self._noise(g) for g in gradients]
        return batch.add(**{f"{self.key}_gradients": (gradients, noise)})

    def objective(self, batch, forward):
        loss, values = self.attacked_objective(batch, forward)
        aims, noise = batch.extra[f"{self.key}_gradients"]
        noise = iter(noise)
        gradients = self._gradients(forward, batch, lambda leaf: next(noise))
        size, aim_size = inner_products(gradients, gradients), inner_products(aims, aims)
        kept = ops.logical_and(size > TINY, aim_size > TINY)
        sizes = ops.where(kept, size, 1.0), ops.where(kept, aim_size, 1.0)
        cosine = inner_products(gradients, aims) / (ops.sqrt(sizes[0]) * ops.sqrt(sizes[1]))
        kept = ops.cast(kept, cosine.dtype)
        share = maximum(mean(kept), GUARD)
        misalignment = forward.sample_mean(kept * (1.0 - cosine) / share, batch)
        factor = self.scheduled(self.factor, batch)
        return loss + ops.cast(factor * misalignment, loss.dtype), values

    def _gradients(self, forward, batch, shift=None):
        return input_gradients(forward, batch, self.attack.layer, shift, self.attack.inputs)

    def _noise(self, like):
        return uniform_noise(like, self.attack.epsilon, self.seed_generator)
