"""The terms of a variational autoencoder's loss, and the balance of the two."""

import math
import numbers
from typing import Any

from keras import ops

from keras_regularize.autodiff import backend
from keras_regularize.numerics import maximum, safe_expm1, upcast
from keras_regularize.targets import align_targets
from keras_regularize.validation import check_choice, check_number, compatible

#: The least variance that an error is measured by.
LEAST_VARIANCE = 1e-10


def gaussian_kl(
    mean: Any, log_variance: Any, free_bits: float = 0.0, free_bits_reduction: str = "sample"
) -> Any:
    r"""Divergence of normal codes from standard normal ones, the price of a variational autoencoder's code.

    $$\mathrm{KL} = \sum_j \mathrm{KL}_j, \qquad
      \mathrm{KL}_j = \tfrac12 \big(\mu_j^2 + \sigma_j^2 - \log \sigma_j^2 - 1\big)$$

    With free bits $\lambda$ each dimension $j$ counts as $\max(\mathrm{KL}_j, \lambda)$: what it says up to
    $\lambda$ nats is free, so that a decoder that could do without the code learns to use it. The maximum is taken
    for each sample, or, as its authors do, of the mean over the batch. $\sigma^2$ above $e^{60}$ is continued by
    the tangent: value and gradient are finite.

    Args:
        mean: $\mu$, `(batch, …)`.
        log_variance: $\log \sigma^2$, of the same shape.
        free_bits: $\lambda \ge 0$, in nats per dimension.
        free_bits_reduction: `"sample"`, or `"batch"` for the maximum of the mean over the batch.

    Returns:
        One value per sample `(batch,)`, in at least float32. With `"batch"` their mean is meant: dimensions whose
        mean is below $\lambda$ count as $\lambda$ in each sample.

    Raises:
        ValueError: If shapes differ, or an argument is out of range.

    Cost: one exponential per entry.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    kr.generative.gaussian_kl(np.zeros((4, 2)), np.zeros((4, 2)))  # 0 for each of four samples
    ```

    Reference: Diederik P. Kingma and Max Welling, *Auto-Encoding Variational Bayes*, ICLR 2014, arXiv:1312.6114.
    Free bits: Diederik P. Kingma, Tim Salimans, Rafal Jozefowicz, Xi Chen, Ilya Sutskever and Max Welling,
    *Improving Variational Inference with Inverse Autoregressive Flow*, NeurIPS 2016, arXiv:1606.04934.
    """
    free_bits = check_number("free_bits", free_bits, minimum=0)
    check_choice("free_bits_reduction", free_bits_reduction, ("sample", "batch"))
    location = upcast(mean)
    log_variance = ops.cast(upcast(log_variance), location.dtype)
    if len(location.shape) < 2 or not compatible(location.shape, log_variance.shape):
        raise ValueError(
            "`mean` and `log_variance` must be of the same shape (batch, …). Received: "
            f"mean.shape={tuple(location.shape)}, log_variance.shape={tuple(log_variance.shape)}"
        )
    parts = 0.5 * (location * location + safe_expm1(log_variance) - log_variance)
    if free_bits > 0:
        measured = parts
        if free_bits_reduction == "batch":
            count = ops.cast(ops.maximum(ops.shape(parts)[0], 1), parts.dtype)
            measured = ops.sum(parts, axis=0, keepdims=True) / count
        parts = ops.where(measured > free_bits, parts, free_bits)
    return sum_per_sample(parts)


