"""The relative error of a spectrogram."""

from keras_regularize.losses.audio._spectral import SpectralLoss
from keras_regularize.ops.spectrograms import check_resolution
from keras_regularize.registration import export


@export
class SpectralConvergence(SpectralLoss):
    r"""Relative error of the magnitudes of a spectrogram: what is loud has to be right.

    $$\ell = \frac{\big\lVert\, |S| - |\hat S| \,\big\rVert_F}{\big\lVert\, |S| \,\big\rVert_F},$$

    with both norms over the whole batch, and one value that is repeated for each sample; samples of weight 0 are
    not in it. The short-time Fourier transform has a periodic window of Hann and reflects signals at their ends;
    squared magnitudes below $10^{-7}$ count as that. Phases do not matter: the sign of a signal does not either.

    Args:
        fft_size: Samples of a frame, at least 2.
        hop_size: Samples between frames, at least 1.
        window_length: Samples of the window, from 2 to `fft_size`.
        reduction: How the values become one, as in `keras.losses.Loss`.
        name: Name of the loss.
        dtype: Dtype of the computation, as in `keras.losses.Loss`.

    Call arguments:
        y_true: Waveforms `(batch, time)` or `(batch, time, 1)`, of more than half of `fft_size` samples.
        y_pred: Waveforms of the same shape.

    Returns:
        With `reduction="none"` values `(batch,)`, else a scalar.

    Raises:
        ValueError: If a size is out of range, the shapes do not fit, or signals are too short.

    Cost: two transforms.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    loss = kr.losses.SpectralConvergence(fft_size=64, hop_size=16, window_length=64)
    y = np.sin(np.arange(256.0))[None]
    loss(y, 0.9 * y)  # 0.1
    ```

    Reference: Sercan Ö. Arık, Heewoo Jun and Gregory Diamos, *Fast Spectrogram Inversion using Multi-head
    Convolutional Neural Networks*, IEEE Signal Processing Letters 2019, arXiv:1808.06719. As in Moshe Mandel, Or
    Tal and Yossi Adi, *AERO: Audio Super Resolution in the Spectral Domain*, ICASSP 2023, arXiv:2211.12232.
    """

    def __init__(
        self,
        fft_size: int = 1024,
        hop_size: int = 120,
        window_length: int = 600,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "spectral_convergence",
        dtype: str | None = None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        resolution = check_resolution(fft_size, hop_size, window_length)
        self.fft_size, self.hop_size, self.window_length = resolution

    def terms(self):
        return [(self.fft_size, self.hop_size, self.window_length)], 1.0, 0.0
