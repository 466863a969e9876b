"""Spectral risk: the worst losses of a batch count more than the others."""

from typing import Any

import keras

from keras_regularize._export import export
from keras_regularize.autodiff.compiled_losses import sample_losses
from keras_regularize.losses._loss import Loss
from keras_regularize.losses.risk._spectral_weights import (
    check_spectrum,
    spectral_contributions,
    spectral_weights,
)
from keras_regularize.scores import uses_logits


@export
class SpectralRisk(Loss):
    r"""A spectral risk measure of another loss over the batch: trains for the tail in the place of the mean.

    With the losses $\ell_1 \dots \ell_n$ of the batch, each sample contributes

    $$n\, q_i\, \ell_i - \nu\, D(q \,\|\, \tfrac1n \mathbb 1), \qquad
      q = \arg\max_{q \in P(\sigma)} \langle q, \ell\rangle - \nu\, D(q \,\|\, \tfrac1n \mathbb 1),$$

    so that their mean is the risk. The weights $q$ grow with the loss and are those of
    `kr.losses.spectral_weights`, where spectra and penalties are described; they are constants for the
    gradient, which is $\sum_i q_i \nabla \ell_i$. `spectrum="uniform"` is the mean. The risk is never below
    the mean if there is no shift cost, and adding a constant to all losses adds it to the risk.

    The samples are sorted within the batch, so the expected gradient is that of the risk of a batch, a little
    milder than the data's; use large batches, or `kr.models.Prospect`, which remembers all losses. Outliers and
    wrong labels are worst cases too: a shift cost of the size of the losses' spread keeps any sample from
    dominating. Where groups are known, `kr.models.GroupDRO` uses them.

    Args:
        loss: The loss per sample: a `keras.losses.Loss`, a function, or the name of one of Keras' own. Its own
            reduction is not used.
        spectrum: `"cvar"` (mean of the worst fraction), `"extremile"`, `"esrm"` or `"uniform"`.
        parameter: The worst fraction in (0, 1] for `"cvar"` (the authors: 0.5), the exponent of at least 1 for
            `"extremile"` (2), the risk aversion above 0 for `"esrm"` (1).
        shift_cost: Price $\nu \ge 0$ of leaving the uniform weights, in units of the loss.
        penalty: $D$: `"chi2"` or `"kl"`.
        reduction: Reduction of the values as in `keras.losses.Loss`. Sample weights multiply the
            contributions and do not change $q$.
        name: Name of the loss.
        dtype: Dtype of the computation, as in `keras.losses.Loss`.

    Call arguments:
        y_true: What the wrapped loss takes.
        y_pred: What the wrapped loss takes. Losses per position, `(batch, time)`, are averaged per sample.

    Returns:
        Contributions `(batch,)`.

    Raises:
        ValueError: If an argument is out of its range, or the wrapped loss gives a scalar.

    Cost: the wrapped loss and one sort; with a shift cost a few arrays of batch × batch.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    x, y = np.random.normal(size=(64, 8)), np.random.randint(0, 3, size=64)
    model = keras.Sequential([keras.layers.Dense(3)])
    cross_entropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss=kr.losses.SpectralRisk(cross_entropy, "extremile", 2.0, shift_cost=0.1))
    model.fit(x, y, batch_size=64, verbose=0)
    ```

    Reference: Mehta, Roulet, Pillutla and Harchaoui, *Distributionally Robust Optimization with Bias and
    Variance Reduction*, ICLR 2024, arXiv:2310.13863.
    """

    def __init__(
        self,
        loss: Any,
        spectrum: str = "cvar",
        parameter: float = 0.5,
        shift_cost: float = 0.0,
        penalty: str = "chi2",
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "spectral_risk",
        dtype: str | None = None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        check_spectrum(spectrum, parameter, shift_cost, penalty)
        self.loss = keras.losses.get(loss)
        if self.loss is None:
            raise ValueError(
                f"`loss` must be a loss, its name or a function. Received: loss={loss!r}"
            )
        self.spectrum = spectrum
        self.parameter = float(parameter)
        self.shift_cost = float(shift_cost)
        self.penalty = penalty

    @property
    def from_logits(self) -> bool:
        """Whether predictions are logits: what the wrapped loss says."""
        return uses_logits(self.loss)

    def call(self, y_true, y_pred):
        losses = sample_losses(self.loss, y_true, y_pred)
        weights = spectral_weights(
            losses, self.spectrum, self.parameter, self.shift_cost, self.penalty
        )
        return spectral_contributions(losses, weights, self.shift_cost, self.penalty)

    def get_config(self):
        return {
            **super().get_config(),
            "loss": keras.losses.serialize(self.loss),
            "spectrum": self.spectrum,
            "parameter": self.parameter,
            "shift_cost": self.shift_cost,
            "penalty": self.penalty,
        }
