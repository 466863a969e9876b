"""Data of one domain moved onto those of another, classes together."""

from typing import Any

import numpy as np
from keras import ops

from keras_regularize.inverse._transport import sum_of_norms_transport
from keras_regularize.numerics import squared_distances
from keras_regularize.validation import check_integer, check_number


class ClassTransport:
    r"""Moves labelled data onto unlabelled data of another domain, points of a class together.

    The plan $X$ of `sum_of_norms_transport` between the points, with squared distances for costs, $R_{ij} = 1 / n$
    for two sources of a class and $S_{ij} = e^{-\|t_i - t_j\|^2 / s^2} / m$ for targets, sends a source point to
    the mean of its targets, $\sum_j X_{ij} t_j / \sum_j X_{ij}$. A classifier trained on the moved sources then
    fits the targets. Since rows of a class pull each other together, a class is not torn apart for the sake of a
    few distances.

    Args:
        factor: $\lambda \ge 0$, in units of the mean cost; 0 is plain transport. Classes hold together from about
            10 on.
        target_scale: $s > 0$, in units of the data: targets as near as that are treated alike; `None` for $S = 0$.
        iterations: Number of iterations, at least 1.

    Raises:
        ValueError: If a number is out of range, or in `fit` and `transform` if the shapes do not fit.

    Cost: that of `sum_of_norms_transport`, with all points of both sides: at most a few hundred.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    rng = np.random.default_rng(0)
    labels = np.arange(20) % 2
    source = rng.normal(size=(20, 2)) + 4.0 * labels[:, None]
    target = source[::-1] + 2.0
    transport = kr.inverse.ClassTransport(iterations=200).fit(source, labels, target)
    moved = transport.transform(source)
    ```

    Reference: Arman Rahbar, Ashkan Panahi, Morteza Haghir Chehreghani, Devdatt Dubhashi and Hamid Krim, *Recovery
    Bounds on Class-Based Optimal Transport: A Sum-of-Norms Regularization Framework*, ICML 2023, arXiv:1903.03850.
    """

    def __init__(
        self, factor: float = 10.0, target_scale: float | None = None, iterations: int = 1000
    ):
        self.factor = check_number("factor", factor, minimum=0)
        self.target_scale = check_number("target_scale", target_scale, above=0, optional=True)
        self.iterations = check_integer("iterations", iterations, minimum=1)

    def fit(self, source: Any, labels: Any, target: Any) -> "ClassTransport":
        """Finds the plan, kept in `plan (n, m)`.

        Args:
            source: Points `(n, d)`.
            labels: Their classes `(n,)`, of any kind; those of value -1 belong to none.
            target: Points `(m, d)`.

        Returns:
            Itself.
        """
        source, target = _rows("source", source), _rows("target", target)
        target = target.astype(source.dtype)
        labels = np.asarray(labels)
        if labels.shape != source.shape[:1] or source.shape[1] != target.shape[1]:
            raise ValueError(
                "Expected source (n, d), labels (n,) and target (m, d). Received: "
                f"{source.shape}, {labels.shape} and {target.shape}"
            )
        n, m = len(source), len(target)
        same = (labels[:, None] == labels) & (labels != -1)
        near = np.zeros((m, m), source.dtype)
        if self.target_scale is not None:
            squares = ops.convert_to_numpy(squared_distances(target, target))
            near = np.exp(-squares / self.target_scale / self.target_scale) / m
        cost = ops.convert_to_numpy(squared_distances(source, target))
        plan = sum_of_norms_transport(
            cost / max(cost.mean(), np.finfo(cost.dtype).tiny),
            np.full(n, 1.0 / n),
            np.full(m, 1.0 / m),
            same / n,
            near,
            self.factor,
            self.iterations,
        )
        self.plan = ops.convert_to_numpy(plan)
        self._source = source
        self._moves = self.plan @ target / self.plan.sum(axis=1, keepdims=True) - source
        return self

    def transform(self, x: Any) -> np.ndarray:
        """Points moved as their nearest source is: the sources themselves onto the means of their targets.

        Args:
            x: Points `(k, d)`.

        Returns:
            The moved points `(k, d)`, an array.
        """
        if not hasattr(self, "plan"):
            raise ValueError("`transform` needs a `fit` before.")
        x = _rows("x", x)
        if x.shape[1] != self._source.shape[1]:
            raise ValueError(
                f"Expected points (k, {self._source.shape[1]}). Received: shape={x.shape}"
            )
        distances = squared_distances(x.astype(self._source.dtype), self._source)
        nearest = ops.convert_to_numpy(distances).argmin(axis=1)
        return x + self._moves[nearest]


def _rows(name, x):
    x = np.asarray(ops.convert_to_numpy(x) if ops.is_tensor(x) else x)
    if x.ndim != 2 or not len(x) or np.iscomplexobj(x):
        raise ValueError(
            f"`{name}` must be points (n, d). Received: shape={x.shape}, dtype={x.dtype}"
        )
    return x.astype("float32" if x.dtype != "float64" else "float64")
