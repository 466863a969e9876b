"""What a generator between two domains of pictures and its discriminator of three classes play for."""

from typing import Any

from keras import ops

from keras_regularize.numerics import safe_sqrt, unit_vectors, upcast
from keras_regularize.ops.differences import forward_differences
from keras_regularize.validation import check_choice, check_number

#: Classes of the discriminator.
SOURCE, TARGET, REAL = 0, 1, 2


def domain_transfer_discriminator_loss(
    source_logits: Any, target_logits: Any, real_logits: Any
) -> Any:
    r"""What the discriminator of domain transfer minimizes: it tells three kinds of pictures apart.

    $$\overline{-\log p_0(G(x_s))} + \overline{-\log p_1(G(x_t))} + \overline{-\log p_2(x_t)}$$

    Args:
        source_logits: Outputs `(batch, 3)`, without softmax, for pictures generated from the source domain.
        target_logits: Outputs for those generated from the target domain.
        real_logits: Outputs for those of the target domain.

    Returns:
        A scalar.

    Raises:
        ValueError: If there are not three logits.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    kr.generative.domain_transfer_discriminator_loss(*np.zeros((3, 4, 3)))  # 3 log 3
    ```

    Reference: Yaniv Taigman, Adam Polyak and Lior Wolf, *Unsupervised Cross-Domain Image Generation*, ICLR 2017,
    arXiv:1611.02200.
    """
    return sum(
        _cross_entropy(logits, kind)
        for logits, kind in ((source_logits, SOURCE), (target_logits, TARGET), (real_logits, REAL))
    )


def domain_transfer_generator_loss(
    source_logits: Any,
    target_logits: Any,
    source_features: Any,
    generated_features: Any,
    target: Any,
    generated_target: Any,
    generated_source: Any,
    constancy_weight: float = 15.0,
    identity_weight: float = 15.0,
    total_variation_weight: float = 0.0,
    feature_distance: str = "mse",
) -> Any:
    r"""What the generator of domain transfer minimizes.

    $$\overline{-\log p_2(G(x_s))} + \overline{-\log p_2(G(x_t))} + \alpha\, d\big(f(x_s), f(G(x_s))\big)
      + \beta\, \overline{(x_t - G(x_t))^2} + \gamma \operatorname{TV}(G),$$

    pictures are taken for those of the target domain, features stay as they are, pictures of the target domain
    too. TV is the sum of the lengths of the differences of neighbouring pixels, the mean over all generated
    pictures; those beyond the border are 0.

    Args:
        source_logits: Outputs of the discriminator `(batch, 3)` for $G(x_s)$.
        target_logits: Outputs for $G(x_t)$.
        source_features: $f(x_s)$, `(batch, …)`.
        generated_features: $f(G(x_s))$, of that shape.
        target: $x_t$, `(batch, height, width, channels)` if the total variation counts.
        generated_target: $G(x_t)$, of that shape.
        generated_source: $G(x_s)$, of that shape.
        constancy_weight: $\alpha \ge 0$.
        identity_weight: $\beta \ge 0$.
        total_variation_weight: $\gamma \ge 0$.
        feature_distance: $d$, `"mse"` or `"cosine"`, the mean of one minus the cosine.

    Returns:
        A scalar.

    Raises:
        ValueError: If a number is out of range, or shapes do not fit.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    logits, features, pictures = np.zeros((4, 3)), np.ones((4, 5)), np.zeros((4, 8, 8, 1))
    kr.generative.domain_transfer_generator_loss(
        logits, logits, features, features, pictures, pictures, pictures
    )  # 2 log 3
    ```

    Reference: Yaniv Taigman, Adam Polyak and Lior Wolf, *Unsupervised Cross-Domain Image Generation*, ICLR 2017,
    arXiv:1611.02200. The digits' weights are 15, 15 and 0, those of faces 100, 1 and 0.05.
    """
    for name, weight in (
        ("constancy_weight", constancy_weight),
        ("identity_weight", identity_weight),
        ("total_variation_weight", total_variation_weight),
    ):
        check_number(name, weight, minimum=0)
    check_choice("feature_distance", feature_distance, ("mse", "cosine"))
    loss = _cross_entropy(source_logits, REAL) + _cross_entropy(target_logits, REAL)
    pairs = {
        "features": (source_features, generated_features),
        "target": (target, generated_target),
    }
    for name, (a, b) in pairs.items():
        if tuple(ops.shape(a)[1:]) != tuple(ops.shape(b)[1:]):
            raise ValueError(
                f"Expected `{name}` and what is generated of one shape. "
                f"Received: {tuple(ops.shape(a))} and {tuple(ops.shape(b))}"
            )
    loss = loss + constancy_weight * _distance(
        source_features, generated_features, feature_distance
    )
    loss = loss + identity_weight * _squared_error(target, generated_target)
    if total_variation_weight:
        variation = 0.5 * (_variation(generated_source) + _variation(generated_target))
        loss = loss + total_variation_weight * variation
    return loss


def _cross_entropy(logits, kind):
    logits = upcast(ops.convert_to_tensor(logits))
    if logits.shape[-1] != 3:
        raise ValueError(
            f"Expected logits of three classes, (batch, 3). Received: {tuple(logits.shape)}"
        )
    return -ops.mean(ops.log_softmax(logits, axis=-1)[..., kind])


def _squared_error(a, b):
    a, b = (upcast(ops.convert_to_tensor(x)) for x in (a, b))
    return ops.mean(ops.square(a - b))


def _distance(a, b, kind):
    if kind == "mse":
        return _squared_error(a, b)
    a, b = (upcast(ops.convert_to_tensor(x)) for x in (a, b))
    rows = [unit_vectors(ops.reshape(x, (ops.shape(x)[0], -1))) for x in (a, b)]
    return ops.mean(1.0 - ops.sum(rows[0] * rows[1], axis=-1))


def _variation(images):
    images = upcast(ops.convert_to_tensor(images))
    if len(images.shape) != 4:
        raise ValueError(
            "`total_variation_weight` needs pictures (batch, height, width, channels). "
            f"Received: {tuple(images.shape)}"
        )
    squares = sum(ops.square(forward_differences(images, axis)) for axis in (1, 2))
    return ops.mean(ops.sum(safe_sqrt(squares), axis=(1, 2, 3)))
