"""The bound by which a classifier and the imputation of its missing inputs are trained together."""

from typing import Any

from keras import ops

from keras_regularize.numerics import joint_sum, upcast


def supnotmiwae_loss(
    log_p_y: Any,
    log_p_mask: Any,
    log_p_x: Any,
    log_p_z: Any,
    log_q_z: Any,
    log_p_dropout: Any = 0.0,
) -> Any:
    r"""Negative bound on the log-likelihood of labels, observed inputs and what is observed of them.

    For data of which some values are missing, $K$ latent codes $z_k$ are drawn from an encoder $q(z \mid x)$, the
    missing values are imputed from each, and a classifier and a model of the mask see the completed inputs $x'_k$:

    $$-\ln \frac1K \sum_{k=1}^{K} \exp\!\Big( \ln p(y \mid x'_k) + \ln p(m \mid x'_k) + \ln p(x \mid z_k)
      + \ln p(z_k) - \ln q(z_k \mid x) + \ln p(b_k) \Big).$$

    Its expectation is an upper bound of the negative log-likelihood and falls with $K$. Mean over the samples, it
    is what a `compute_loss` returns. Without `kr.layers.ObservationDropout`, whose log-probability is the last
    term, the classifier may look at observed values alone, and the imputed ones carry nothing.

    To predict, weigh the classifier's probabilities for the $K$ codes by the softmax over $k$ of
    `log_p_x + log_p_z - log_q_z`.

    Args:
        log_p_y: Log-probability of the label, `(latents, batch)`, or with more axes, such as
            `(latents, imputations, batch)` for several imputations from each code.
        log_p_mask: Log-probability of the mask, summed over its entries.
        log_p_x: Log-density of the observed values, summed over them.
        log_p_z: Log-density of the codes under their prior.
        log_q_z: Log-density of the codes under the encoder.
        log_p_dropout: Log-probability of what observation dropout has drawn; 0 without.

    All are of one shape, but that axes behind the first may be of size 1 where a term is the same for all.

    Returns:
        Values of that shape without the first axis, such as `(batch,)`: one per sample, and imputation.

    Raises:
        ValueError: If the shapes do not fit, or there is no latent code.

    Cost: six numbers per latent code and sample.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    log_p_y, log_p_mask, log_p_x, log_p_z, log_q_z = np.random.normal(size=(5, 10, 4))
    loss = kr.generative.supnotmiwae_loss(log_p_y, log_p_mask, log_p_x, log_p_z, log_q_z)  # (4,)
    ```

    Reference: SeungHyun Kim, Hyunsu Kim, EungGu Yun, Hwangrae Lee, Jaehun Lee and Juho Lee, *Probabilistic
    Imputation for Time-series Classification with Missing Data*, ICML 2023, arXiv:2308.06738.
    """
    terms = {
        "log_p_y": upcast(log_p_y),
        "log_p_mask": upcast(log_p_mask),
        "log_p_x": upcast(log_p_x),
        "log_p_z": upcast(log_p_z),
        "log_q_z": -upcast(log_q_z),
        "log_p_dropout": upcast(log_p_dropout),
    }
    _check_shapes({name: tuple(term.shape) for name, term in terms.items()})
    joint = joint_sum(list(terms.values()))
    return ops.log(ops.cast(ops.shape(joint)[0], joint.dtype)) - ops.logsumexp(joint, axis=0)


def _check_shapes(shapes):
    """All but a scalar for the dropout have the rank, latents and, up to size 1, axes of the others."""
    tensors = [shape for name, shape in shapes.items() if name != "log_p_dropout" or shape]
    ranks = {len(shape) for shape in tensors}
    sizes = [{size for size in axis if size is not None} for axis in zip(*tensors)]
    fits = len(ranks) == 1 and sizes and len(sizes[0]) <= 1 and 0 not in sizes[0]
    if not fits or any(len(axis - {1}) > 1 for axis in sizes[1:]):
        raise ValueError(
            "Expected log-probabilities of the shape (latents, …, batch), all of one rank, with at least one "
            f"latent, and other axes of equal size or 1. Received shapes: {shapes}"
        )
