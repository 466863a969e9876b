"""The loss of waveforms that vocoders and audio super-resolution are trained by."""

from collections.abc import Sequence

from keras_regularize.losses.audio._spectral import SpectralLoss
from keras_regularize.ops.spectrograms import check_resolution
from keras_regularize.registration import export
from keras_regularize.validation import check_number


@export
class MultiResolutionSTFT(SpectralLoss):
    r"""Compares waveforms by their spectrograms at several resolutions, not sample by sample.

    The mean over resolutions $r$ of

    $$w_\text{sc}\, \frac{\big\lVert\, |S_r| - |\hat S_r| \,\big\rVert_F}{\big\lVert\, |S_r| \,\big\rVert_F}
      + w_\text{mag}\, \operatorname{mean}\, \big| \log |S_r| - \log |\hat S_r| \big|,$$

    that is of `kr.losses.SpectralConvergence`, over the whole batch, and `kr.losses.LogSTFTMagnitude`, per
    sample. No single resolution is fine in time and frequency both, and a network that fits one alone leaves
    artefacts in the others. Squared error of waveforms punishes a phase that nobody hears, and high frequencies,
    which have little energy, are lost in it.

    Args:
        fft_sizes: Samples of a frame at each resolution, at least 2.
        hop_sizes: Samples between frames, at least 1.
        window_lengths: Samples of the window, from 2 to the size of the frame.
        spectral_convergence_weight: $w_\text{sc} \ge 0$.
        magnitude_weight: $w_\text{mag} \ge 0$.
        reduction: How the values become one, as in `keras.losses.Loss`.
        name: Name of the loss.
        dtype: Dtype of the computation, as in `keras.losses.Loss`.

    Call arguments:
        y_true: Waveforms `(batch, time)` or `(batch, time, 1)`, of more than half of `fft_size` samples.
        y_pred: Waveforms of the same shape.

    Returns:
        With `reduction="none"` values `(batch,)`, else a scalar.

    Raises:
        ValueError: If there are not as many sizes of each kind, one is out of range, both weights are 0, the
            shapes do not fit, or signals are too short.

    Cost: two transforms per resolution.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    net = keras.Sequential([keras.Input((512, 1)), keras.layers.Conv1D(1, 9, padding="same")])
    net.compile("adam", kr.losses.MultiResolutionSTFT((128, 256), (32, 64), (128, 256)))
    y = np.random.normal(size=(4, 512, 1))
    net.fit(y, y, verbose=0)
    ```

    Reference: Ryuichi Yamamoto, Eunwoo Song and Jae-Min Kim, *Parallel WaveGAN*, ICASSP 2020, arXiv:1910.11480.
    With the weights of Moshe Mandel, Or Tal and Yossi Adi, *AERO: Audio Super Resolution in the Spectral Domain*,
    ICASSP 2023, arXiv:2211.12232.
    """

    def __init__(
        self,
        fft_sizes: Sequence[int] = (1024, 2048, 512),
        hop_sizes: Sequence[int] = (120, 240, 50),
        window_lengths: Sequence[int] = (600, 1200, 240),
        spectral_convergence_weight: float = 0.5,
        magnitude_weight: float = 0.5,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "multi_resolution_stft",
        dtype: str | None = None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        sizes = [list(fft_sizes), list(hop_sizes), list(window_lengths)]
        if not sizes[0] or len({len(given) for given in sizes}) > 1:
            raise ValueError(
                "`fft_sizes`, `hop_sizes` and `window_lengths` must have an entry for each resolution. "
                f"Received: {sizes[0]}, {sizes[1]} and {sizes[2]}"
            )
        self._resolutions = [check_resolution(*resolution) for resolution in zip(*sizes)]
        self.fft_sizes, self.hop_sizes, self.window_lengths = map(list, zip(*self._resolutions))
        self.spectral_convergence_weight = check_number(
            "spectral_convergence_weight", spectral_convergence_weight, minimum=0
        )
        self.magnitude_weight = check_number("magnitude_weight", magnitude_weight, minimum=0)
        if self.spectral_convergence_weight + self.magnitude_weight == 0:
            raise ValueError(
                "One of `spectral_convergence_weight` and `magnitude_weight` must be above 0. Received: both 0"
            )

    def terms(self):
        return self._resolutions, self.spectral_convergence_weight, self.magnitude_weight
