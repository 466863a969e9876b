"""What a trained autoencoder knows of the density of its data, and what its Jacobian and its bits allow."""

import math
from typing import Any

import numpy as np
from keras import ops

from keras_regularize.models.autoencoders.jacobians import flat, jacobian
from keras_regularize.numerics import as_float, upcast
from keras_regularize.validation import check_integer, check_number, compatible


def jacobian_nuclear_norm(model: Any, inputs: Any) -> Any:
    r"""Sum of the singular values of the Jacobian of a model, at every input.

    $$\|J_f(x_i)\|_* = \sum_k \sigma_k\big(J_f(x_i)\big)$$

    What `kr.models.JacobianNuclearNorm` penalizes, measured exactly: how many directions at $x_i$ a model passes
    on, and how strongly. For one output it is the length of the gradient. No gradient flows through it.

    Args:
        model: A model or function of `inputs` that treats samples independently, at inference.
        inputs: Floats `(batch, …)`, a batch that fits into memory as many times as there are outputs.

    Returns:
        `(batch,)`.

    Cost: a forward and a backward pass of `batch * outputs` rows, and the singular values.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8, "tanh"), keras.layers.Dense(4)])
    kr.analysis.jacobian_nuclear_norm(model, np.ones((5, 4)))  # (5,)
    ```

    Reference: Christopher Scarvelis and Justin Solomon, *Nuclear Norm Regularization for Deep Learning*, NeurIPS
    2024, arXiv:2405.14544.
    """
    x = upcast(as_float(inputs))
    matrices = jacobian(lambda x: model(x, training=False) if _is_model(model) else model(x), x)
    shape = ops.shape(matrices)
    matrices = ops.reshape(matrices, (*shape[:2], math.prod(matrices.shape[2:])))
    if shape[0] == 0:
        return ops.zeros((0,), matrices.dtype)
    return ops.sum(ops.svd(ops.stop_gradient(matrices), compute_uv=False), axis=-1)


def autoencoder_score(model: Any, inputs: Any, stddev: float) -> Any:
    r"""The gradient of the logarithm of the density of the data, from a denoising autoencoder.

    $$\nabla \log p(x) \approx \frac{r(x) - x}{\sigma^2}$$

    where $r$ was trained to take off noise of the deviation $\sigma$ (`kr.models.DenoisingAutoencoder`), or by a
    penalty of $\sigma^2$ on its Jacobian (`kr.models.ContractiveAutoencoder`), with squared error. Exact, for the
    best $r$, for the density of the data with that noise on them. It points to where data are more likely, and is
    0 at the modes.

    Args:
        model: The model $r$, of outputs in the shape of `inputs`.
        inputs: Points `(batch, …)`.
        stddev: $\sigma > 0$ of the training. The error of $r$ is divided by its square: below 0.02 little of
            float32 is left.

    Returns:
        A tensor in the shape of `inputs`.

    Raises:
        ValueError: If `stddev` is not positive, or the model gives another shape.

    Cost: one forward pass.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(8, "tanh"), keras.layers.Dense(2)])
    kr.analysis.autoencoder_score(model, np.ones((5, 2)), stddev=0.2)
    ```

    Reference: Guillaume Alain and Yoshua Bengio, *What Regularized Auto-Encoders Learn from the Data Generating
    Distribution*, JMLR 2014, arXiv:1211.4246.
    """
    check_number("stddev", stddev, above=0)
    x = upcast(as_float(inputs))
    outputs = model(x, training=False) if _is_model(model) else model(x)
    if not compatible(outputs.shape, x.shape):
        raise ValueError(
            "Expected an autoencoder, whose outputs have the shape of its inputs. "
            f"Received: inputs of shape {tuple(x.shape)}, outputs of shape {tuple(outputs.shape)}"
        )
    return (ops.cast(outputs, x.dtype) - x) / (stddev * stddev)


def autoencoder_log_density_difference(
    model: Any, start: Any, end: Any, stddev: float, steps: int = 10
) -> Any:
    r"""How much more likely one point is than another, from a denoising autoencoder.

    $$\log p(b) - \log p(a) = \int_0^1 \nabla \log p\big(a + t (b - a)\big)^\top (b - a)\, dt$$

    with the score of `autoencoder_score`, by the trapezoidal rule. The score of a trained network is not exactly a
    gradient, so that another path would give another value.

    Args:
        model: The autoencoder.
        start: $a$, points `(batch, …)`.
        end: $b$, points of the same shape.
        stddev: $\sigma > 0$ of the training.
        steps: Number of intervals on the segment, at least 1.

    Returns:
        `(batch,)`.

    Raises:
        ValueError: If an argument is out of range, or shapes differ.

    Cost: one forward pass of `(steps + 1) * batch` rows.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(8, "tanh"), keras.layers.Dense(2)])
    a, b = np.zeros((5, 2)), np.ones((5, 2))
    kr.analysis.autoencoder_log_density_difference(model, a, b, stddev=0.2)  # (5,)
    ```

    Reference: Guillaume Alain and Yoshua Bengio, *What Regularized Auto-Encoders Learn from the Data Generating
    Distribution*, JMLR 2014, arXiv:1211.4246.
    """
    check_integer("steps", steps, minimum=1)
    a, b = upcast(as_float(start)), upcast(as_float(end))
    if not compatible(a.shape, b.shape):
        raise ValueError(
            "`start` and `end` must be of one shape. "
            f"Received: start.shape={tuple(a.shape)}, end.shape={tuple(b.shape)}"
        )
    way = ops.cast(b, a.dtype) - a
    points = ops.concatenate([a + (k / steps) * way for k in range(steps + 1)], axis=0)
    scores = flat(autoencoder_score(model, points, stddev))
    scores = ops.reshape(scores, (steps + 1, ops.shape(a)[0], scores.shape[-1]))
    mean = (ops.sum(scores, axis=0) - 0.5 * (scores[0] + scores[-1])) / steps
    return ops.sum(mean * flat(way), axis=-1)


