"""The width of proximal matching, halved stage by stage."""

from typing import Any

import keras
from keras import tree

from keras_regularize.losses.proximal_matching import ProximalMatching
from keras_regularize.validation import check_integer, check_number


class GammaSchedule(keras.callbacks.Callback):
    r"""Halves the $\gamma$ of `kr.losses.ProximalMatching` stage by stage, down to the one that is wanted.

    In stage $k = 0, \dots, S - 1$ it is $\gamma_{\min} 2^{S - 1 - k}$: wide at first, where errors are large and
    would have no gradient, and narrow at last, where the minimizer is the proximal map. After the last stage it
    stays. A model that is resumed by `fit(…, initial_epoch=…)` goes on in its stage.

    Args:
        gamma_min: $\gamma_{\min} > 0$.
        epochs_per_stage: Number of epochs in a stage, at least 1.
        num_stages: $S \ge 1$.

    Raises:
        ValueError: If a number is out of range; when training begins, if no loss of the model is a
            `ProximalMatching`.

    Cost: the train function is compiled anew in each stage.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    x = np.random.laplace(size=(64, 1))
    model = keras.Sequential([kr.layers.LearnedProximal(8, 2, beta=10.0)])
    model.compile("adam", kr.losses.ProximalMatching(gamma=0.8))
    schedule = kr.callbacks.GammaSchedule(0.1, epochs_per_stage=1)
    noisy = x + np.random.normal(size=x.shape)
    model.fit(noisy, x, epochs=4, callbacks=[schedule], verbose=0)
    ```

    Reference: Zhenghan Fang, Sam Buchanan and Jeremias Sulam, *What's in a Prior? Learned Proximal Networks for
    Inverse Problems*, ICLR 2024, arXiv:2310.14344.
    """

    def __init__(self, gamma_min: float, epochs_per_stage: int = 1, num_stages: int = 4):
        super().__init__()
        self.gamma_min = check_number("gamma_min", gamma_min, above=0)
        self.epochs_per_stage = check_integer("epochs_per_stage", epochs_per_stage, minimum=1)
        self.num_stages = check_integer("num_stages", num_stages, minimum=1)

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Called by Keras."""
        losses = tree.flatten(self.model.loss)
        self._losses = [loss for loss in losses if isinstance(loss, ProximalMatching)]
        if not self._losses:
            raise ValueError(
                "`GammaSchedule` needs a model that is compiled with `kr.losses.ProximalMatching`. "
                f"Received: loss={self.model.loss!r}"
            )

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Called by Keras."""
        stage = min(epoch // self.epochs_per_stage, self.num_stages - 1)
        gamma = self.gamma_min * 2.0 ** (self.num_stages - 1 - stage)
        if all(loss.gamma == gamma for loss in self._losses):
            return
        for loss in self._losses:
            loss.gamma = gamma
        # It is a constant of the compiled functions.
        self.model.make_train_function(force=True)
        self.model.make_test_function(force=True)
