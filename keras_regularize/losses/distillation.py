"""Knowledge distillation: cross-entropy with a teacher's softened predictions."""

from typing import Any

from keras import ops

from keras_regularize.labels import label_ids
from keras_regularize.numerics import kl_divergence, upcast
from keras_regularize.scores import label_log_probability, shifted
from keras_regularize.validation import check_number, compatible


def distillation_loss(
    y_true: Any, y_pred: Any, teacher: Any, alpha: float = 0.1, temperature: float = 3.0
) -> Any:
    r"""Cross-entropy with the labels, mixed with the divergence from a teacher's softened predictions.

    With student logits $z$, teacher logits $v$ and temperature $T$,

    $$\alpha\, \Big(-\sum_k t_k \log \operatorname{softmax}(z)_k\Big)
      + (1 - \alpha)\, T^2\, KL\big(\operatorname{softmax}(v / T) \,\|\, \operatorname{softmax}(z / T)\big).$$

    $\alpha$ weighs the ground truth (some codes have it the other way round); $T^2$ keeps the gradients of both
    parts alike. `alpha=1` ignores the teacher. In self-distillation some ground truth, $\alpha > 0$, keeps the
    steps from regularizing ever more.

    Args:
        y_true: Class ids `(batch,)` or `(batch, 1)`, or one-hot or soft rows `(batch, classes)`.
        y_pred: Student logits $z$ `(batch, classes)`.
        teacher: Teacher logits $v$ of the same shape; they get no gradient.
        alpha: Weight $\alpha$ of the ground truth in `[0, 1]`.
        temperature: $T > 0$; 2 to 5 is usual.

    Returns:
        One value per sample `(batch,)`, in at least float32.

    Raises:
        ValueError: If an argument is out of its range, or if the shapes do not fit.

    Cost: two log-softmaxes of the student's logits and one of the teacher's.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    student, teacher = np.random.normal(size=(2, 4, 3)).astype("float32")
    values = kr.losses.distillation_loss(np.array([0, 2, 1, 1]), student, teacher, alpha=0.5)
    ```

    Reference: Geoffrey Hinton, Oriol Vinyals and Jeff Dean, *Distilling the Knowledge in a Neural Network*, 2015,
    arXiv:1503.02531. Kenneth Borup and Lars N. Andersen, *Even your Teacher Needs Guidance: Ground-Truth Targets
    Dampen Regularization Imposed by Self-Distillation*, NeurIPS 2021, arXiv:2102.13088.
    """
    check_number("alpha", alpha, minimum=0, maximum=1)
    divergence = softened_divergence(y_pred, teacher, temperature)
    crossentropy = -label_log_probability(y_true, y_pred, from_logits=True)
    return alpha * crossentropy + (1.0 - alpha) * divergence


def softened_divergence(y_pred, teacher, temperature):
    """`T² KL(softmax(v / T) ‖ softmax(z / T))` of each row of logits `z` and the teacher's `v`."""
    logits, teacher = _pair(y_pred, teacher, temperature)
    divergence = kl_divergence(ops.log_softmax(teacher, axis=-1), ops.log_softmax(logits, axis=-1))
    return temperature**2 * divergence


def decoupled_distillation_loss(
    y_true: Any,
    y_pred: Any,
    teacher: Any,
    alpha: float = 1.0,
    beta: float = 8.0,
    temperature: float = 4.0,
) -> Any:
    r"""Distillation with separate weights for how sure the teacher is and for what it knows of the other classes.

    The divergence of distillation at temperature $T$ splits into two parts, and a sure teacher weighs the second,
    the more useful one, with almost nothing. With $b = (p_y, 1 - p_y)$ and $\hat p$ the distribution over the
    other classes, of teacher ($v$) and student ($z$) at temperature $T$,

    $$T^2 \big( \alpha\, KL(b^v \,\|\, b^z) + \beta\, KL(\hat p^v \,\|\, \hat p^z) \big).$$

    $\alpha = 1$, $\beta = 1 - p^v_y$ would be the divergence of `distillation_loss`. Add the cross-entropy with
    the labels; the authors do so with weight 1 and raise the distillation part linearly over the first 20
    epochs.

    Args:
        y_true: Class ids `(batch,)` or `(batch, 1)`, or rows `(batch, classes)`, whose largest entry is the label.
        y_pred: Student logits $z$ `(batch, classes)`, of at least two classes.
        teacher: Teacher logits $v$ of the same shape; they get no gradient.
        alpha: Weight $\alpha \ge 0$ of the label's part.
        beta: Weight $\beta \ge 0$ of the other classes' part.
        temperature: $T > 0$.

    Returns:
        One value per sample `(batch,)`, in at least float32.

    Raises:
        ValueError: If an argument is out of its range, or if the shapes do not fit.

    Cost: two log-softmaxes each of the student's and the teacher's logits.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    student, teacher = np.random.normal(size=(2, 4, 3)).astype("float32")
    values = kr.losses.decoupled_distillation_loss(np.array([0, 2, 1, 1]), student, teacher)
    ```

    Reference: Borui Zhao, Quan Cui, Renjie Song, Yiyu Qiu and Jiajun Liang, *Decoupled Knowledge Distillation*,
    CVPR 2022, arXiv:2203.08679.
    """
    check_number("alpha", alpha, minimum=0)
    check_number("beta", beta, minimum=0)
    logits, teacher = _pair(y_pred, teacher, temperature)
    if logits.shape[-1] < 2:
        raise ValueError(
            "Decoupled distillation needs at least two classes. "
            f"Received: y_pred.shape={tuple(logits.shape)}"
        )
    label = ops.one_hot(label_ids(y_true, logits), logits.shape[-1], dtype="bool")
    (own_v, rest_v, others_v), (own_z, rest_z, others_z) = (
        _decoupled(z, label) for z in (teacher, logits)
    )
    binary = ops.exp(own_v) * (own_v - own_z) + ops.exp(rest_v) * (rest_v - rest_z)
    return temperature**2 * (alpha * binary + beta * kl_divergence(others_v, others_z))


def _pair(y_pred, teacher, temperature):
    """Both logits divided by the temperature."""
    check_number("temperature", temperature, above=0)
    logits = upcast(y_pred)
    teacher = ops.stop_gradient(ops.cast(ops.convert_to_tensor(teacher), logits.dtype))
    if not compatible(teacher.shape, logits.shape):
        raise ValueError(
            "Expected logits of the teacher in the shape of the student's. Received: "
            f"teacher.shape={tuple(teacher.shape)}, y_pred.shape={tuple(logits.shape)}"
        )
    # Their shift is exact here, and that of a quotient is not where a compiler fuses the two.
    return shifted(logits)[0] / temperature, shifted(teacher)[0] / temperature


def _decoupled(logits, label):
    """Log-probabilities of the label, of all others together, and `(…, classes)` among the others."""
    log_p = ops.log_softmax(logits, axis=-1)
    # Far below any difference of logits, and finite: the label's own entry among the others.
    others = ops.where(label, -1e30, log_p)
    rest = ops.logsumexp(others, axis=-1, keepdims=True)
    own = ops.sum(ops.where(label, log_p, 0.0), axis=-1)
    return own, ops.squeeze(rest, axis=-1), ops.where(label, -1e30, log_p - rest)
