"""Label-distribution-aware margins."""

from collections.abc import Sequence

import numpy as np
from keras import ops

from keras_regularize.autodiff import backend
from keras_regularize.labels import at_label
from keras_regularize.losses._slopes import by_slopes, crossentropy_slopes
from keras_regularize.losses.imbalance._counts import (
    check_classes,
    check_counts,
    constants,
    entries,
)
from keras_regularize.losses.loss import ClassLoss
from keras_regularize.registration import export
from keras_regularize.scores import class_logits, shifted
from keras_regularize.validation import check_number


@export
class LDAM(ClassLoss):
    r"""Cross-entropy in which rare classes must win by a larger margin.

    With class counts $n_k$ and scores $z$, the cosines of a normalised head,

    $$\ell(t, z) = -\sum_k t_k \log \operatorname{softmax}\big(s\,(z - m \odot t)\big)_k, \qquad
      m_k = C\, n_k^{-1/4},$$

    where $C$ makes the largest margin `max_margin`. Margins in proportion to $n^{-1/4}$ minimise a bound on the
    balanced error. The authors train with it alone first and then add class weights
    (`kr.losses.class_balanced_weights`) for the last fifth of the epochs, which matters as much as the
    margin. `max_margin=0` is cross-entropy of the scaled scores.

    Args:
        class_counts: Training samples of each class, a list of positive numbers.
        max_margin: Margin of the rarest class, a non-negative float.
        scale: $s > 0$. 30 is for cosines in `[-1, 1]`; take 1 for the logits of a plain head.
        reduction: How the values become one, as in `keras.losses.Loss`.
        name: Name of the loss.
        dtype: Dtype of the computation, as in `keras.losses.Loss`.
        ignore_class: Class id of samples that do not count, such as -1 or 255 for pixels without a label: as in
            `keras.losses.SparseCategoricalCrossentropy` their value is 0 and means leave them out. For ids only.

    Call arguments:
        y_true: Class ids `(batch,)` or `(batch, 1)`, or one-hot or soft rows `(batch, classes)`. Further axes
            between batch and classes are positions.
        y_pred: Cosines or logits `(batch, classes)`. A single column is the score of class 1 against 0 for
            class 0.

    Returns:
        With `reduction="none"` one value per sample `(batch,)` or position, else a scalar.

    Raises:
        ValueError: If `class_counts` are not positive numbers, one per class, another argument is out of its
            range, or if the shapes of labels and logits do not fit.

    Cost: that of cross-entropy and five more passes over the logits.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    x, y = np.random.normal(size=(64, 8)), np.repeat([0, 1, 2], [50, 10, 4])
    features = keras.Sequential([keras.layers.Dense(16), keras.layers.UnitNormalization()])
    head = keras.layers.Dense(3, use_bias=False, kernel_constraint=keras.constraints.UnitNorm())
    model = keras.Sequential([features, head])
    model.compile("adam", loss=kr.losses.LDAM(np.bincount(y)))
    model.fit(x, y, verbose=0)
    ```

    Reference: Kaidi Cao, Colin Wei, Adrien Gaidon, Nikos Arechiga and Tengyu Ma, *Learning Imbalanced Datasets
    with Label-Distribution-Aware Margin Loss*, NeurIPS 2019, arXiv:1906.07413.
    """

    from_logits = True

    def __init__(
        self,
        class_counts: Sequence[float],
        max_margin: float = 0.5,
        scale: float = 30.0,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "ldam",
        dtype: str | None = None,
        ignore_class: int | None = None,
    ):
        super().__init__(ignore_class, name=name, reduction=reduction, dtype=dtype)
        self.class_counts = check_counts(class_counts)
        self.max_margin = check_number("max_margin", max_margin, minimum=0)
        self.scale = check_number("scale", scale, above=0)
        margins = np.asarray(self.class_counts, "float64") ** -0.25
        self._margins = constants(self.scale * self.max_margin * margins / margins.max())

    def values(self, labels, y_pred):
        logits = class_logits(y_pred)
        check_classes(self.class_counts, logits)
        return by_slopes(self._formula, self._slopes, labels, logits)

    def _formula(self, labels, logits):
        # Shifted first: large logits would round the margins away.
        scores = self.scale * shifted(logits)[0]
        if labels.rows is None:
            own = -entries(self._margins, labels.ids)
            scores = backend.add_last(scores, labels.ids, own)
        else:
            scores = scores - ops.multiply(labels.rows, self._margins)
        return -at_label(labels, backend.log_softmax(scores))

    def _slopes(self, labels, logits, room):
        scores, _ = shifted(logits)
        scores *= self.scale
        if labels.rows is None:
            backend.in_place.add_last(scores, labels.ids, -entries(self._margins, labels.ids))
        else:
            scores -= ops.multiply(labels.rows, self._margins)
        values, *_ = crossentropy_slopes(labels, scores, room)
        room *= self.scale
        return values
