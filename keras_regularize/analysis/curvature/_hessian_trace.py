"""The trace of the loss' Hessian, by random probes."""

import dataclasses
from typing import Any

import keras
import numpy as np

from keras_regularize.analysis._objective import Objective
from keras_regularize.analysis._progress import progress
from keras_regularize.validation import check_integer, check_number


@dataclasses.dataclass(frozen=True, eq=False)
class HessianTrace:
    """What `hessian_trace` estimates.

    Attributes:
        trace: Mean of the samples.
        standard_error: Standard error of that mean; NaN with one sample.
        samples: `z'Hz` of each probe.
    """

    trace: float
    standard_error: float
    samples: np.ndarray

    def plot(self, ax: Any = None) -> Any:
        """Draws the mean over the probes so far, with two standard errors.

        Args:
            ax: Axes of Matplotlib to draw on; `None` for the current ones.

        Returns:
            The axes.
        """
        import matplotlib.pyplot as plt

        ax = plt.gca() if ax is None else ax
        count = np.arange(1, len(self.samples) + 1)
        mean = np.cumsum(self.samples) / count
        error = np.array([_standard_error(self.samples[:i]) for i in count])
        ax.plot(count, mean)
        ax.fill_between(count, mean - 2 * error, mean + 2 * error, alpha=0.2)
        ax.set(xlabel="probes", ylabel="trace of the Hessian")
        return ax


def hessian_trace(
    model: keras.Model,
    x: Any,
    y: Any = None,
    num_samples: int = 100,
    tolerance: float = 1e-3,
    probes: Any = None,
    seed: int | None = None,
    *,
    sample_weight: Any = None,
    loss: Any = None,
    batch_size: int = 32,
    include_regularization: bool = False,
) -> HessianTrace:
    r"""The trace of the Hessian of a model's mean loss, with its standard error.

    $$\operatorname{tr} H \approx \frac1m \sum_{j=1}^m z_j^\top H z_j,$$

    Hutchinson's estimate with random signs $z_j$, whose variance is $\frac2m \sum_{i \ne j} H_{ij}^2$: the sum of
    all curvatures, as a measure of flatness less dependent on a single direction than the largest eigenvalue. It
    stops once the standard error is below `tolerance` times the estimate, but not before the tenth probe.

    Args:
        model: A built model, or a wrapper of one; it runs in inference mode and is not changed.
        x: Inputs as arrays, in any nested structure the model takes, or a dataset of batches as `fit` takes them.
        y: Labels as the loss takes them; `None` with a dataset.
        num_samples: Most probes $m$, at least 1.
        tolerance: Relative standard error at which to stop, at least 0; with 0 all probes are used.
        probes: The vectors $z_j$ themselves, each a list of arrays in the shapes of `model.trainable_variables`,
            in the place of random ones; all are used.
        seed: Seed of the probes.
        sample_weight: Weights of samples, or `None`; also the third entry of a dataset's batches.
        loss: A loss of Keras, or a name or function of one with a value per sample; by default the compiled one.
        batch_size: Samples at once where `x` is arrays; it changes time and memory only, but where a loss takes
            the samples of a batch together, as the mean over unmasked positions does in `evaluate`.
        include_regularization: Whether the model's penalties of weights and activities are part of the loss.

    Returns:
        A frozen dataclass of `trace`, `standard_error` and the `samples` of single probes, with `plot(ax=None)`,
        which needs Matplotlib.

    Raises:
        ValueError: If an argument is out of range, the model is not built, or there is no loss or no sample.

    Cost: a Hessian-vector product per probe.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8, "tanh"), keras.layers.Dense(3)])
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    x, y = np.random.normal(size=(60, 4)), np.arange(60) % 3
    result = kr.analysis.hessian_trace(model, x, y, num_samples=20, seed=0)
    print(f"{result.trace:.2f} ± {result.standard_error:.2f}")
    ```

    Reference: Michael F. Hutchinson, *A Stochastic Estimator of the Trace of the Influence Matrix for Laplacian
    Smoothing Splines*, Communications in Statistics 1989; of networks, Zhewei Yao, Amir Gholami, Kurt Keutzer and
    Michael Mahoney, *PyHessian: Neural Networks Through the Lens of the Hessian*, IEEE Big Data 2020,
    arXiv:1912.07145.
    """
    check_integer("num_samples", num_samples, minimum=1)
    check_number("tolerance", tolerance, minimum=0)
    objective = Objective(
        "hessian_trace",
        model,
        x,
        y,
        sample_weight,
        loss,
        batch_size,
        include_regularization,
    )
    if probes is not None:
        if not isinstance(probes, (list, tuple)) or not probes:
            raise ValueError(
                f"`probes` must be a list of at least one vector. Received: probes={probes!r}"
            )
        vectors = [objective.checked("probes", probe) for probe in probes]
        num_samples, tolerance = len(vectors), 0.0
    else:
        random = np.random.default_rng(seed)
    samples: list[float] = []
    for i in progress(range(num_samples), "trace of the Hessian", num_samples):
        if probes is None:
            vector = random.choice([-1.0, 1.0], size=objective.size).astype(objective.dtype)
        else:
            vector = vectors[i]
        product = objective.hessian_product(vector)
        samples.append(float(vector.astype("float64") @ product.astype("float64")))
        if i >= 9 and tolerance and _standard_error(samples) <= tolerance * abs(np.mean(samples)):
            break
    return HessianTrace(float(np.mean(samples)), _standard_error(samples), np.array(samples))


def _standard_error(samples):
    count = len(samples)
    return float(np.std(samples, ddof=1) / np.sqrt(count)) if count > 1 else float("nan")
