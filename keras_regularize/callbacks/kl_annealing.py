"""The divergence of a variational autoencoder, counted more and more in the course of training."""

import math
from typing import Any

import keras

from keras_regularize.utils.variables import every_layer
from keras_regularize.validation import check_choice, check_integer, check_number


class KLAnnealing(keras.callbacks.Callback):
    r"""Raises the weight of a variational autoencoder's divergence from 0 to its value in the first epochs.

    With the full weight from the start on, codes that say nothing yet are pulled to the prior before the decoder
    has learnt to use them, and may stay there. At the begin of epoch $e = 0, 1, \dots$ the weight is set to
    $\beta\, s(e / E)$ for the $E$ epochs of the warm-up; from epoch $E$ on it is $\beta$.

    | `schedule` | $s(t)$ |
    |---|---|
    | `"linear"` | $t$ |
    | `"sigmoid"` | $1 / (1 + e^{6 - 12 t})$ |
    | `"cyclical"` | $\min(1, (M t \bmod 1) / R)$: $M$ cycles, each of which rises for a share $R$ |

    $\beta$ is the `kl_weight` that `kr.models.VAE`, or a `kr.layers.GaussianSampling` anywhere in the model, was
    made with. They keep the weight in a variable, so that it acts in compiled steps. `fit(…, initial_epoch=…)`
    goes on where the schedule was. At the end of training the weight is $\beta$ again, and `evaluate` and saved
    files have that; what `fit` logs of an epoch, `val_loss` too, has the weight of the epoch.

    Args:
        warmup_epochs: $E > 0$.
        schedule: `"linear"`, `"sigmoid"` or `"cyclical"`.
        cycles: $M \ge 1$, for `"cyclical"`.
        ratio: $R$, above 0 and at most 1, for `"cyclical"`.

    Raises:
        ValueError: If an argument is out of range, or the model has no such weight.

    Cost: a scalar set per epoch.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    inputs = keras.Input((8,))
    encoder = keras.Model(inputs, [keras.layers.Dense(2)(inputs), keras.layers.Dense(2)(inputs)])
    decoder = keras.Sequential([keras.Input((2,)), keras.layers.Dense(8)])
    vae = kr.models.VAE(encoder, decoder)
    vae.compile("adam")
    annealing = kr.callbacks.KLAnnealing(warmup_epochs=2)
    vae.fit(np.random.normal(size=(64, 8)), epochs=3, callbacks=[annealing], verbose=0)
    ```

    Reference: Samuel R. Bowman, Luke Vilnis, Oriol Vinyals, Andrew M. Dai, Rafal Jozefowicz and Samy Bengio,
    *Generating Sentences from a Continuous Space*, CoNLL 2016, arXiv:1511.06349; cyclical: Hao Fu, Chunyuan Li,
    Xiaodong Liu, Jianfeng Gao, Asli Celikyilmaz and Lawrence Carin, *Cyclical Annealing Schedule: A Simple
    Approach to Mitigating KL Vanishing*, NAACL 2019, arXiv:1903.10145.
    """

    def __init__(
        self,
        warmup_epochs: float,
        schedule: str = "linear",
        cycles: int = 4,
        ratio: float = 0.5,
    ):
        super().__init__()
        self.warmup_epochs = check_number("warmup_epochs", warmup_epochs, above=0)
        self.schedule = check_choice("schedule", schedule, ("linear", "sigmoid", "cyclical"))
        self.cycles = check_integer("cycles", cycles, minimum=1)
        self.ratio = check_number("ratio", ratio, above=0, maximum=1)

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Called by Keras."""
        self._layers = [
            layer for layer in every_layer(self.model) if hasattr(layer, "initial_kl_weight")
        ]
        if not self._layers:
            raise ValueError(
                "`KLAnnealing` needs a `kr.models.VAE`, or a model with a `kr.layers.GaussianSampling` in it. "
                f"Received: model={self.model!r}"
            )

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Called by Keras."""
        self._set(self.share(epoch))

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Called by Keras."""
        self._set(1.0)

    def share(self, epoch: float) -> float:
        """$s$ in an epoch, between 0 and 1."""
        time = epoch / self.warmup_epochs
        if time >= 1:
            return 1.0
        if self.schedule == "linear":
            return time
        if self.schedule == "sigmoid":
            return 1.0 / (1.0 + math.exp(6.0 - 12.0 * time))
        return min(1.0, time * self.cycles % 1.0 / self.ratio)

    def _set(self, share):
        for layer in self._layers:
            layer.kl_weight.assign(layer.initial_kl_weight * share)
