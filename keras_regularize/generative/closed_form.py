"""Diffusion without training: the score of finitely many data is known."""

import math
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_regularize.autodiff import backend
from keras_regularize.numerics import matmul, upcast
from keras_regularize.validation import check_integer, check_number, compatible


def closed_form_score(
    x: Any, data: Any, noise: Any = None, time: Any = 0.5, smoothing: float = 0.0
) -> Any:
    r"""Score of data that are mixed with noise, exactly or smoothed, from the data alone.

    Between noise $x_0 \sim N(0, I)$ at $t = 0$ and data at $t = 1$ the points $x_t = t x_1 + (1 - t) x_0$ of
    finitely many data $x_i$ are a mixture of Gaussians, whose score is

    $$\nabla \log \rho_t(z) = \frac{t\, m(z) - z}{(1 - t)^2}, \qquad
      m(z) = \sum_i w_i(z)\, x_i, \qquad
      w(z) = \operatorname{softmax}_i \frac{-\|z - t x_i\|^2}{2 (1 - t)^2}.$$

    Smoothed by $\sigma$, the weights are means of those at $z + \sigma \epsilon_j$ for noise
    $\epsilon_1, \dots, \epsilon_M$. Then what is drawn are means of data near each other, not the data.

    Args:
        x: Points $z$, `(batch, …)`.
        data: $x_i$, `(count, …)`.
        noise: $\epsilon$, `(M, …)` for all points or `(batch, M, …)`. Needed if `smoothing` is above 0.
        time: $t$ in [0, 1), a number.
        smoothing: $\sigma \ge 0$.

    Returns:
        Scores in the shape of `x`.

    Raises:
        ValueError: If an argument is out of its range, or shapes do not fit.

    Cost: a matrix product of `batch * M` rows with the data, and as many weights in memory. In single precision
    the exponents have an error of about $10^{-7} r^2 / (1 - t)^2$ for data at the distance $r$ from their mean.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    data = np.random.normal(size=(100, 2))
    score = kr.generative.closed_form_score(np.zeros((5, 2)), data, time=0.5)
    ```

    Reference: Christopher Scarvelis, Haitz Sáez de Ocáriz Borde and Justin Solomon, *Closed-Form Diffusion
    Models*, 2023, arXiv:2310.12395.
    """
    x, mean, left = _mean(x, data, noise, time, smoothing)
    return (time * mean - x) / left**2


def closed_form_velocity(
    x: Any, data: Any, noise: Any = None, time: Any = 0.5, smoothing: float = 0.0
) -> Any:
    r"""Velocity of the flow that carries noise to data, exactly or smoothed, from the data alone.

    $$v_t(z) = \frac{m(z) - z}{1 - t}$$

    with the mean $m$ of `closed_form_score`. At $t = 0$ it points to the mean of the data.

    Args:
        x: Points $z$, `(batch, …)`.
        data: $x_i$, `(count, …)`.
        noise: $\epsilon$, `(M, …)` for all points or `(batch, M, …)`. Needed if `smoothing` is above 0.
        time: $t$ in [0, 1), a number.
        smoothing: $\sigma \ge 0$.

    Returns:
        Velocities in the shape of `x`.

    Raises:
        ValueError: If an argument is out of its range, or shapes do not fit.

    Cost: as of `closed_form_score`.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    data = np.random.normal(size=(100, 2))
    velocity = kr.generative.closed_form_velocity(np.zeros((5, 2)), data, time=0.5)
    ```

    Reference: Christopher Scarvelis, Haitz Sáez de Ocáriz Borde and Justin Solomon, *Closed-Form Diffusion
    Models*, 2023, arXiv:2310.12395.
    """
    x, mean, left = _mean(x, data, noise, time, smoothing)
    return (mean - x) / left