def sign_autoencoder_risk(encoder: Any, covariance: Any = None) -> float:
    r"""The mean squared error of the best decoder for codes of one bit per unit, of Gaussian data.

    For $x \sim N(0, \Sigma)$, codes $\operatorname{sign}(B x)$ and the best linear decoder $A$, with
    $D = \operatorname{diag}(B \Sigma B^\top)$,

    $$\min_A \frac1d\, E \|x - A \operatorname{sign}(B x)\|^2
      = \frac1d \big( \operatorname{tr} \Sigma - \operatorname{tr} C K^{+} C^\top \big), \qquad
      C = \sqrt{\tfrac2\pi}\; \Sigma B^\top D^{-1/2}, \quad
      K = \tfrac2\pi \arcsin\big(D^{-1/2} B \Sigma B^\top D^{-1/2}\big).$$

    The length of a row of $B$ does not matter.

    Args:
        encoder: $B$, an array `(units, features)`: the transposed kernel of a `kr.models.SignAutoencoder`.
        covariance: $\Sigma$, `(features, features)`; `None` for the identity.

    Returns:
        The error per feature, a float.

    Raises:
        ValueError: If the shapes do not fit, or a row of the encoder sees nothing of the data.

    Cost: an eigendecomposition of `(units, units)`, in float64.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    kr.analysis.sign_autoencoder_risk(np.eye(4)[:2])  # 1 - 2 / π * 2 / 4, the least for two bits.
    ```

    Reference: Alexander Shevchenko, Kevin Kögler, Hamed Hassani and Marco Mondelli, *Fundamental Limits of
    Two-layer Autoencoders, and Achieving Them with Gradient Methods*, ICML 2023, arXiv:2212.13468.
    """
    b = np.asarray(ops.convert_to_numpy(encoder), "float64")
    if b.ndim != 2 or 0 in b.shape:
        raise ValueError(f"`encoder` must be of shape (units, features). Received: {b.shape}")
    size = b.shape[1]
    sigma = np.eye(size) if covariance is None else np.asarray(covariance, "float64")
    if sigma.shape != (size, size):
        raise ValueError(
            f"`covariance` must be of shape ({size}, {size}). Received: covariance.shape={sigma.shape}"
        )
    product = b @ sigma @ b.T
    deviation = np.sqrt(np.diag(product))
    if not (deviation > 0).all():
        raise ValueError("Every row of `encoder` must have a projection that varies.")
    kernel = 2 / np.pi * np.arcsin(np.clip(product / np.outer(deviation, deviation), -1, 1))
    cross = np.sqrt(2 / np.pi) * sigma @ b.T / deviation
    explained = np.trace(cross @ np.linalg.pinv(kernel, hermitian=True) @ cross.T)
    return float((np.trace(sigma) - explained) / size)


def sign_autoencoder_limit(rate: float) -> float:
    r"""The least error of an autoencoder of one bit per unit, of Gaussian data in many independent dimensions.

    With $r = n / d$ bits per feature of variance 1,

    $$1 - \frac2\pi\, r \quad (r \le 1), \qquad 1 - \frac{r}{r + \pi / 2 - 1} \quad (r > 1).$$

    For $r \le 1$ it is attained if and only if the rows of the encoder are orthonormal; above, in the limit of
    many dimensions.

    Args:
        rate: $r > 0$.

    Returns:
        The mean squared error per feature, a float.

    Raises:
        ValueError: If `rate` is not positive.

    Cost: none.

    Example:

    ```python
    import keras_regularize as kr

    kr.analysis.sign_autoencoder_limit(0.5)  # 0.682
    ```

    Reference: Alexander Shevchenko, Kevin Kögler, Hamed Hassani and Marco Mondelli, *Fundamental Limits of
    Two-layer Autoencoders, and Achieving Them with Gradient Methods*, ICML 2023, arXiv:2212.13468.
    """
    rate = check_number("rate", rate, above=0)
    return 1 - 2 / math.pi * rate if rate <= 1 else 1 - rate / (rate + math.pi / 2 - 1)


def _is_model(model):
    return hasattr(model, "trainable_variables")
