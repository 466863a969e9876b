"""The path of the features of a regression through the sphere, from bin to bin of the labels."""

from typing import Any

from keras import ops

from keras_regularize.numerics import matmul, mean, unit_vectors, upcast
from keras_regularize.validation import check_number


def enveloping_loss(trace: Any, points: Any, mask: Any = None) -> Any:
    r"""How far random directions are from the path that features take from label to label.

    $$1 - \frac1P \sum_p \max_\ell \cos(u_\ell, v_p),$$

    with the representation $u_\ell$ of each bin of labels, in the order of labels, and $P$ fixed directions $v_p$.
    It is 0 where every direction is on the path and at most 2: a long path that fills the sphere is rewarded, so
    that rare labels get a place of their own beside the frequent ones.

    Args:
        trace: A representation per bin, `(bins, dim)`, of any length.
        points: Directions `(P, dim)`, of any length, such as normal random numbers.
        mask: Bools `(bins,)`, which bins are on the path; all by default. Without any the loss is 0.

    Returns:
        A scalar in at least float32.

    Raises:
        ValueError: If sizes do not fit.

    Cost: one matrix product, `P · bins · dim`.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    angle = np.linspace(0, 6.28, 50)
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    kr.losses.enveloping_loss(circle, np.random.normal(size=(100, 2)))  # about 0
    ```

    Reference: Zijian Dong, Yilei Wu, Chongyao Chen, Yingtian Zou, Yichi Zhang and Juan Helen Zhou, *Improve
    Representation for Imbalanced Regression through Geometric Constraints*, CVPR 2025, arXiv:2503.00876.
    """
    trace, points = unit_vectors(upcast(trace)), unit_vectors(upcast(points))
    _check_rows("trace", trace, "points", points)
    cosines = matmul(ops.cast(points, trace.dtype), ops.transpose(trace))
    if mask is None:
        return 1.0 - mean(ops.max(cosines, axis=1))
    mask = ops.cast(ops.convert_to_tensor(mask), "bool")
    nearest = ops.max(ops.where(mask[None], cosines, -2.0), axis=1)
    return ops.where(ops.any(mask), 1.0 - mean(nearest), 0.0)


def homogeneity_loss(
    trace: Any, labels: Any = None, variance_factor: float = 0.0, mask: Any = None
) -> Any:
    r"""How fast, and how unevenly, features move as the label does.

    $$\sum_\ell \frac{\|u_{\ell+1} - u_\ell\|^2}{y_{\ell+1} - y_\ell}
      + \beta \operatorname{Var}_\ell \cos(u_\ell, u_{\ell+1}),$$

    over neighbouring bins, with the unbiased variance. At fixed ends and length it is least where equal steps of
    the label are equal steps of the features.

    Args:
        trace: A representation per bin, `(bins, dim)`, of any length.
        labels: The label of each bin, `(bins,)`, ascending; by default its number.
        variance_factor: $\beta \ge 0$.
        mask: Bools `(bins,)`, which bins are on the path; all by default. The next bin is then the next of these.

    Returns:
        A scalar in at least float32.

    Raises:
        ValueError: If sizes do not fit or `variance_factor` is negative.

    Cost: a few passes over the trace.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    angle = np.linspace(0, 3.14, 50)
    kr.losses.homogeneity_loss(np.stack([np.cos(angle), np.sin(angle)], axis=1))
    ```

    Reference: Zijian Dong, Yilei Wu, Chongyao Chen, Yingtian Zou, Yichi Zhang and Juan Helen Zhou, *Improve
    Representation for Imbalanced Regression through Geometric Constraints*, CVPR 2025, arXiv:2503.00876.
    """
    variance_factor = check_number("variance_factor", variance_factor, minimum=0)
    trace = unit_vectors(upcast(trace))
    if len(trace.shape) != 2:
        raise ValueError(f"`trace` must be `(bins, dim)`. Received: shape={tuple(trace.shape)}")
    index = ops.arange(ops.shape(trace)[0], dtype="int32")
    labels = index if labels is None else ops.convert_to_tensor(labels)
    labels = ops.cast(labels, trace.dtype)
    if labels.shape[0] != trace.shape[0] or len(labels.shape) != 1:
        raise ValueError(
            "Expected one label per row of `trace`. "
            f"Received: labels.shape={tuple(labels.shape)}, trace.shape={tuple(trace.shape)}"
        )
    if mask is None:
        here, there = trace[:-1], trace[1:]
        gaps, steps = labels[1:] - labels[:-1], ops.ones_like(labels[1:])
    else:
        mask = ops.cast(ops.convert_to_tensor(mask), "bool")
        after = ops.logical_and(index[None, :] > index[:, None], mask[None, :])
        last = ops.shape(trace)[0] - 1
        following = ops.min(ops.where(after, index[None, :], last), axis=1)
        steps = ops.logical_and(mask, ops.any(after, axis=1))
        here, there = trace, ops.take(trace, following, axis=0)
        gaps = ops.where(steps, ops.take(labels, following) - labels, 1.0)
        steps = ops.cast(steps, trace.dtype)
    loss = ops.sum(steps * ops.sum(ops.square(there - here), axis=-1) / gaps)
    if variance_factor == 0:
        return loss
    cosines, count = ops.sum(here * there, axis=-1), ops.sum(steps)
    average = ops.sum(steps * cosines) / ops.where(count > 0, count, 1.0)
    squares = ops.sum(steps * ops.square(cosines - average))
    return loss + variance_factor * squares / ops.where(count > 1, count - 1.0, 1.0)