def closed_form_sample(
    x: Any,
    data: Any,
    noise: Any = None,
    steps: int = 100,
    smoothing: float = 0.0,
    start_time: float = 0.0,
) -> Any:
    r"""Ends of the paths along `closed_form_velocity`, by steps of equal length from a start time to 1.

    The noise $\epsilon$ of the smoothing stays the same along a path. The last step ends at the mean $m$: without
    smoothing that is a point of the data, with it a mean of at most $M$ of them.

    Args:
        x: Where the paths begin, `(batch, …)`; normal numbers for a start at 0.
        data: $x_i$, `(count, …)`.
        noise: $\epsilon$, `(M, …)` for all points or `(batch, M, …)`. Needed if `smoothing` is above 0.
        steps: Number of steps, at least 1.
        smoothing: $\sigma \ge 0$.
        start_time: In [0, 1). From $t > 0$ on, begin at `t * data + (1 - t) * normal`.

    Returns:
        Points in the shape of `x`.

    Raises:
        ValueError: If an argument is out of its range, or shapes do not fit.

    Cost: `steps` times that of `closed_form_score`.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    data = np.random.normal(size=(100, 2))
    drawn = kr.generative.closed_form_sample(np.random.normal(size=(5, 2)), data)
    ```

    Reference: Christopher Scarvelis, Haitz Sáez de Ocáriz Borde and Justin Solomon, *Closed-Form Diffusion
    Models*, 2023, arXiv:2310.12395.
    """
    check_integer("steps", steps, minimum=1)
    check_number("start_time", start_time, minimum=0, below=1)
    check_number("smoothing", smoothing, minimum=0)
    x, data, noise = _prepared(x, data, noise, smoothing)
    width = (1.0 - start_time) / steps
    shape, x = ops.shape(x), _flat(x)
    for i in range(steps):
        # What is left of the time, so that the last step ends exactly at the mean.
        left = width * (steps - i)
        mean = _posterior_mean(x, data, noise, 1.0 - left, left, smoothing)
        x = x + (mean - x) / (steps - i)
    return ops.reshape(x, shape)


def nearest_neighbor_score(
    x: Any, data: Any, random_indices: Any, time: float, neighbors: int
) -> Any:
    r"""An estimate of `closed_form_score` from the data nearest to a point and some others.

    The $K$ nearest $t x_i$ have their exact weights in the sums of the numerator and the denominator of $m$; of
    the $N - K$ others $L$ at random stand for all, with weights that are $(N - K) / L$ times as large.

    Args:
        x: Points $z$, `(batch, …)`.
        data: $x_i$, `(count, …)`.
        random_indices: $L \ge 0$ different integers below $N - K$, `(L,)` for all points or `(batch, L)`. They
            number what is left of the data, in its order.
        time: $t$ in [0, 1).
        neighbors: $K$, from 1 to $N$.

    Returns:
        Scores in the shape of `x`.

    Raises:
        ValueError: If an argument is out of its range, or shapes do not fit.

    Cost: distances to all data by one matrix product, and differences to $K + L$ of them.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    data = np.random.normal(size=(100, 2))
    others = np.random.permutation(90)[:20]
    score = kr.generative.nearest_neighbor_score(np.zeros((5, 2)), data, others, time=0.5, neighbors=10)
    ```

    Reference: Christopher Scarvelis, Haitz Sáez de Ocáriz Borde and Justin Solomon, *Closed-Form Diffusion
    Models*, 2023, arXiv:2310.12395.
    """
    check_number("time", time, minimum=0, below=1)
    x, data, _ = _prepared(x, data, None, 0.0)
    check_integer("neighbors", neighbors, minimum=1, maximum=data.shape[0])
    shape, x = ops.shape(x), _flat(x)
    indices = ops.cast(ops.convert_to_tensor(random_indices), "int32")
    mean = _neighbor_mean(x, data, indices, time, neighbors)
    return ops.reshape((time * mean - x) / (1.0 - time) ** 2, shape)


