"""Graphs between samples, and batches of them."""

from typing import Any

import keras
import numpy as np

from keras_regularize.validation import check_integer

ROWS = 1024


def neighbor_graph(
    features: Any, k: int = 3, steps: int = 1, include_self: bool = False
) -> np.ndarray:
    r"""A graph of nearest neighbours, and of neighbours of neighbours.

    With $P_{ij} = 1 / k$ for the $k$ rows nearest to row $i$ in Euclidean distance,

    $$W \propto P + P^2 + \dots + P^s,$$

    each row of which sums to 1: where random walks of up to $s$ steps lead. For
    `losses.ICon("precomputed", …)`.

    Args:
        features: Features `(n, dim)`, an array; further axes are joined.
        k: Number of neighbours, from 1 to $n - 1$.
        steps: $s$, at least 1.
        include_self: Whether each row is one of its neighbours, besides the $k$ others: for several views of each
            sample, which are neighbours of each other then.

    Returns:
        A NumPy array `(n, n)` in float32. Without `include_self` its diagonal is 0.

    Raises:
        ValueError: If an argument is out of range, or features are no rows.

    Cost: a product of the features with themselves, and $s - 1$ products of $n \times n$ matrices.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    graph = kr.utils.neighbor_graph(np.random.normal(size=(50, 8)), k=3, steps=2)
    ```
    """
    x = np.asarray(features, "float64")
    if x.ndim < 2:
        raise ValueError(f"`features` must be rows (n, dim). Received: shape {x.shape}")
    check_integer("k", k, minimum=1, maximum=len(x) - 1)
    check_integer("steps", steps, minimum=1)
    x = x.reshape(len(x), -1) - x.reshape(len(x), -1).mean(axis=0)
    one = np.zeros((len(x), len(x)), "float32")
    lengths = np.sum(x * x, axis=1)
    for start in range(0, len(x), ROWS):
        rows = np.arange(start, min(start + ROWS, len(x)))
        distances = lengths[rows, None] + lengths - 2.0 * x[rows] @ x.T
        distances[np.arange(len(rows)), rows] = np.inf
        nearest = np.argpartition(distances, k - 1, axis=1)[:, :k]
        one[rows[:, None], nearest] = 1.0
    if include_self:
        np.fill_diagonal(one, 1.0)
    one /= one.sum(axis=1, keepdims=True)
    total = walk = one
    for _ in range(steps - 1):
        walk = walk @ one
        total = total + walk
    if not include_self:
        np.fill_diagonal(total, 0.0)
    return total / total.sum(axis=1, keepdims=True)


class GraphBatches(keras.utils.PyDataset):
    """Batches of samples with the part of a graph that lies between them, for `fit`.

    `fit(x, graph)` would not do: shuffling moves the rows of a graph and not its columns.

    Args:
        x: Inputs, an array `(n, …)`.
        graph: Weights `(n, n)`, such as `kr.utils.neighbor_graph` makes.
        batch_size: Number of samples in a batch, at least 2. Those that fill no batch wait for the next epoch.
        shuffle: Whether samples are shuffled anew for each epoch.
        seed: Seed of the shuffling, or `None`.
        **kwargs: Arguments of `keras.utils.PyDataset`.

    Raises:
        ValueError: If an argument is out of range, or `x` and `graph` do not fit.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    x = np.random.normal(size=(64, 8)).astype("float32")
    batches = kr.utils.GraphBatches(x, kr.utils.neighbor_graph(x), batch_size=32)
    model = keras.Sequential([keras.layers.Dense(4, activation="softmax")])
    model.compile("adam", loss=kr.losses.ICon.preset("dcd"))
    model.fit(batches, verbose=0)
    ```
    """

    def __init__(
        self,
        x: Any,
        graph: Any,
        batch_size: int = 256,
        shuffle: bool = True,
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.x, self.graph = np.asarray(x), np.asarray(graph)
        if self.graph.shape != (len(self.x), len(self.x)):
            raise ValueError(
                "`graph` must have a weight for each pair of samples, (n, n). "
                f"Received: x.shape={self.x.shape}, graph.shape={self.graph.shape}"
            )
        self.batch_size = check_integer("batch_size", batch_size, minimum=2, maximum=len(self.x))
        self.shuffle = bool(shuffle)
        self._generator = np.random.default_rng(seed)
        self._order = np.arange(len(self.x))
        self.on_epoch_end()

    def __len__(self) -> int:
        return len(self.x) // self.batch_size

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        rows = self._order[index * self.batch_size : (index + 1) * self.batch_size]
        return self.x[rows], self.graph[np.ix_(rows, rows)]

    def on_epoch_end(self) -> None:
        """Called by Keras."""
        if self.shuffle:
            self._order = self._generator.permutation(len(self.x))