def surrogate_contrastive_loss(
    features: Any, labels: Any, surrogates: Any, temperature: float = 0.1, mask: Any = None
) -> Any:
    r"""Draws the features of each sample to the representation of its label, and away from those of others.

    $$-\log \frac{e^{\cos(z_i, u_{\ell_i}) / \tau}}{\sum_\ell e^{\cos(z_i, u_\ell) / \tau}},$$

    with the bin $\ell_i$ of the label of sample $i$. The representations $u$ are constants.

    Args:
        features: Features `(batch, dim)`, of any length.
        labels: Bins `(batch,)`, integers from 0.
        surrogates: A representation per bin, `(bins, dim)`, of any length.
        temperature: $\tau > 0$.
        mask: Bools `(bins,)`, which bins have a representation; all by default. The value of samples of others is
            0.

    Returns:
        A value per sample, `(batch,)`, in at least float32.

    Raises:
        ValueError: If sizes do not fit or `temperature` is not positive.

    Cost: one matrix product, `batch · bins · dim`.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    kr.losses.surrogate_contrastive_loss(np.eye(3), np.arange(3), np.eye(3))
    ```

    Reference: Zijian Dong, Yilei Wu, Chongyao Chen, Yingtian Zou, Yichi Zhang and Juan Helen Zhou, *Improve
    Representation for Imbalanced Regression through Geometric Constraints*, CVPR 2025, arXiv:2503.00876.
    """
    temperature = check_number("temperature", temperature, above=0)
    features, surrogates = unit_vectors(upcast(features)), unit_vectors(upcast(surrogates))
    _check_rows("features", features, "surrogates", surrogates)
    labels = ops.cast(ops.convert_to_tensor(labels), "int32")
    if len(labels.shape) != 1:
        raise ValueError(f"`labels` must be `(batch,)`. Received: shape={tuple(labels.shape)}")
    surrogates = ops.cast(ops.stop_gradient(surrogates), features.dtype)
    scores = matmul(features, ops.transpose(surrogates)) / temperature
    if mask is not None:
        mask = ops.cast(ops.convert_to_tensor(mask), "bool")
        scores = ops.where(mask[None], scores, -1e30)
    own = ops.take_along_axis(scores, labels[:, None], axis=-1)[:, 0]
    values = ops.logsumexp(scores, axis=-1) - own
    return values if mask is None else ops.where(ops.take(mask, labels), values, 0.0)


def _check_rows(name, rows, other_name, others):
    if len(rows.shape) != 2 or len(others.shape) != 2 or rows.shape[1] != others.shape[1]:
        raise ValueError(
            f"`{name}` and `{other_name}` must be rows of one size. "
            f"Received: shapes {tuple(rows.shape)} and {tuple(others.shape)}"
        )
