"""Efficient local linearity regularization: single-step adversarial training without catastrophic overfitting."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops, tree

from keras_regularize.attacks.attack import Attack, along_samples
from keras_regularize.attacks.bounds import uniform_noise
from keras_regularize.attacks.gradient_sign import FGSM
from keras_regularize.attacks.points import attacked_outputs, floating_leaves, replace_floating
from keras_regularize.autodiff.compiled_losses import per_sample, sample_losses
from keras_regularize.models.attacked_model import AttackedModel
from keras_regularize.numerics import maximum, mean, upcast
from keras_regularize.registration import export
from keras_regularize.scores import label_log_probability
from keras_regularize.validation import check_number, check_numbers, compatible


@export
class ELLE(AttackedModel):
    r"""Fast adversarial training with a loss that stays nearly linear around the inputs.

    $$L(x') + \lambda\,\frac1B\sum_i \big(\ell(x^c_i) - (1-\alpha_i)\,\ell(x^a_i) - \alpha_i\,\ell(x^b_i)\big)^2$$

    with $x'$ from a single-step attack, $x^a, x^b = x + U(-\epsilon, \epsilon)$, $\alpha \sim U(0, 1)$ and
    $x^c = (1-\alpha)\,x^a + \alpha\,x^b$. Training on a single step of the attack alone can collapse from one
    epoch to the next: the network learns to be curved where that step goes, and loses all robustness against
    attacks of several steps. The added term, the local linear approximation error, keeps it from that
    without a second derivative.

    `adaptive=True` (ELLE-A) starts with $\lambda = 0$. Whenever the error exceeds the mean of all errors so
    far by more than `sensitivity` standard deviations, $\lambda$ jumps to `factor` for the next step; else it
    shrinks by `decay`. The variable `current_factor` holds it.

    $\ell$ is the compiled loss per sample, so regression works with an attack on it. As in the authors' code the
    attack sees the model in training mode, with the batch statistics of the clean inputs, and the three points
    pass through it as one batch, in training mode too; they are not clipped. Dropout there draws a mask for each
    point, and the difference counts as an error: leave it out. The step's one kept pass is that on $x'$: logged
    are the objective and metrics on adversarial inputs. Tips: the error shrinks with
    $\epsilon^4$, so small radii need large factors (the authors use 1000 up to $\epsilon = 8/255$, 5000 up to
    20/255, 10000 above, and 4000 for ELLE-A); watch the accuracy under `kr.attacks.PGD`, as that under the
    attack trained with goes up in a collapse.

    Args:
        model: The model to train, or another wrapper.
        epsilon: Radius $\epsilon$ of the cube the points are drawn from, in units of the inputs, at least 0; or a
            list of one for each channel, as `kr.attacks.FGSM` takes it.
        factor: Weight $\lambda$ of the error, at least 0; or a schedule.
        adaptive: Whether the weight acts only after an error rose (ELLE-A).
        decay: By what an adaptive weight is multiplied in other steps, from 0 to 1.
        sensitivity: Number of standard deviations that make an error count as risen, at least 0.
        attack: The attack; `None` for `FGSM(epsilon, bounds=None)`. One with `layer=` perturbs that layer's
            output, and the points are drawn there too; one with `inputs=` these inputs.
        seed: Seed of the points.
        **kwargs: `name` and other arguments of `keras.Model`.

    Raises:
        ValueError: If an argument is out of range, labels are missing, or the inputs are integers and the
            attack has no `layer`.

    Cost: the attack (FGSM: one forward and input-backward pass), one forward-backward pass on its inputs and
    one on a batch three times as long.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    net = keras.Sequential([keras.Input((4,)), keras.layers.Dense(5, "tanh"), keras.layers.Dense(3)])
    model = kr.models.ELLE(net, epsilon=0.1, factor=1000.0)
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    x = np.random.default_rng(0).random((8, 4))
    model.fit(x, np.arange(8) % 3, verbose=0)
    ```

    Reference: Abad Rocamora, Liu, Chrysos, Olmos and Cevher, *Efficient local linearity regularization to
    overcome catastrophic overfitting*, ICLR 2024, arXiv:2401.11618. Differs from the authors' code in taking
    one optimizer step per batch, where that takes two with the same gradient, and in that batch statistics move
    once, by those of $x'$.
    """

    attack_training = True

    def __init__(
        self,
        model: keras.Model,
        epsilon: float | Sequence[float] = 8 / 255,
        factor: Any = 4000.0,
        adaptive: bool = False,
        decay: float = 0.99,
        sensitivity: float = 2.0,
        attack: Attack | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ):
        check_number("factor", factor, minimum=0, schedule=True)
        if attack is None:
            attack = FGSM(epsilon, bounds=None)
        super().__init__(model, attack, **kwargs)
        self.epsilon = check_numbers("epsilon", epsilon, minimum=0)
        self.factor = factor
        self.adaptive = bool(adaptive)
        self.decay = check_number("decay", decay, minimum=0, maximum=1)
        self.sensitivity = check_number("sensitivity", sensitivity, minimum=0)
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        if adaptive:
            self.current_factor, *self._statistics = (
                self.add_weight(
                    shape=(), initializer="zeros", trainable=False, aggregation="mean", name=name
                )
                for name in ("current_factor", "errors_seen", "error_mean", "error_deviations")
            )

    def prepare(self, batch, forward):
        batch = super().prepare(batch, forward)
        if self.attack.layer is None:
            around = [upcast(leaf) for leaf in floating_leaves(batch.x, self.attack.inputs)]
        else:
            around = [ops.zeros_like(upcast(leaf)) for leaf in self.found(batch)]
        x_a, x_b = ([x + self._noise(x) for x in around] for _ in range(2))
        alpha = keras.random.uniform(ops.shape(around[0])[:1], seed=self.seed_generator)
        return batch.add(**{f"{self.key}_points": (x_a, x_b, alpha)})

    def objective(self, batch, forward):
        loss, values = self.attacked_objective(batch, forward)
        x_a, x_b, alpha = batch.extra[f"{self.key}_points"]
        errors = self._errors(
            forward, forward.sample_losses, batch.x, x_a, x_b, alpha, batch.y, training=True
        )
        error = forward.sample_mean(errors, batch)
        if self.adaptive:
            factor = ops.convert_to_tensor(self.current_factor)
            values = {**values, self.key: error}
        else:
            factor = self.scheduled(self.factor, batch)
        return loss + ops.cast(factor * error, loss.dtype), values

    def after_update(self, batch, aux, gradients):
        super().after_update(batch, aux, gradients)
        if self.adaptive:
            state = (self.current_factor, *self._statistics)
            error, factor = aux.values[self.key], self.scheduled(self.factor, batch)
            values = tuple(ops.convert_to_tensor(v) for v in state)
            adapted = _adapted(values, error, factor, self.decay, self.sensitivity)
            finite = ops.isfinite(
                error
            )  # After an overflow, whose step the optimizer skips, it is not.
            for variable, new, value in zip(state, adapted, values):
                variable.assign(ops.where(finite, new, value))

    def linearity_error(self, x_a: Any, x_b: Any, alpha: Any, y: Any) -> Any:
        """The mean squared error of the linear approximation at inference, to watch it on validation data.

        Args:
            x_a: Inputs, in the structure the model takes.
            x_b: Other inputs of the same shapes; those that the attack's `inputs` leaves out are as in `x_a`.
            alpha: Where between the two, `(batch,)`, from 0 at `x_a` to 1 at `x_b`.
            y: Labels.

        Returns:
            A scalar. Before `compile` the loss is the cross-entropy on logits.
        """

        def losses(y, outputs):
            loss = getattr(self, "loss", None)
            if loss is None:
                return per_sample(-label_log_probability(y, outputs, from_logits=True))
            return sample_losses(loss, y, outputs)

        inputs = self.attack.inputs
        a, b = ([upcast(leaf) for leaf in floating_leaves(x, inputs)] for x in (x_a, x_b))
        for given, wanted in zip(b, a, strict=True):
            if not compatible(given.shape, wanted.shape):
                raise ValueError(
                    "`x_a` and `x_b` must have equal shapes. "
                    f"Received: {tuple(wanted.shape)} and {tuple(given.shape)}"
                )
        alpha = ops.reshape(alpha, (-1,))
        return mean(self._errors(self.model, losses, x_a, a, b, alpha, y, training=False))

    @staticmethod
    def adaptive_factor(
        errors: Any, factor: float = 4000.0, decay: float = 0.99, sensitivity: float = 2.0
    ) -> Any:
        """The weights that ELLE-A gives the errors of successive steps.

        Args:
            errors: Errors in the order of the steps, `(steps,)`.
            factor: As in the constructor.
            decay: As in the constructor.
            sensitivity: As in the constructor.

        Returns:
            The weight in each of the steps, `(steps,)`.
        """
        errors = ops.convert_to_tensor(errors)
        state, factors = (ops.zeros((), errors.dtype),) * 4, []
        for i in range(errors.shape[0]):
            factors.append(state[0])
            state = _adapted(state, errors[i], factor, decay, sensitivity)
        return ops.stack(factors) if factors else errors

    def _errors(self, model, losses, x, x_a, x_b, alpha, y, training):
        """Squared errors per sample at perturbed leaves `x_a`, `x_b` of `x`, from one pass over all points."""
        between = [a + along_samples(alpha, a) * (b - a) for a, b in zip(x_a, x_b)]
        points = [ops.concatenate(leaves, axis=0) for leaves in zip(x_a, x_b, between)]
        x, y = tree.map_structure(_three_times, (x, y))
        layer = self.attack.layer
        moved = replace_floating(x, points, self.attack.inputs) if layer is None else points
        values = losses(y, attacked_outputs(model, x, moved, layer, training))
        at_a, at_b, at_c = ops.split(values, 3)
        alpha = ops.cast(alpha, values.dtype)
        return ops.square((at_c - at_a) - alpha * (at_b - at_a))  # Exactly 0 where all are equal.

    def _noise(self, like):
        return uniform_noise(like, self.epsilon, self.seed_generator)


def _three_times(leaf):
    if leaf is None:
        return None
    leaf = ops.convert_to_tensor(leaf)
    return ops.concatenate([leaf, leaf, leaf], axis=0)


def _adapted(state, error, factor, decay, sensitivity):
    """The next `(weight, count, mean, sum of squared deviations)`, by Welford's update."""
    weight, count, mean, deviations = state
    error = ops.cast(error, weight.dtype)
    spread = ops.sqrt(deviations / maximum(count, 1.0))
    risen = ops.logical_and(count > 2, error > mean + sensitivity * spread)
    weight = ops.where(risen, ops.cast(factor, weight.dtype), decay * weight)
    count = count + 1.0
    moved = mean + (error - mean) / count
    return weight, count, moved, deviations + (error - mean) * (error - moved)
