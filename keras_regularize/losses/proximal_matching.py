"""A loss whose best denoiser is the most likely image, not the mean of all."""

from typing import Any

from keras import ops

from keras_regularize.losses.loss import Loss
from keras_regularize.registration import export
from keras_regularize.targets import align_targets
from keras_regularize.validation import check_number


@export
class ProximalMatching(Loss):
    r"""Trains a denoiser to give the most likely image, as the proximal map of a prior does.

    $$1 - \exp\big(-\|\hat x - x\|^2 / \gamma^2\big),$$

    with the sum of squares over a whole sample. It counts misses: as $\gamma \to 0$ its minimizer is the mode of
    $x$ given the noisy image, that is $\operatorname{prox}_{-\sigma^2 \log p}$, while that of squared error is the
    mean. Errors far above $\gamma$ have a gradient of 0. So train by `"mae"` first, then with
    `kr.callbacks.GammaSchedule` from a large $\gamma$ down. For images of $n$ numbers about $0.08 \sqrt n$ is
    small enough at a noise of 0.1.

    Args:
        gamma: $\gamma > 0$, in units of the norm of a sample.
        reduction: Reduction of the values as in `keras.losses.Loss`.
        name: Name of the loss.
        dtype: Dtype of the computation, as in `keras.losses.Loss`.

    Call arguments:
        y_true: Clean samples `(batch, …)`.
        y_pred: Denoised samples of the same shape.

    Returns:
        With `reduction="none"` one value per sample `(batch,)`, else a scalar.

    Raises:
        ValueError: If `gamma` is not positive or the shapes do not fit.

    Cost: that of squared error.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    x = np.random.laplace(size=(64, 1))
    noisy = x + np.random.normal(size=x.shape)
    model = keras.Sequential([kr.layers.LearnedProximal(8, 2, beta=10.0)])
    model.compile("adam", kr.losses.ProximalMatching(gamma=0.5))
    model.fit(noisy, x, verbose=0)
    ```

    Reference: Zhenghan Fang, Sam Buchanan and Jeremias Sulam, *What's in a Prior? Learned Proximal Networks for
    Inverse Problems*, ICLR 2024, arXiv:2310.14344. Theirs may be divided by a constant, $(\pi \gamma^2)^{n / 2}$.
    """

    def __init__(
        self,
        gamma: float,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "proximal_matching",
        dtype: str | None = None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.gamma = check_number("gamma", gamma, above=0)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        targets, predicted = align_targets(y_true, y_pred)
        error = (predicted - targets) / self.gamma
        axes = tuple(range(1, len(error.shape)))
        return -ops.expm1(-ops.sum(error * error, axis=axes))
