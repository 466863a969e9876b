"""Spectral risk: the worst losses of a batch count more than the others."""

from typing import Any

import keras
from keras import ops

from keras_regularize.autodiff.compiled_losses import per_sample
from keras_regularize.losses._coupled import BatchCoupledLoss
from keras_regularize.losses.loss import Loss
from keras_regularize.losses.risk.spectra import (
    check_spectrum,
    price,
    relative_weights,
    weights_among,
)
from keras_regularize.masks import keras_mask
from keras_regularize.numerics import masked_mean, upcast
from keras_regularize.registration import export
from keras_regularize.scores import uses_logits


@export
class SpectralRisk(BatchCoupledLoss):
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
            contributions and do not change $q$, but samples and positions that do not count (weight 0, masked,
            ignored by the wrapped loss) are not there: $n$ is the number of the others.
        name: Name of the loss.
        dtype: Dtype of the computation, as in `keras.losses.Loss`.

    Call arguments:
        y_true: What the wrapped loss takes.
        y_pred: What the wrapped loss takes. Losses per position, `(batch, time)`, are averaged per sample to
            find $q_i$, which weighs all its positions.

    Returns:
        With `reduction="none"` the contributions, of the shape of the wrapped loss' values; `call` gives their
        means per sample, `(batch,)`.

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
        self.loss = keras.losses.get(loss)
        if self.loss is None:
            raise ValueError(
                f"`loss` must be a loss, its name or a function. Received: loss={loss!r}"
            )
        self.spectrum, self.parameter, self.shift_cost, self.penalty = check_spectrum(
            spectrum, parameter, shift_cost, penalty
        )

    @property
    def from_logits(self) -> bool | None:
        """Whether predictions are logits: what the wrapped loss says."""
        return uses_logits(self.loss)

    def values(self, y_true, y_pred, counted):
        losses, own_mask = self._losses(y_true, y_pred)
        kept = counted(losses.shape)
        if own_mask is not None:
            kept = own_mask if kept is None else ops.logical_and(kept, own_mask)
        present = None
        if kept is None:
            each = per_sample(losses)
        else:
            kept = ops.logical_and(kept, ops.ones_like(losses, dtype="bool"))
            losses = ops.where(kept, losses, 0.0)
            axes = tuple(range(1, len(losses.shape)))
            each = masked_mean(losses, kept, axis=axes) if axes else losses
            # From the last on: Keras 3.13 reduces them one by one on PyTorch.
            present = ops.any(kept, axis=axes[::-1]) if axes else kept
        weights = weights_among(
            ops.stop_gradient(each),
            present,
            self.spectrum,
            self.parameter,
            self.shift_cost,
            self.penalty,
        )
        relative = relative_weights(weights, present)
        rank = len(losses.shape)
        values = (
            ops.expand_dims(relative, axis=tuple(range(1, rank))) * losses
            if rank > 1
            else relative * losses
        )
        if self.shift_cost > 0:
            values = values - self.shift_cost * price(relative, present, self.penalty)
        return values, own_mask

    def call(self, y_true, y_pred):
        return per_sample(super().call(y_true, y_pred))

    def _losses(self, y_true, y_pred):
        """The wrapped loss per sample or position, and the mask that it puts on its values."""
        if isinstance(y_pred, (dict, list, tuple)):
            losses = self._value(y_true, y_pred)
        else:
            y_pred = upcast(y_pred)  # Half precision holds few class ids.
            losses = self._value(ops.cast(y_true, y_pred.dtype), y_pred)
        if len(losses.shape) == 0:
            raise ValueError(
                f"The wrapped loss must give a value per sample. Received the scalar of {self.loss}"
            )
        return losses, keras_mask(losses)

    def _value(self, y_true, y_pred):
        if isinstance(self.loss, keras.losses.Loss):
            return self.loss.call(y_true, y_pred)
        if not isinstance(
            y_pred, (dict, list, tuple)
        ):  # Keras aligns ranks before it calls a function.
            given, rank = len(y_true.shape), len(y_pred.shape)
            if rank == given + 1 and y_pred.shape[-1] == 1:
                y_true = ops.expand_dims(y_true, -1)
            elif given == rank + 1 and y_true.shape[-1] == 1:
                y_pred = ops.expand_dims(y_pred, -1)
        return self.loss(y_true, y_pred)

    def _spells_out_weights(self):
        return isinstance(self.loss, Loss)
