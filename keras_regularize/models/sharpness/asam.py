"""Adaptive sharpness-aware minimization."""

from collections.abc import Callable, Sequence
from typing import Any

import keras

from keras_regularize.models.regularized_model import RegularizedModel
from keras_regularize.models.sharpness._gradients import climb_adaptively
from keras_regularize.registration import export
from keras_regularize.utils.variables import check_where, chooser, everything
from keras_regularize.validation import check_number


@export
class ASAM(RegularizedModel):
    r"""Adaptive SAM: perturbs every weight in proportion to its size.

    $$e = \rho\,\frac{T^2 \nabla L(w)}{\|T \nabla L(w)\|_2 + 10^{-16}}, \qquad T = |w| + \eta,$$

    and the gradient at $w + e$. Biases and normalization offsets (variables called `bias` or `beta`) have
    $T = 1$. The norm is joint over all variables. Rescaling one ReLU layer by $c$ and the next by $1/c$
    leaves the perturbed loss unchanged (for $\eta = 0$ and no biases), which is not so for `SAM`.

    Tip: good values of `rho` are about ten times those of `SAM`.

    Args:
        model: The model to train, or another wrapper.
        rho: Length of the perturbation in units of $T$, at least 0; or a schedule.
        eta: Smallest scale $\eta$ of a weight, at least 0.
        where: Which variables are perturbed: the name of a variable, a list of names of variables or of layers
            on their path, or a function of the variable such as `kr.utils.AllBut`; `None` for all.
        **kwargs: `name` and other arguments of `keras.Model`.

    Raises:
        ValueError: If an argument is out of range or `model` is not a `keras.Model`.

    Cost: two forward-backward passes per step.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    net = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    model = kr.models.ASAM(net, rho=0.5)
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(np.ones((8, 3)), np.zeros(8), verbose=0)
    ```

    Reference: Kwon, Kim, Park and Choi, *ASAM: Adaptive Sharpness-Aware Minimization for Scale-Invariant
    Learning of Deep Neural Networks*, ICML 2021, arXiv:2102.11600.
    """

    def __init__(
        self,
        model: keras.Model,
        rho: Any = 0.5,
        eta: float = 0.01,
        where: str | Sequence[str] | Callable[[keras.Variable], bool] | None = None,
        **kwargs: Any,
    ):
        super().__init__(model, **kwargs)
        self.rho = check_number("rho", rho, minimum=0, schedule=True)
        self.eta = check_number("eta", eta, minimum=0)
        self.where = check_where(where)

    def gradients(self, objective, weights, batch):
        loss, aux, gradients = super().gradients(objective, weights, batch)
        rho = self.scheduled(self.rho, batch)
        chosen = chooser(self.where, everything)
        perturbed = climb_adaptively(weights, gradients, batch.variables, rho, self.eta, chosen)
        _, _, gradients = super().gradients(objective, perturbed, batch)
        return loss, aux, gradients
