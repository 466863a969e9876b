"""How far a waveform is from another in decibels, nearly."""

import math
from typing import Any

from keras import ops

from keras_regularize.metrics._samples import position_weights
from keras_regularize.metrics._weighted_mean import WeightedMean
from keras_regularize.numerics import maximum, mean, safe_sqrt
from keras_regularize.ops.spectrograms import check_resolution, power_spectrogram, read_waveforms
from keras_regularize.registration import export

_FLOOR = 1e-8


@export
class LogSpectralDistance(WeightedMean):
    r"""Log-spectral distance of waveforms, by which audio super-resolution is judged: less is better.

    $$\operatorname{mean}_\text{frames}\, \sqrt{\operatorname{mean}_\text{frequencies}
      \big( \log_{10} |S|^2 - \log_{10} |\hat S|^2 \big)^2},$$

    the mean over samples, of a short-time Fourier transform with a periodic window of Hann as long as the frame,
    with signals reflected at their ends. Squared magnitudes below $10^{-8}$ count as that. All frequencies count
    alike, also those that hardly sound: one that a low-pass filter took away costs much.

    Args:
        fft_size: Samples of a frame, at least 2.
        hop_size: Samples between frames, at least 1.
        name: Name of the metric.
        dtype: Dtype of the metric, as in `keras.metrics.Metric`. The state is float32.

    Call arguments:
        y_true: Waveforms `(batch, time)` or `(batch, time, 1)`, of more than half of `fft_size` samples.
        y_pred: Waveforms of the same shape.
        sample_weight: Weights of waveforms `(batch,)`, or a scalar.

    Returns:
        `result()` is a float32 scalar, 0 before the first sample.

    Raises:
        ValueError: If a size is out of range, the shapes do not fit, or signals are too short.

    Cost: two transforms.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    metric = kr.metrics.LogSpectralDistance(fft_size=64, hop_size=16)
    y = np.random.normal(size=(2, 256))
    metric.update_state(y, 0.1 * y)
    float(metric.result())  # 2
    ```

    Reference: Moshe Mandel, Or Tal and Yossi Adi, *AERO: Audio Super Resolution in the Spectral Domain*, ICASSP
    2023, arXiv:2211.12232, and the authors' code.
    """

    def __init__(
        self,
        fft_size: int = 2048,
        hop_size: int = 512,
        name: str | None = "log_spectral_distance",
        dtype: str | None = None,
    ):
        super().__init__(name, dtype)
        self.fft_size, self.hop_size, _ = check_resolution(fft_size, hop_size, fft_size)

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Adds the waveforms of a batch."""
        signals = read_waveforms(y_true, y_pred, self.fft_size)
        logs = [
            ops.log(
                maximum(power_spectrogram(x, self.fft_size, self.hop_size, self.fft_size), _FLOOR)
            )
            for x in signals
        ]
        squares = mean(ops.square(logs[1] - logs[0]), axis=-1) / math.log(10.0) ** 2
        values = ops.cast(mean(safe_sqrt(squares), axis=-1), "float32")
        ones = ops.ones_like(values)
        weight = position_weights(y_pred, tuple(values.shape), sample_weight)
        self.add_values(values, ones if weight is None else weight * ones)
