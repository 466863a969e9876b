"""Intervals that contain the target."""

from typing import Any

import numpy as np

from keras_regularize.analysis.conformal._split_conformal_quantile import split_conformal_quantile
from keras_regularize.validation import check_choice, check_number


class ConformalRegressor:
    r"""Intervals that contain the target with probability $1 - \alpha$, whatever the regression.

    Calibration samples give scores $s_i$, and these $q$, by `split_conformal_quantile`.

    | `method` | predictions | score | interval |
    |---|---|---|---|
    | `"absolute"` | $\hat y$ | $\lvert y - \hat y \rvert$ | $[\hat y - q, \hat y + q]$ |
    | `"quantile"` | quantiles $l, u$ | $\max(l - y, y - u)$ | $[l - q, u + q]$ |

    `"absolute"` takes any regression, and gives all inputs the same width. `"quantile"` takes a network of two
    quantiles, such as one trained by `losses.Quantile`, and keeps its idea of where targets vary more; $q$ may be
    negative, and an interval whose ends have changed places is empty. The coverage is that of both ends together;
    `ConformalQuantiles` sees to each by itself, and to any number of levels.

    Args:
        alpha: $\alpha$ in (0, 1), the share of targets that may be missed.
        method: `"absolute"` or `"quantile"`.

    Attributes:
        quantile_: $q$, once it is fitted; infinite if there are fewer than $1/\alpha - 1$ samples.

    Raises:
        ValueError: If an argument is out of range; if targets and predictions do not fit; if it is used before
            `fit`.

    Cost: a sort of the calibration samples.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    prediction = np.random.normal(size=1000)
    y = prediction + np.random.normal(size=1000)
    conformal = kr.analysis.ConformalRegressor(alpha=0.1).fit(y[:500], prediction[:500])
    low, high = conformal.predict(prediction[500:]).T
    covered = np.mean((low <= y[500:]) & (y[500:] <= high))  # About 0.9.
    ```

    Reference: Jing Lei, Max G'Sell, Alessandro Rinaldo, Ryan J. Tibshirani and Larry Wasserman, *Distribution-Free
    Predictive Inference for Regression*, JASA 2018, arXiv:1604.04173; `"quantile"`: Yaniv Romano, Evan Patterson
    and Emmanuel J. Candès, *Conformalized Quantile Regression*, NeurIPS 2019, arXiv:1905.03222.
    """

    quantile_: float

    def __init__(self, alpha: float = 0.1, method: str = "absolute"):
        self.alpha = check_number("alpha", alpha, above=0, below=1)
        self.method = check_choice("method", method, ("absolute", "quantile"))

    def fit(self, y: Any, predictions: Any) -> "ConformalRegressor":
        """Finds the quantile.

        Args:
            y: Targets `(n,)` or `(n, 1)` that were not trained on.
            predictions: What `predict` gives for them, `(n,)` or `(n, 1)`; for `"quantile"` `(n, 2)`, the lower
                one first.

        Returns:
            The object itself.
        """
        low, high = self._ends(predictions)
        y = np.asarray(y, "float64")
        if y.shape not in (low.shape, (len(low), 1)):
            raise ValueError(
                "Expected targets (n,) or (n, 1), one for each prediction. Received: "
                f"y.shape={y.shape}, predictions.shape={np.shape(predictions)}"
            )
        y = y.reshape(-1)
        self.quantile_ = split_conformal_quantile(np.maximum(low - y, y - high), self.alpha)
        return self

    def predict(self, predictions: Any) -> np.ndarray:
        """The intervals.

        Args:
            predictions: What the model predicts, as in `fit`.

        Returns:
            Lower and upper ends `(n, 2)` in float64.
        """
        if not hasattr(self, "quantile_"):
            raise ValueError("`ConformalRegressor` has to be fitted first: call `fit`.")
        low, high = self._ends(predictions)
        return np.stack([low - self.quantile_, high + self.quantile_], axis=-1)

    def _ends(self, predictions):
        """The interval before it is widened, two vectors."""
        given = np.asarray(predictions, "float64")
        columns = 2 if self.method == "quantile" else 1
        ends = given[:, None] if given.ndim == 1 else given
        if ends.ndim != 2 or ends.shape[1] != columns:
            raise ValueError(
                f"Expected predictions {'(n, 2)' if columns == 2 else '(n,) or (n, 1)'} for "
                f"method={self.method!r}. Received: predictions.shape={given.shape}"
            )
        return ends[:, 0], ends[:, -1]
