"""The loss by which several autoencoders share a data set."""

from typing import Any

from keras import ops

from keras_regularize.numerics import maximum, upcast
from keras_regularize.validation import compatible


def mixture_vae_loss(negative_elbos: Any, log_weights: Any) -> Any:
    r"""Loss of a mixture of variational autoencoders, each of which takes the samples that it explains best.

    With the negative evidence lower bounds $\ell_k$ of $K$ autoencoders and their weights $\alpha_k$

    $$\sum_k w_k\, (\ell_k - \log \alpha_k), \qquad
      w = \operatorname{softmax}_k\big(-(\ell_k - \log \alpha_k)\big).$$

    The gradient flows through the responsibilities $w$ too. The value is at least that of the best autoencoder,
    and near it where the others are far off; with one it is $\ell_1$.

    Args:
        negative_elbos: $\ell$, `(batch, charts)`.
        log_weights: $\log \alpha$, `(charts,)`.

    Returns:
        One value per sample `(batch,)`, in at least float32.

    Raises:
        ValueError: If the shapes do not fit.

    Cost: a softmax per sample.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    kr.generative.mixture_vae_loss(np.array([[1.0, 20.0], [30.0, 2.0]]), np.log([0.5, 0.5]))  # 1.69, 2.69
    ```

    Reference: Giovanni S. Alberti, Johannes Hertrich, Matteo Santacesaria and Silvia Sciutto, *Manifold Learning
    by Mixture Models of VAEs for Inverse Problems*, JMLR 2024, arXiv:2303.15244; after the authors' code.
    """
    losses = weighted_elbos(negative_elbos, log_weights)
    return ops.sum(shares(losses) * losses, axis=-1)


def shares(losses: Any) -> Any:
    """The softmax of `-losses` over the last axis, which may be one of a single chart: Keras warns of that."""
    return ops.exp(-losses - ops.logsumexp(-losses, axis=-1, keepdims=True))


def weighted_elbos(negative_elbos: Any, log_weights: Any) -> Any:
    """`ℓ - log α`, `(batch, charts)`."""
    losses = upcast(negative_elbos)
    log_weights = ops.cast(upcast(log_weights), losses.dtype)
    shapes = tuple(losses.shape), tuple(log_weights.shape)
    if len(shapes[0]) != 2 or not compatible(shapes[1], shapes[0][1:]):
        raise ValueError(
            "Expected negative bounds (batch, charts) and log-weights (charts,). Received: "
            f"negative_elbos.shape={shapes[0]}, log_weights.shape={shapes[1]}"
        )
    return losses - maximum(log_weights, -1e30)  # A weight of 0.
