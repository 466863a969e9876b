"""The loss on the straight way between two models."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_regularize.analysis._objective import Objective
from keras_regularize.analysis.landscape._points import check_metrics, grid_of, losses_at
from keras_regularize.validation import check_choice


@dataclasses.dataclass(frozen=True, eq=False)
class Interpolation:
    """What `interpolate` computes.

    Attributes:
        coordinates: Places on the way: 0 is the first model, 1 the second.
        loss: Mean losses there.
        metrics: Metrics there, by name.
        ends: The losses at 0 and 1.
    """

    coordinates: np.ndarray
    loss: np.ndarray
    metrics: Mapping[str, np.ndarray]
    ends: tuple[float, float]

    @property
    def barrier(self) -> float:
        """How far the loss rises above the straight line between its ends; 0 if it never does."""
        between = (self.coordinates >= 0) & (self.coordinates <= 1)
        t = self.coordinates[between]
        heights = self.loss[between] - (1 - t) * self.ends[0] - t * self.ends[1]
        return float(np.max(heights, initial=0.0))

    def plot(self, ax: Any = None) -> Any:
        """Draws the loss along the way, the line between its ends, and the barrier.

        Args:
            ax: Axes of Matplotlib to draw on; `None` for the current ones.

        Returns:
            The axes.
        """
        import matplotlib.pyplot as plt

        ax = plt.gca() if ax is None else ax
        ax.plot(self.coordinates, self.loss)
        ax.plot([0, 1], self.ends, "o--", color="gray", linewidth=1)
        ax.set(xlabel="from the first model (0) to the second (1)", ylabel="loss")
        ax.set_title(f"barrier {self.barrier:.3g}", fontsize=10)
        return ax


def interpolate(
    model: keras.Model,
    weights_a: Sequence[Any],
    weights_b: Sequence[Any],
    x: Any,
    y: Any = None,
    coordinates: Any = None,
    variables: str = "all",
    metrics: Sequence[keras.metrics.Metric] | None = None,
    *,
    sample_weight: Any = None,
    loss: Any = None,
    batch_size: int = 32,
    include_regularization: bool = False,
) -> Interpolation:
    r"""The mean loss on the straight way between two sets of weights of one model, and the barrier between them.

    $$L((1 - t)\, w_a + t\, w_b),\qquad \text{barrier} = \max_{0 \le t \le 1}
    \big[L(w_t) - (1 - t) L(w_a) - t L(w_b)\big].$$

    Two networks of one training that branched late as a rule have no barrier, which is when their weights can be
    averaged; two of different starts have one, though both are good.

    Args:
        model: A built model, or a wrapper of one; it runs in inference mode and is not changed.
        weights_a: Weights as `model.get_weights()` gives them, or in the order of `model.trainable_variables`
            with `variables="trainable"`.
        weights_b: The others.
        x: Inputs as arrays, in any nested structure the model takes, or a dataset of batches as `fit` takes them.
        y: Labels as the loss takes them; `None` with a dataset.
        coordinates: A vector of places $t$; by default 51 from -0.5 to 1.5.
        variables: `"all"`, or `"trainable"`: the statistics of batch normalization then stay those of the model,
            which are wrong for both ends.
        metrics: Metrics of Keras to compute as well, of a model with one output; as in `evaluate`, without sample
            weights.
        sample_weight: Weights of samples, or `None`; also the third entry of a dataset's batches.
        loss: A loss of Keras, or a name or function of one with a value per sample; by default the compiled one.
        batch_size: Samples at once where `x` is arrays; it changes time and memory only, but where a loss takes
            the samples of a batch together, as the mean over unmasked positions does in `evaluate`.
        include_regularization: Whether the model's penalties of weights and activities are part of the loss.

    Returns:
        A frozen dataclass of `coordinates`, `loss`, `metrics`, `ends` and `barrier`, with `plot(ax=None)`, which
        needs Matplotlib.

    Raises:
        ValueError: If shapes do not fit, the model is not built, or there is no loss or no sample.

    Cost: a forward pass over the data per place.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8, "relu"), keras.layers.Dense(3)])
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    x, y = np.random.normal(size=(60, 4)), np.arange(60) % 3
    start = model.get_weights()
    model.fit(x, y, epochs=3, verbose=0)
    way = kr.analysis.interpolate(model, start, model.get_weights(), x, y)
    print(way.barrier)  # way.plot() draws it.
    ```

    Reference: Ian J. Goodfellow, Oriol Vinyals and Andrew M. Saxe, *Qualitatively characterizing neural network
    optimization problems*, ICLR 2015, arXiv:1412.6544; the barrier, Jonathan Frankle, Gintare Karolina Dziugaite,
    Daniel M. Roy and Michael Carbin, *Linear Mode Connectivity and the Lottery Ticket Hypothesis*, ICML 2020,
    arXiv:1912.05671.
    """
    check_choice("variables", variables, ("all", "trainable"))
    measured_too = check_metrics(metrics)
    objective = Objective(
        "interpolate",
        model,
        x,
        y,
        sample_weight,
        loss,
        batch_size,
        include_regularization,
        fill=not measured_too,  # Metrics would see rows that fill a batch up.
    )
    given = model.weights if variables == "all" else model.trainable_variables
    inside = [*model.trainable_variables, *objective.state_variables]
    shapes = [tuple(v.shape) for v in given]
    for name, weights in (("weights_a", weights_a), ("weights_b", weights_b)):
        received = [tuple(np.shape(w)) for w in weights]
        if received != shapes:
            raise ValueError(
                f"`{name}` must be weights of the shapes {shapes}. Received: shapes {received}"
            )
    places = {id(v): i for i, v in enumerate(given)}
    start: list[Any] = []
    direction: list[Any] = []
    for variable, value in zip(inside, [*objective.weights, *objective.state]):
        i = places.get(id(variable))
        if i is None or not keras.backend.is_float_dtype(variable.dtype):
            start.append(value)
            direction.append(None)
        else:
            a, b = (
                ops.cast(ops.convert_to_tensor(w[i]), variable.dtype)
                for w in (weights_a, weights_b)
            )
            start.append(a)
            direction.append(b - a)
    steps = np.linspace(-0.5, 1.5, 51) if coordinates is None else coordinates
    (steps,) = grid_of([steps], None, None, 1)
    points = np.concatenate([steps, [0.0, 1.0]])[:, None]
    losses, measured = losses_at(
        objective, points, [direction], start, measured_too, "interpolation"
    )
    return Interpolation(
        steps,
        losses[:-2],
        {name: values[:-2] for name, values in measured.items()},
        (float(losses[-2]), float(losses[-1])),
    )
