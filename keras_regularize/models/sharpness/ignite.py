"""A bound on the gradient norm of a surrogate's own prediction."""

from typing import Any

import keras
from keras import ops, tree

from keras_regularize import autodiff
from keras_regularize.autodiff import backend
from keras_regularize.models.regularized_model import RegularizedModel
from keras_regularize.models.sharpness._gradients import climb, combine
from keras_regularize.models.step.objective import scaled
from keras_regularize.numerics import global_norm, upcast
from keras_regularize.registration import export
from keras_regularize.validation import check_number


@export
class IGNITE(RegularizedModel):
    r"""Keeps the mean prediction of a surrogate insensitive to its weights, for offline optimization.

    A surrogate is fitted to past experiments and then searched for better inputs; where it is sharp, the search
    runs into its errors. With $G(w)$ the mean output over a batch, the bound $\rho\,\|\nabla G\|_2 \le \theta$
    joins the loss with a multiplier $\lambda$ that adapts:

    $$\nabla L(w) + \lambda\,\frac{\rho}{r}\,\big(\nabla G(w + r\,d / \|d\|) - d\big), \qquad d = \nabla G(w),$$

    whose second part is the finite-difference gradient of $\lambda\rho\|\nabla G\|$; afterwards
    $\lambda \leftarrow \lambda + \eta_\lambda(\rho\|d\| - \theta)$. Norms are joint over all variables, with a
    guard of $10^{-12}$. $G$ takes the batch's inputs, in training mode, and no sample weights; of several outputs
    it is the mean of means. For a model that is linear in its weights, $d$ is constant and they see nothing of it.

    Args:
        model: The model to train, a regressor, or another wrapper.
        rho: Radius $\rho$ in which the prediction shall not move, in units of the weights, at least 0;
            or a schedule.
        step: Length $r$ of the finite difference, above 0.
        factor: Multiplier $\lambda$ at the start, at least 0. The current one is the variable `factor`; as in the
            authors' code it may become negative.
        threshold: Bound $\theta$ on the change of the prediction, at least 0.
        factor_learning_rate: Step $\eta_\lambda$ of the multiplier, at least 0; 0 keeps it.
        **kwargs: `name` and other arguments of `keras.Model`.

    Raises:
        ValueError: If an argument is out of range or `model` is not a `keras.Model`.

    Cost: three forward-backward passes per step.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    net = keras.Sequential([keras.Input((3,)), keras.layers.Dense(8, "tanh"), keras.layers.Dense(1)])
    model = kr.models.IGNITE(net, factor=0.1)
    model.compile("sgd", "mse")
    model.fit(np.ones((8, 3)), np.zeros((8, 1)), verbose=0)
    float(model.factor.value)  # the multiplier now
    ```

    Reference: Dao, Nguyen, Truong and Hoang, *Incorporating Surrogate Gradient Norm to Improve Offline
    Optimization Techniques*, NeurIPS 2024, arXiv:2503.04242. Differs from the authors' code in the guards (theirs
    gives NaN at a zero gradient).
    """

    def __init__(
        self,
        model: keras.Model,
        rho: Any = 0.05,
        step: float = 0.05,
        factor: float = 1e-3,
        threshold: float = 1e-3,
        factor_learning_rate: float = 1e-3,
        **kwargs: Any,
    ):
        super().__init__(model, **kwargs)
        self.rho = check_number("rho", rho, minimum=0, schedule=True)
        self.step = check_number("step", step, above=0)
        self.initial_factor = check_number("factor", factor, minimum=0)
        self.threshold = check_number("threshold", threshold, minimum=0)
        self.factor_learning_rate = check_number(
            "factor_learning_rate", factor_learning_rate, minimum=0
        )
        self.factor = self.add_weight(
            shape=(),
            initializer=keras.initializers.Constant(self.initial_factor),
            dtype="float32",
            trainable=False,
            autocast=False,
            aggregation="only_first_replica",
            name="factor",
        )

    def gradients(self, objective, weights, batch):
        loss, aux, gradients = super().gradients(objective, weights, batch)
        here = self._sensitivity(objective, weights, batch)
        norm = global_norm(here)
        moved = climb(weights, here, self.step)
        there = self._sensitivity(objective, moved, batch)
        factor = self.factor.value
        rho = self.scheduled(self.rho, batch)
        share = factor * (rho / self.step)
        added = combine(share, there, -share, here)
        gradients = combine(1.0, gradients, 1.0, added)
        excess = rho * ops.cast(norm, "float32") - self.threshold
        updated = factor + self.factor_learning_rate * excess
        return loss, aux._replace(states={**aux.states, self.key: updated}), gradients

    def after_update(self, batch, aux, gradients):
        super().after_update(batch, aux, gradients)
        self.factor.assign(aux.states[self.key])

    def _sensitivity(self, objective, weights, batch):
        """Gradient of the mean output, scaled and averaged over replicas like that of the objective."""

        def mean_output(weights):
            forward = objective.forward(weights)
            outputs = forward(objective.model.training_inputs(batch), training=True)
            means = [ops.mean(upcast(output)) for output in tree.flatten(outputs)]
            return scaled(sum(means) / len(means), objective.scale)

        gradients = [scaled(g, 1.0 / objective.scale) for g in autodiff.grad(mean_output)(weights)]
        return backend.reduce_mean_over_replicas(gradients) if objective.reduce else gradients