class ClosedFormDiffusion:
    r"""A generative model without training, by smoothing the exact score of the data.

    The exact score of finitely many data leads back to these data. Smoothed by $\sigma$ as in `closed_form_score`,
    it leads to means of up to $M$ data that are near each other: new points on the manifold of the data, if that
    is flat at the scale of $\sigma$.

    Args:
        data: The data `(count, …)`, floating numbers; standardize them.
        smoothing: $\sigma \ge 0$, in units of the noise; 0 draws the data themselves.
        num_noise: $M \ge 1$, used if $\sigma > 0$.
        neighbors: $K$, the number of nearest data that are summed exactly, as in `nearest_neighbor_score`; all by
            default.
        random_neighbors: $L \ge 0$, how many of the others stand for all of them, drawn anew at every step.
        seed: Integer seed of all draws, or None.

    Raises:
        ValueError: If an argument is out of its range, or shapes do not fit.

    Cost: per step and sample `num_noise` distances to all data. Points are taken in parts whose weights have at
    most some 16 million entries.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    angle = np.random.uniform(0, 2 * np.pi, 200)
    data = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    model = kr.generative.ClosedFormDiffusion(data, smoothing=0.2, num_noise=4, seed=0)
    drawn = model.sample(50, steps=20)
    ```

    Reference: Christopher Scarvelis, Haitz Sáez de Ocáriz Borde and Justin Solomon, *Closed-Form Diffusion
    Models*, 2023, arXiv:2310.12395.
    """

    def __init__(
        self,
        data: Any,
        smoothing: float = 0.0,
        num_noise: int = 1,
        neighbors: int | None = None,
        random_neighbors: int = 0,
        seed: int | None = None,
    ):
        self.data = upcast(ops.convert_to_tensor(data))
        if len(self.data.shape) < 2 or self.data.shape[0] == 0:
            raise ValueError(
                f"Expected data (count, …), at least one. Received: shape {tuple(self.data.shape)}"
            )
        count = int(self.data.shape[0])
        self.smoothing = check_number("smoothing", smoothing, minimum=0)
        self.num_noise = check_integer("num_noise", num_noise, minimum=1)
        self.neighbors = check_integer("neighbors", neighbors, 1, count, optional=True)
        others = count - (self.neighbors or count)
        self.random_neighbors = check_integer("random_neighbors", random_neighbors, 0, others)
        self.seed = check_integer("seed", seed, optional=True)
        self._random = np.random.default_rng(seed)
        self._rows = backend.compiled(self._mean_of_rows)

    def score(self, x: Any, time: float) -> np.ndarray:
        """Scores at points `(batch, …)` and a time in [0, 1), an array of the shape of `x`."""
        check_number("time", time, minimum=0, below=1)
        mean, x = self._mean(x, time, self._noise(len(x)))
        return (time * mean - x) / (1 - time) ** 2

    def velocity(self, x: Any, time: float) -> np.ndarray:
        """Velocities at points `(batch, …)` and a time in [0, 1), an array of the shape of `x`."""
        check_number("time", time, minimum=0, below=1)
        mean, x = self._mean(x, time, self._noise(len(x)))
        return (mean - x) / (1 - time)

    def sample(self, num_samples: int, steps: int = 100, start_time: float = 0.0) -> np.ndarray:
        """New data, by steps of equal length from a start time in [0, 1) to 1.

        Args:
            num_samples: How many, at least 0.
            steps: Number of steps, at least 1.
            start_time: Near 1, where the paths begin near points of the data, few steps do.

        Returns:
            An array `(num_samples, …)`.
        """
        check_integer("num_samples", num_samples, minimum=0)
        check_integer("steps", steps, minimum=1)
        check_number("start_time", start_time, minimum=0, below=1)
        shape = tuple(self.data.shape[1:])
        x = self._random.standard_normal((num_samples, *shape)).astype("float32")
        if start_time > 0:
            chosen = self._random.integers(0, len(self.data), num_samples)
            data = ops.convert_to_numpy(self.data)[chosen]
            x = start_time * data + (1 - start_time) * x
        noise = self._noise(num_samples)
        for i in range(steps):
            time = 1 - (1 - start_time) / steps * (steps - i)
            mean, x = self._mean(x, time, noise)
            x = x + (mean - x) / (steps - i)
        return x

    def _noise(self, count):
        """Smoothing noise `(count, M, size)` of each point, `None` without smoothing."""
        if self.smoothing == 0:
            return None
        size = math.prod(self.data.shape[1:])
        return self._random.standard_normal((count, self.num_noise, size)).astype("float32")

    def _mean(self, x, time, noise):
        """The mean at points, and these, as arrays."""
        wide = "float64" if _is_wide(self.data) else "float32"
        x = np.asarray(ops.convert_to_numpy(x), wide)
        shape = tuple(self.data.shape)
        if x.shape[1:] != shape[1:]:
            raise ValueError(f"Expected points like the data, {shape[1:]}. Received: {x.shape}")
        flat = x.reshape(len(x), math.prod(shape[1:]))
        copies = 1 if noise is None else self.num_noise
        rows = max(1, _ENTRIES // (shape[0] * copies))
        means = [np.empty((0, flat.shape[1]), x.dtype)]
        level = ops.convert_to_tensor(np.array([time, 1 - time], x.dtype))
        for start in range(0, len(flat), rows):
            part = slice(start, start + rows)
            given = [flat[part], self._others(len(flat[part]) * copies)]
            given += [] if noise is None else [noise[part]]
            given = [ops.convert_to_tensor(array) for array in given]
            means.append(ops.convert_to_numpy(self._rows(self.data, level, *given)))
        return np.concatenate(means).reshape(x.shape), x

    def _others(self, rows):
        """Which of the data that are not nearest are looked at, `(rows, L)`."""
        others = len(self.data) - (self.neighbors or len(self.data))
        if not self.random_neighbors:
            return np.zeros((rows, 0), "int32")
        keys = self._random.random((rows, others), "float32")
        return np.argpartition(keys, self.random_neighbors - 1, axis=1)[
            :, : self.random_neighbors
        ].astype("int32")

    def _mean_of_rows(self, data, level, x, others, noise=None):
        data, time, left = _flat(data), level[0], level[1]
        if noise is not None:
            noise = ops.cast(noise, x.dtype)
        if self.neighbors is None:
            return _posterior_mean(x, data, noise, time, left, self.smoothing)
        copies = 1 if noise is None else self.num_noise
        moved = x if noise is None else x[:, None] + self.smoothing * noise
        moved = ops.reshape(moved, (-1, data.shape[1]))
        mean = _neighbor_mean(moved, data, others, time, self.neighbors, left)
        return ops.mean(ops.reshape(mean, (-1, copies, data.shape[1])), axis=1)


#: Most weights at a time, 64 MB of them.
_ENTRIES = 2**24


def _is_wide(x):
    return keras.backend.standardize_dtype(x.dtype) == "float64"


def _flat(x):
    """`(batch, size)`."""
    return ops.reshape(x, (ops.shape(x)[0], math.prod(x.shape[1:])))


def _prepared(x, data, noise, smoothing):
    """Points, and data and noise as rows, of one dtype; noise is `None` where it does nothing."""
    x, data = upcast(x), upcast(data)
    dtype = "float64" if _is_wide(x) or _is_wide(data) else "float32"
    x, data = ops.cast(x, dtype), ops.cast(data, dtype)
    if len(x.shape) < 2 or not compatible(x.shape[1:], data.shape[1:]):
        raise ValueError(
            "Expected points (batch, …) and data (count, …) of the same shape but for their numbers. Received: "
            f"shapes {tuple(x.shape)} and {tuple(data.shape)}"
        )
    if smoothing == 0:
        return x, _flat(data), None
    if noise is None:
        raise ValueError("`smoothing` above 0 needs `noise`. Received: noise=None")
    noise = ops.cast(ops.convert_to_tensor(noise), dtype)
    if compatible(noise.shape[1:], x.shape[1:]):
        noise = noise[None]
    elif not compatible(noise.shape[2:], x.shape[1:]) or not compatible(
        noise.shape[:1], x.shape[:1]
    ):
        raise ValueError(
            "Expected noise (M, …) or (batch, M, …) like the points. Received: noise "
            f"{tuple(noise.shape)}, points {tuple(x.shape)}"
        )
    noise = ops.reshape(noise, (*ops.shape(noise)[:2], math.prod(x.shape[1:])))
    return x, _flat(data), noise


def _mean(x, data, noise, time, smoothing):
    """Points, the mean at each of them, and the time that is left."""
    check_number("time", time, minimum=0, below=1)
    check_number("smoothing", smoothing, minimum=0)
    x, data, noise = _prepared(x, data, noise, smoothing)
    left = 1.0 - time
    mean = _posterior_mean(_flat(x), data, noise, time, left, smoothing)
    return x, ops.reshape(mean, ops.shape(x)), left


def _posterior_mean(x, data, noise, time, left, smoothing):
    """The mean of data `(count, size)` at points `(batch, size)`, with weights averaged over noise."""
    # Near the mean of the data, where differences are small numbers; it takes no part in the weights.
    center = ops.sum(data, axis=0, keepdims=True) / data.shape[0]
    near = data - center
    points = x - time * center
    if noise is not None:
        points = points[:, None] + smoothing * noise
    logits = time * matmul(points, ops.transpose(near))
    logits = (logits - 0.5 * time**2 * ops.sum(near * near, axis=-1)) / left**2
    weights = _weights(logits)
    if noise is not None:
        weights = ops.sum(weights, axis=1) / noise.shape[1]
    return center + matmul(weights, near)


def _neighbor_mean(x, data, others, time, neighbors, left=None):
    """The mean from the nearest of the data and some of the others, by differences."""
    left = 1.0 - time if left is None else left
    count = data.shape[0]
    # Up to what is the same for all data, divided by the time, so that 0 has an order as well.
    closeness = matmul(x, ops.transpose(data)) - 0.5 * time * ops.sum(data * data, axis=-1)
    nearest = ops.sort(ops.cast(ops.top_k(closeness, neighbors)[1], "int32"), axis=-1)
    logits, points = _logits(x, data, nearest, time, left)
    if others.shape[-1]:
        if others.shape[-1] > count - neighbors:
            raise ValueError(
                f"`random_indices` must be at most {count - neighbors}, what is left of the data beside the "
                f"nearest. Received: shape {tuple(others.shape)}"
            )
        others = others if len(others.shape) == 2 else others[None]
        # The number in all data: one more for every near one that is not after it.
        gaps = nearest - ops.arange(neighbors, dtype="int32")
        before = ops.cast(gaps[:, None, :] <= others[:, :, None], "int32")
        chosen = others + ops.sum(before, axis=-1)
        more, more_points = _logits(x, data, chosen, time, left)
        more = more + math.log((count - neighbors) / others.shape[-1])
        logits = ops.concatenate([logits, more], axis=-1)
        points = ops.concatenate([points, more_points], axis=1)
    weights = _weights(logits)
    return ops.sum(weights[..., None] * points, axis=1)


def _weights(logits):
    """Softmax over the last axis, also of one entry."""
    return ops.exp(logits - ops.logsumexp(logits, axis=-1, keepdims=True))


def _logits(x, data, indices, time, left):
    """Exponents of some of the data for each point, and these data `(batch, some, size)`."""
    points = ops.take(data, indices, axis=0)
    gaps = x[:, None] - time * points
    return -0.5 * ops.sum(gaps * gaps, axis=-1) / left**2, points