def balanced_vae_loss(
    x: Any,
    reconstruction: Any,
    mean: Any,
    log_variance: Any,
    mean_squared_error: Any = 1.0,
    kl_weight: Any = 1.0,
) -> Any:
    r"""Loss of a variational autoencoder whose two terms are balanced by the error of its reconstructions.

    $$\sum_D \frac{(x - \hat x)^2}{2 \gamma^2} + \frac D2 \log(2 \pi \gamma^2) + \beta\, \mathrm{KL}$$

    with `gaussian_kl`: the negative evidence lower bound of normal data with variance $\gamma^2$. For
    $\gamma = 1$ it is the usual loss. Of all variances the mean squared error of the reconstructions is the best,
    so it is not learned but measured: `balanced_mse_update` keeps track of it.

    Args:
        x: Data `(batch, …)`, $D$ numbers each.
        reconstruction: $\hat x$ of the same shape.
        mean: $\mu$ of the codes, `(batch, …)`.
        log_variance: $\log \sigma^2$ of the codes, of the shape of `mean`.
        mean_squared_error: $\gamma^2$, above 0, a number or tensor. Below 1e-10 it is 1e-10.
        kl_weight: $\beta \ge 0$, a number or tensor.

    Returns:
        One value per sample `(batch,)`, in at least float32.

    Raises:
        ValueError: If shapes differ, or a number is out of range.

    Cost: a pass over data and codes.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    x, reconstruction = np.random.random((2, 4, 8))
    mean, log_variance = np.random.random((2, 4, 2))
    kr.generative.balanced_vae_loss(x, reconstruction, mean, log_variance, mean_squared_error=0.1)  # (4,)
    ```

    Reference: Andrea Asperti and Matteo Trentin, *Balancing reconstruction error and Kullback-Leibler divergence
    in Variational Autoencoders*, IEEE Access 2020, arXiv:2002.07514. The authors' code multiplies the divergence
    by a constant of the data set, which is 1 for CIFAR-10: here `kl_weight`.
    """
    if isinstance(mean_squared_error, numbers.Real):
        check_number("mean_squared_error", mean_squared_error, above=0)
    if isinstance(kl_weight, numbers.Real):
        check_number("kl_weight", kl_weight, minimum=0)
    squares, size = squared_errors(x, reconstruction)
    divergence = ops.cast(gaussian_kl(mean, log_variance), squares.dtype)
    nll = gaussian_nll(squares, size, mean_squared_error)
    return nll + ops.cast(kl_weight, squares.dtype) * divergence


def balanced_mse_update(mean_squared_error: Any, batch_errors: Any, momentum: float = 0.99) -> Any:
    r"""The error that `balanced_vae_loss` is balanced by, after further batches.

    $$m \leftarrow \min\big(m,\; \alpha m + (1 - \alpha)\, e\big)$$

    for the mean squared error $e$ of a batch: a running mean that never rises, so that a bad batch does not make
    the loss forget what has been reached. The loss of a batch takes $m$ from before it.

    Args:
        mean_squared_error: $m$ before, a scalar.
        batch_errors: $e$ of one batch, a scalar, or of several in a row, `(batches,)`.
        momentum: $\alpha$, at least 0 and below 1.

    Returns:
        $m$ after each batch, in the shape of `batch_errors`; without gradient. An error that is NaN changes
        nothing.

    Raises:
        ValueError: If `momentum` is out of range, or `batch_errors` has another rank.

    Cost: a few operations per batch.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    kr.generative.balanced_mse_update(1.0, np.array([0.5, 2.0]))  # 0.995, 0.995
    ```

    Reference: Andrea Asperti and Matteo Trentin, *Balancing reconstruction error and Kullback-Leibler divergence
    in Variational Autoencoders*, IEEE Access 2020, arXiv:2002.07514.
    """
    momentum = check_number("momentum", momentum, minimum=0, below=1)
    errors = ops.stop_gradient(upcast(batch_errors))
    state = ops.stop_gradient(ops.cast(ops.convert_to_tensor(mean_squared_error), errors.dtype))
    if len(errors.shape) > 1 or len(state.shape):
        raise ValueError(
            "Expected a scalar `mean_squared_error`, and `batch_errors` that are a scalar or (batches,). "
            f"Received: {tuple(state.shape)} and {tuple(errors.shape)}"
        )

    def update(state, error):
        moved = momentum * state + (1.0 - momentum) * error
        return ops.where(moved < state, moved, state)

    if len(errors.shape) == 0:
        return update(state, errors)
    if errors.shape[0] == 0:
        return errors

    def step(carry, rows):
        new = update(carry[0], rows[0])
        return (new,), new

    return backend.scan(step, (state,), (errors,))


def squared_errors(x: Any, reconstruction: Any) -> tuple[Any, Any]:
    """The sum of squared errors of each sample `(batch,)`, and how many errors each has."""
    targets, predicted = align_targets(x, reconstruction)
    error = targets - predicted
    size = math.prod(ops.shape(error)[1:])
    return sum_per_sample(error * error), ops.cast(size, error.dtype)


def gaussian_nll(squares: Any, size: Any, variance: Any) -> Any:
    """Negative log-density of errors of a common variance, from the sum of their squares."""
    variance = maximum(ops.cast(variance, squares.dtype), LEAST_VARIANCE)
    return squares / (2.0 * variance) + 0.5 * size * ops.log(2.0 * math.pi * variance)


def soft_clipped_log_sigma(mean_square: Any, least: float | None) -> Any:
    r"""`½ log` of a mean square, softly above a least value."""
    log_sigma = 0.5 * ops.log(maximum(mean_square, LEAST_VARIANCE))
    return log_sigma if least is None else least + ops.softplus(log_sigma - least)


def sum_per_sample(values: Any) -> Any:
    """Sum over all axes but the first."""
    axes = tuple(range(1, len(values.shape)))
    return ops.sum(values, axis=axes) if axes else values
