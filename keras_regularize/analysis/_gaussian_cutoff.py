"""The decision threshold of a binary classifier from the distributions of its scores."""

import math
from typing import Any

import numpy as np


def gaussian_cutoff(logits: Any, labels: Any) -> float:
    r"""Where to cut the logits of a binary classifier: where the Gaussians of the two classes cross.

    With means $\mu_c$ and sample standard deviations $s_c$ of the logits of each class, it is the $x$ at which the
    density of the class with the larger mean overtakes the other,

    $$N(x; \mu_1, s_1^2) = N(x; \mu_0, s_0^2) .$$

    Of all cut-offs it makes the fewest mistakes, each class weighing the same, if logits are Gaussian. It lies
    between the means unless they are closer than the deviations differ. Equal deviations give the midpoint; a
    class without spread its own mean. Use it with `kr.losses.ZErrorBCE`, or wherever 0 is not the natural
    threshold: unbalanced classes, for instance. Take logits of data the model was not trained on.

    Args:
        logits: Scores of class 1, `(n,)` or `(n, 1)`.
        labels: Classes 0 or 1 in the same shape, with at least one sample of each.

    Returns:
        The cut-off, a float: predict class 1 above it.

    Raises:
        ValueError: If sizes differ, or a class has no sample.

    Cost: the moments of the two classes.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    labels = np.arange(1000) % 2
    logits = np.random.default_rng(0).normal(np.where(labels, 2.0, -1.0), np.where(labels, 0.5, 1.0))
    predicted = logits > kr.analysis.gaussian_cutoff(logits, labels)
    ```

    Reference: Guillaume Godin, *Z-Error Loss for Training Neural Networks*, 2025, arXiv:2506.02154.
    """
    logits, labels = (np.asarray(v, "float64").ravel() for v in (logits, labels))
    if logits.shape != labels.shape:
        raise ValueError(
            f"Expected a label for each logit. Received: {labels.size} labels for {logits.size} logits"
        )
    classes = [logits[labels < 0.5], logits[labels >= 0.5]]
    if min(map(len, classes)) == 0:
        raise ValueError(
            "Both classes need at least one sample. Received: "
            f"{len(classes[0])} of class 0, {len(classes[1])} of class 1"
        )
    moments = [(np.mean(z), np.std(z, ddof=1) if len(z) > 1 else 0.0) for z in classes]
    (low, spread), (high, other) = ((float(m), float(s)) for m, s in sorted(moments))
    distance = high - low
    if spread == other:
        return low + distance / 2
    if spread == 0 or other == 0:
        return low if spread == 0 else high
    # The root of the quadratic equation at which the log-ratio of the densities rises, without cancellation.
    ratio, log_ratio = other / spread, math.log(other / spread)
    root = math.sqrt((ratio * distance) ** 2 + 2 * other**2 * (ratio**2 - 1) * log_ratio)
    return low + (distance**2 + 2 * other**2 * log_ratio) / (distance + root)
