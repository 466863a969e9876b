"""Sets of classes that contain the right one."""

from typing import Any

import numpy as np

from keras_regularize.analysis.calibration._samples import class_probabilities, class_samples
from keras_regularize.analysis.conformal._split_conformal_quantile import split_conformal_quantile
from keras_regularize.validation import check_choice, check_integer, check_number


class ConformalClassifier:
    r"""Sets of classes that contain the right one with probability $1 - \alpha$, whatever the classifier.

    Calibration samples give scores $s_i$ of their classes $y_i$, and these $q$, by `split_conformal_quantile`. The
    prediction is the set of all classes with a score of at most $q$.

    | `method` | score of class $k$ | sets |
    |---|---|---|
    | `"threshold"` | $1 - p_k$ | the smallest on average; all classes of a probability of at least $1 - q$ |
    | `"adaptive"` | $\sum_{j: p_j > p_k} p_j + u\,p_k$ | larger where the classifier is less sure |

    with $u$ uniform in $[0, 1)$, drawn for each sample. Both have the coverage $1 - \alpha$ over all inputs;
    adaptive sets also come close to it among inputs of each difficulty. Sets can be empty: of inputs that look
    like no class. That probabilities are calibrated is not needed, but makes sets smaller.

    Args:
        alpha: $\alpha$ in (0, 1), the share of samples whose class may be missed.
        method: `"threshold"` or `"adaptive"`.
        from_logits: Whether predictions are logits. They go through a softmax, or a sigmoid if there is one
            column.
        seed: Seed of $u$, a non-negative integer.

    Attributes:
        quantile_: $q$, once it is fitted; infinite, for sets of all classes, if there are fewer than
            $1/\alpha - 1$ samples.

    Raises:
        ValueError: If an argument is out of range; if labels and predictions do not fit; if it is used before
            `fit`.

    Cost: a sort of the calibration samples; `"adaptive"` sorts the classes of every sample.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    p = np.random.dirichlet(np.ones(5), size=1000)
    y = np.array([np.random.choice(5, p=row) for row in p])
    conformal = kr.analysis.ConformalClassifier(alpha=0.1).fit(y[:500], p[:500])
    sets = conformal.predict(p[500:])
    covered = sets[np.arange(500), y[500:]].mean()  # About 0.9.
    size = sets.sum(axis=1).mean()
    ```

    Reference: `"threshold"`: Mauricio Sadinle, Jing Lei and Larry Wasserman, *Least Ambiguous Set-Valued
    Classifiers with Bounded Error Levels*, JASA 2019, arXiv:1609.00451. `"adaptive"`: Yaniv Romano, Matteo Sesia
    and Emmanuel J. Candès, *Classification with Valid and Adaptive Coverage*, NeurIPS 2020, arXiv:2006.02544.
    """

    quantile_: float

    def __init__(
        self,
        alpha: float = 0.1,
        method: str = "threshold",
        from_logits: bool = False,
        seed: int = 0,
    ):
        self.alpha = check_number("alpha", alpha, above=0, below=1)
        self.method = check_choice("method", method, ("threshold", "adaptive"))
        self.from_logits = bool(from_logits)
        self.seed = check_integer("seed", seed, minimum=0)

    def fit(self, y: Any, predictions: Any) -> "ConformalClassifier":
        """Finds the quantile.

        Args:
            y: Class ids `(n,)` or `(n, 1)`, or one-hot rows `(n, classes)`, of samples that were not trained on.
            predictions: What `predict` gives for them, `(n, classes)`; `(n,)` or `(n, 1)` of the second of two
                classes.

        Returns:
            The object itself.
        """
        rows, scores = class_samples(y, predictions)
        scores = self._scores(class_probabilities(scores, self.from_logits), 0)
        own = np.take_along_axis(scores, rows.argmax(axis=-1)[:, None], axis=-1)
        self.quantile_ = split_conformal_quantile(own, self.alpha)
        self._classes = rows.shape[1]
        return self

    def predict(self, predictions: Any) -> np.ndarray:
        """The sets.

        Args:
            predictions: What the model predicts, as in `fit`.

        Returns:
            Bools `(n, classes)`, set for the classes that are in.
        """
        if not hasattr(self, "quantile_"):
            raise ValueError("`ConformalClassifier` has to be fitted first: call `fit`.")
        p = class_probabilities(predictions, self.from_logits)
        if p.shape[-1] != self._classes:
            raise ValueError(
                f"Expected predictions of {self._classes} classes, as in `fit`. Received: "
                f"predictions.shape={np.shape(predictions)}"
            )
        return self._scores(p, 1) <= self.quantile_

    def _scores(self, p, stream):
        if self.method == "threshold":
            return 1.0 - p
        order = np.argsort(-p, axis=-1, kind="stable")
        ordered = np.take_along_axis(p, order, axis=-1)
        u = np.random.default_rng((self.seed, stream)).uniform(size=(*p.shape[:-1], 1))
        scores = np.empty_like(p)
        within = np.cumsum(ordered, axis=-1) - (1.0 - u) * ordered
        np.put_along_axis(scores, order, within, axis=-1)
        return scores
