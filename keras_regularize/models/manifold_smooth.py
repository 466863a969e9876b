"""Learning from few labels: as smooth as possible, everywhere on the data, at a given fit."""

from typing import Any

import keras
from keras import ops

from keras_regularize.autodiff import backend
from keras_regularize.autodiff.compiled_losses import CONTAINERS
from keras_regularize.models._index import check_index, find_rows
from keras_regularize.models.noisy_labels._memory import remember
from keras_regularize.models.regularized_model import RegularizedModel
from keras_regularize.numerics import mean, safe_sqrt
from keras_regularize.ops.points import feature_rows, mean_slopes, pair_squares
from keras_regularize.registration import export
from keras_regularize.validation import check_choice, check_integer, check_number


@export
class ManifoldSmooth(RegularizedModel):
    r"""Makes the steepest place of a function on the data as flat as a given fit of the labels allows.

    Manifold regularization punishes the mean slope between neighbours, labelled or not, at a strength that has to
    be found. Here the loss is a constraint, and the slopes count where they are large:

    $$\min_f \rho \quad \text{such that} \quad \mathbb E[\ell(f(x), y)] \le \epsilon \quad \text{and} \quad
      \|\nabla_M f(x)\|^2 \le \rho \text{ for all } x.$$

    Each step minimizes the Lagrangian $\mu\, \ell + \sum_i \lambda_i s_i$, with the slopes $s_i$ of
    `kr.losses.weighted_laplacian_penalty` between the samples of the batch, and then moves the multipliers up by
    what is violated,

    $$\lambda_i \leftarrow \frac{[\lambda_i + \eta\, \sigma_i]_+}{\sum_j [\lambda_j + \eta\, \sigma_j]_+}, \qquad
      \mu \leftarrow \min\big(\max(\mu + \eta\,(\ell - \epsilon), 0), \mu_{\max}\big).$$

    The model is semi-supervised: rows with the label -1 have no part in $\ell$ and, with the others, in the
    slopes. With `num_samples`, $\lambda$ is remembered for each sample, labelled or not, by the column `index` of
    `kr.utils.with_index(y)`; of a part of the data the penalty is scaled to all of it. Without, each batch finds
    its own by five steps up from equal weights. Take large batches, all of the data at best: slopes are between
    neighbours in the batch.

    Args:
        model: The model to train, or another wrapper; with a single floating input and a single output.
        tolerance: $\epsilon$, the mean loss to reach on the labelled samples, at least 0.
        num_samples: Number of training samples to remember $\lambda$ for, or `None`.
        bandwidth: $t > 0$, of the squared distance of neighbours.
        dual_learning_rate: $\eta \ge 0$; 0 keeps weights equal: manifold regularization.
        primal_weight: $\mu$ at first, at least 0.
        maximum_multiplier: $\mu_{\max} > 0$.
        penalty_factor: What the penalty is multiplied by, at least 0; the authors take 1 to 10.
        slope: $\sigma_i$: `"max"`, the largest $\|f_i - f_j\|_1 / \|x_i - x_j\|$, or `"mean"`, which is $s_i$.
        projection: `"normalize"` as above, or `"simplex"`, the nearest point of the simplex.
        **kwargs: `name` and other arguments of `keras.Model`.

    Attributes:
        multipliers: $\lambda$, `(num_samples, 1)`, saved with the model. Large where the function is steep.
        loss_multiplier: $\mu$, saved with the model.
        lipschitz_estimate: The largest $\sigma_i$ of the last batch.

    Raises:
        ValueError: If an argument is out of range, the model has several inputs or outputs, or with `num_samples`
            the column `index` is missing or holds others than 0 to `num_samples - 1`.

    Cost: one forward-backward pass per step, and products `batch² · dim` of inputs and outputs.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    x = np.random.default_rng(0).normal(size=(64, 2))
    y = np.where(np.arange(64) < 8, x[:, 0] > 0, -1)
    net = keras.Sequential([keras.Input((2,)), keras.layers.Dense(16, "relu"), keras.layers.Dense(2)])
    model = kr.models.ManifoldSmooth(net, tolerance=0.05, num_samples=64, bandwidth=0.1)
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(x, kr.utils.with_index(y), batch_size=64, epochs=2, verbose=0)
    ```

    Reference: Juan Cerviño, Luiz F. O. Chamon, Benjamin D. Haeffele, René Vidal and Alejandro Ribeiro, *Learning
    Globally Smooth Functions on Manifolds*, ICML 2023, arXiv:2210.00301. Largest slopes and normalization are
    those of their code.
    """

    semi_supervised = True

    def __init__(
        self,
        model: keras.Model,
        tolerance: float,
        num_samples: int | None = None,
        bandwidth: float = 1.0,
        dual_learning_rate: float = 0.01,
        primal_weight: float = 1.0,
        maximum_multiplier: float = 2.0,
        penalty_factor: float = 1.0,
        slope: str = "max",
        projection: str = "normalize",
        **kwargs: Any,
    ):
        super().__init__(model, **kwargs)
        self.tolerance = check_number("tolerance", tolerance, minimum=0)
        self.num_samples = check_integer("num_samples", num_samples, minimum=1, optional=True)
        self.bandwidth = check_number("bandwidth", bandwidth, above=0)
        self.dual_learning_rate = check_number("dual_learning_rate", dual_learning_rate, minimum=0)
        self.maximum_multiplier = check_number("maximum_multiplier", maximum_multiplier, above=0)
        self.primal_weight = check_number(
            "primal_weight", primal_weight, minimum=0, maximum=self.maximum_multiplier
        )
        self.penalty_factor = check_number("penalty_factor", penalty_factor, minimum=0)
        self.slope = check_choice("slope", slope, ("max", "mean"))
        self.projection = check_choice("projection", projection, ("normalize", "simplex"))
        self.reads_columns = () if num_samples is None else ("index",)
        if num_samples is not None:
            self.multipliers = self._state((num_samples, 1), 1.0 / num_samples, "multipliers")
        self.loss_multiplier = self._state((), self.primal_weight, "loss_multiplier")
        self.lipschitz_estimate = self._state((), 0.0, "lipschitz_estimate")

    def _state(self, shape, value, name):
        return self.add_weight(
            shape=shape,
            initializer=keras.initializers.Constant(value),
            dtype="float32",
            trainable=False,
            autocast=False,
            aggregation="only_first_replica",
            name=name,
        )

    def check_columns(self, columns):
        super().check_columns(columns)
        if self.num_samples is not None:
            check_index(columns, self.num_samples, "ManifoldSmooth")

    def objective(self, batch, forward):
        weight = batch.loss_weight * ops.convert_to_tensor(self.loss_multiplier)
        loss, values = super().objective(batch.replace(loss_weight=weight), forward)
        outputs = forward.outputs_at(batch.x)
        if isinstance(outputs, CONTAINERS) or isinstance(batch.x, CONTAINERS):
            raise ValueError(
                "`ManifoldSmooth` needs a model of a single input and a single output. Received: inputs "
                f"in a {type(batch.x).__name__}, outputs in a {type(outputs).__name__}"
            )
        losses, weights = forward.weighted_losses(batch, outputs)
        slopes = mean_slopes(outputs, batch.x, self.bandwidth)
        found = ops.stop_gradient(
            slopes if self.slope == "mean" else _largest_slopes(outputs, batch.x)
        )
        found = ops.cast(found, "float32")
        notes = {"slopes": found, "loss": ops.stop_gradient(mean(losses * weights))}
        count = ops.cast(ops.shape(slopes)[0], "float32")
        if self.num_samples is None:
            multipliers = ops.ones_like(found) / count
            for _ in range(5):
                multipliers = self._moved(multipliers, found)
        else:
            index, known = find_rows(batch.columns, self.num_samples, "ManifoldSmooth")
            rows = backend.read_rows(self.multipliers, index)[:, 0]
            multipliers = known * rows * (self.num_samples / count)
            notes |= {"index": index, "known": known, "rows": rows}
        penalty = ops.sum(ops.cast(ops.stop_gradient(multipliers), slopes.dtype) * slopes)
        loss = loss + ops.cast(self.penalty_factor * penalty, loss.dtype)
        return loss, {**values, self.key: notes}

    def after_update(self, batch, aux, gradients):
        super().after_update(batch, aux, gradients)
        notes, rate = aux.values[self.key], self.dual_learning_rate
        slopes, losses = backend.gather_over_replicas([notes["slopes"], notes["loss"][None]])
        self.lipschitz_estimate.assign(ops.max(slopes, initial=0.0))
        violation = ops.cast(mean(losses), "float32") - self.tolerance
        held = ops.convert_to_tensor(self.loss_multiplier)
        moved = ops.clip(held + rate * violation, 0.0, self.maximum_multiplier)
        self.loss_multiplier.assign(ops.where(ops.isfinite(moved), moved, held))
        if self.num_samples is not None:
            rows = ops.relu(notes["rows"] + rate * notes["slopes"])
            if self.projection == "simplex":
                rows = notes["rows"] + rate * notes["slopes"]
            remember(self.multipliers, notes["index"], notes["known"], rows[:, None])
            moved = self._projected(ops.convert_to_tensor(self.multipliers)[:, 0])
            self.multipliers.assign(moved[:, None])

    def _moved(self, multipliers, slopes):
        return self._projected(multipliers + self.dual_learning_rate * slopes)

    def _projected(self, x):
        """Numbers at least 0 with the sum 1."""
        if self.projection == "normalize":
            x = ops.relu(x)
            total = ops.sum(x)
            share = x / ops.where(total > 0, total, 1.0)
            return ops.where(total > 0, share, 1.0 / ops.cast(ops.shape(x)[0], x.dtype))
        ordered = ops.flip(ops.sort(x))
        rank = ops.cast(ops.arange(1, ops.shape(x)[0] + 1), x.dtype)
        excess = (ops.cumsum(ordered) - 1.0) / rank
        support = ops.sum(ops.cast(ordered > excess, "int32"))
        return ops.relu(x - ops.take(excess, ops.maximum(support - 1, 0)))


def _largest_slopes(outputs, inputs):
    """The largest `|f_i - f_j|_1 / |x_i - x_j|` of each sample to others; equal inputs do not count."""
    f, x = (feature_rows(t if len(t.shape) > 1 else t[:, None]) for t in (outputs, inputs))
    f, x = ops.stop_gradient(f), ops.stop_gradient(x)
    squares, scale = pair_squares(x)
    apart = squares > 0
    distances = scale * safe_sqrt(squares)

    def add(total, column):
        total = total + ops.abs(column[:, None] - column[None, :])
        return total, total

    # By columns, for no array of all differences.
    start = ops.cast(ops.zeros_like(squares), f.dtype)
    for column in ops.unstack(f, axis=1) if f.shape[1] <= 32 else ():
        start, _ = add(start, column)
    if f.shape[1] > 32:
        start = ops.scan(add, start, ops.transpose(f))[0]
    quotients = start / ops.cast(ops.where(apart, distances, 1.0), f.dtype)
    return ops.max(ops.where(apart, quotients, 0.0), axis=1)
