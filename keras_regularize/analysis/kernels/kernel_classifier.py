"""A classifier of a kernel, trained to the end."""

from collections.abc import Callable
from typing import Any

import numpy as np

from keras_regularize.validation import check_number


class KernelClassifier:
    r"""Classifies by regression with a kernel, as a wide network does that is trained to the end.

    $$f_c(x) = \sum_i K(x, x_i)\, \alpha_{ic}, \qquad (K + \lambda I)\, \alpha = Y,$$

    with one-hot rows $Y$; the class is the one of the largest score. With $\lambda = 0$ and the neural tangent
    kernel of `kr.analysis.infinite_width_kernels` or `kr.analysis.empirical_ntk` it is the limit of small steps of
    a wide network from outputs near 0, which fits all labels. Equal rows of data have the mean of their labels.

    Args:
        kernel: A callable `kernel(x1, x2)` that gives `(n, m)`.
        ridge: $\lambda \ge 0$, as a multiple of the mean of the diagonal of $K$.

    Attributes:
        classes_: The labels that occurred, in their order.
        coefficients_: $\alpha$, `(n, classes)`.

    Raises:
        ValueError: If the ridge is negative, shapes do not fit, or `predict` comes before `fit`.

    Cost: the kernel and an eigendecomposition of `n` rows.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    x = np.random.normal(size=(60, 3))
    deep = lambda a, b: kr.analysis.infinite_width_kernels(a, b, [0.0, 0.5, 0.5**0.5, 0.5], depth=20).ntk
    classifier = kr.analysis.KernelClassifier(deep).fit(x, x[:, 0] > 0)
    classifier.predict(np.eye(3))
    ```

    Reference: Adityanarayanan Radhakrishnan, Mikhail Belkin and Caroline Uhler, *Wide and Deep Neural Networks
    Achieve Optimality for Classification*, PNAS 2023, arXiv:2204.14126.
    """

    classes_: np.ndarray
    coefficients_: np.ndarray

    def __init__(self, kernel: Callable[[Any, Any], Any], ridge: float = 0.0):
        if not callable(kernel):
            raise ValueError(f"`kernel` must be a callable. Received: kernel={kernel!r}")
        self.kernel = kernel
        self.ridge = check_number("ridge", ridge, minimum=0)

    def fit(self, x: Any, y: Any) -> "KernelClassifier":
        """Finds the coefficients.

        Args:
            x: Inputs `(n, …)`, as the kernel takes them.
            y: Labels `(n,)`, integers, strings or others that can be ordered.
        """
        labels = np.asarray(y)
        gram = np.asarray(self.kernel(x, x), "float64")
        if labels.ndim != 1 or gram.shape != 2 * labels.shape or not len(labels):
            raise ValueError(
                "Expected labels (n,) and a kernel (n, n) of at least one sample. Received: y of shape "
                f"{labels.shape} and a kernel of shape {gram.shape}"
            )
        if not np.isfinite(gram).all():
            raise ValueError("The kernel must be finite. Received: one with NaN or infinity in it")
        self.classes_, place = np.unique(labels, return_inverse=True)
        values, vectors = np.linalg.eigh((gram + gram.T) / 2)
        # Directions that the kernel does not see, of equal rows, are left out.
        seen = values > len(values) * np.finfo("float64").eps * values[-1]
        values = np.where(seen, values + self.ridge * np.trace(gram) / len(gram), 1.0)
        rows = vectors.T @ np.eye(len(self.classes_))[place]
        self.coefficients_ = vectors @ np.where(seen[:, None], rows / values[:, None], 0.0)
        self._x = x
        return self

    def scores(self, x: Any) -> np.ndarray:
        """The scores `(m, classes)` of inputs."""
        if not hasattr(self, "coefficients_"):
            raise ValueError("`KernelClassifier` knows no classes yet: call `fit` first.")
        return np.asarray(self.kernel(x, self._x), "float64") @ self.coefficients_

    def predict(self, x: Any) -> np.ndarray:
        """The labels `(m,)` of inputs."""
        place = np.argmax(self.scores(x), axis=1)
        return self.classes_[place]
