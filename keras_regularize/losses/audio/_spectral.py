"""What the losses of spectrograms have in common."""

from typing import Any

from keras import ops

from keras_regularize.losses._coupled import BatchCoupledLoss, present
from keras_regularize.numerics import maximum, mean, safe_abs, safe_sqrt
from keras_regularize.ops.spectrograms import power_spectrogram, read_waveforms

# Of squared magnitudes.
FLOOR = 1e-7


class SpectralLoss(BatchCoupledLoss):
    """A weighted sum of spectral convergence and the error of log-magnitudes, averaged over resolutions."""

    def terms(self) -> Any:
        """`(resolutions, weight of the convergence, weight of the magnitudes)`."""
        raise NotImplementedError

    def values(self, y_true, y_pred, counted):
        resolutions, convergence, magnitude = self.terms()
        targets, predicted = read_waveforms(y_true, y_pred, max(r[0] for r in resolutions))
        here = present(counted, predicted[:, 0])
        total = 0.0
        for resolution in resolutions:
            target, power = (
                maximum(power_spectrogram(x, *resolution), FLOOR) for x in (targets, predicted)
            )
            if convergence:
                total = total + convergence * _convergence(target, power, here)
            if magnitude:
                error = mean(safe_abs(ops.log(power) - ops.log(target)), axis=(1, 2))
                total = total + 0.5 * magnitude * error
        return total / len(resolutions) + 0.0 * here, None


def _convergence(target_power, power, here):
    """`‖|S| - |Ŝ|‖ / ‖|S|‖` over all samples that count."""
    targets, magnitudes = ops.sqrt(target_power), ops.sqrt(power)
    error = ops.sum(ops.square(magnitudes - targets), axis=(1, 2))
    size = ops.sum(target_power, axis=(1, 2))
    error, size = (ops.sum(ops.where(here > 0, x, 0.0)) for x in (error, size))
    return safe_sqrt(error) / ops.sqrt(maximum(size, FLOOR))
