"""How far a Gaussian posterior of weights is from a Gaussian prior of the best variance."""

import math
import numbers
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from keras import ops, tree

from keras_regularize.autodiff import backend
from keras_regularize.numerics import joint_sum, upcast
from keras_regularize.validation import check_integer, check_number


class WeightGroup(NamedTuple):
    """Weights with a common prior, as what its divergence depends on."""

    size: int
    squares: Any  # Σ (w - m)²
    variances: Any  # Σ σ²
    log_variances: Any  # Σ log σ²

    def prior_variance(self):
        """Where the divergence is least."""
        return (self.squares + self.variances) / self.size

    def divergence(self, prior_variance):
        plain = isinstance(prior_variance, float)
        log_variance = math.log(prior_variance) if plain else ops.log(prior_variance)
        return 0.5 * (
            (self.variances + self.squares) / prior_variance
            - self.size
            + self.size * log_variance
            - self.log_variances
        )


def weight_group(weights, log_scale, prior_mean=None):
    """`log_scale` is one number, or a list with an entry like each leaf of the weights."""
    leaves = [upcast(ops.convert_to_tensor(leaf)) for leaf in tree.flatten(weights)]
    means = [None] * len(leaves) if prior_mean is None else tree.flatten(prior_mean)
    shared = not isinstance(log_scale, (list, tuple))
    scales = [log_scale] * len(leaves) if shared else log_scale
    if not leaves or not len(leaves) == len(means) == len(scales):
        raise ValueError(
            "Expected weights, with a prior mean and a scale for each where these are structures. "
            f"Received: {len(leaves)} weights, {len(means)} means, {len(scales)} scales"
        )
    total = sum(math.prod(leaf.shape) for leaf in leaves)
    if not total:
        raise ValueError(
            f"Expected at least one weight. Received: weights of shapes {_shapes(leaves)}"
        )
    moved = [
        leaf if mean is None else leaf - ops.cast(ops.convert_to_tensor(mean), leaf.dtype)
        for leaf, mean in zip(leaves, means)
    ]
    if _shapes(moved) != _shapes(leaves):
        raise ValueError(
            "Prior means must have the shapes of the weights. Received: "
            f"{_shapes(moved)} for {_shapes(leaves)}"
        )
    squares = joint_sum([ops.sum(x * x) for x in moved])
    if shared:
        scale = ops.convert_to_tensor(log_scale, dtype=squares.dtype)
        if scale.shape != ():
            raise ValueError(
                "`posterior_scale` must be a scalar, or a list of scales in the shapes of the weights. "
                f"Received: posterior_scale of shape {tuple(scale.shape)}"
            )
        return WeightGroup(total, squares, total * ops.exp(2.0 * scale), 2.0 * total * scale)
    wide = [upcast(scale) for scale in scales]
    if _shapes(wide) != _shapes(leaves):
        raise ValueError(
            "Posterior scales must have the shapes of the weights. Received: "
            f"{_shapes(wide)} for {_shapes(leaves)}"
        )
    return WeightGroup(
        total,
        squares,
        joint_sum([ops.sum(ops.exp(2.0 * scale)) for scale in wide]),
        joint_sum([2.0 * ops.sum(scale) for scale in wide]),
    )


def _shapes(tensors):
    return [tuple(tensor.shape) for tensor in tensors]


def _log_scale(posterior_scale):
    if isinstance(posterior_scale, (list, tuple, Mapping)):
        return [
            ops.log(upcast(_above_zero("posterior_scale", scale)))
            for scale in tree.flatten(posterior_scale)
        ]
    if isinstance(posterior_scale, numbers.Real):
        # Of float64 weights no digit is to be lost.
        return math.log(check_number("posterior_scale", posterior_scale, above=0))
    return ops.log(upcast(_above_zero("posterior_scale", posterior_scale)))


def _above_zero(name, value):
    """`value` as a tensor, which must be above 0 where it can be read. NaN stays NaN."""
    value = ops.convert_to_tensor(value)
    if backend.readable(value):
        least = np.asarray(ops.convert_to_numpy(value), "float64").min(initial=np.inf)
        if least <= 0:
            raise ValueError(f"`{name}` must be above 0. Received: {name} down to {least:g}")
    return value


def least_divergence(groups):
    """The sum of divergences from priors of the best variances, and these."""
    variances = [group.prior_variance() for group in groups]
    parts = [group.divergence(variance) for group, variance in zip(groups, variances)]
    return joint_sum(parts), variances


def gaussian_prior_kl(
    weights: Any, posterior_scale: Any, prior_mean: Any = None, prior_variance: Any = None
) -> Any:
    r"""Divergence of a Gaussian posterior from a Gaussian prior with one variance.

    $$\mathrm{KL} = \frac12 \Big[\frac{\sum_d \sigma_d^2 + \|w - m\|^2}{\tau} - D + D \log \tau
      - \sum_d \log \sigma_d^2\Big]$$

    for the posterior $N(w, \sigma^2)$ and the prior $N(m, \tau I)$ of $D$ weights.

    Args:
        weights: $w$, a tensor or a list or other structure of them.
        posterior_scale: $\sigma$, above 0: a scalar, or a list of scales in the order and shapes of the weights.
        prior_mean: $m$ in the structure of the weights; `None` for 0.
        prior_variance: $\tau$, above 0; `None` for `optimal_prior_variance`, where the divergence is least.

    Returns:
        A scalar in at least float32, at least 0.

    Raises:
        ValueError: If structures or shapes do not fit, or what must be above 0 is not (where values can be read,
            that is not inside of a traced function).

    Cost: a pass over the weights.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    kr.hyper.gaussian_prior_kl([np.ones((3, 2)), np.zeros(2)], 0.1)
    ```

    Reference: Ethan Harvey, Mikhail Petrov and Michael C. Hughes, *Learning Hyperparameters via a Data-Emphasized
    Variational Objective*, 2025, arXiv:2502.01861.
    """
    group = weight_group(weights, _log_scale(posterior_scale), prior_mean)
    if prior_variance is None:
        return group.divergence(group.prior_variance())
    if isinstance(prior_variance, numbers.Real):
        return group.divergence(check_number("prior_variance", prior_variance, above=0))
    variance = ops.cast(_above_zero("prior_variance", prior_variance), group.squares.dtype)
    if variance.shape != ():
        raise ValueError(
            f"`prior_variance` must be a scalar. Received: prior_variance of shape {tuple(variance.shape)}"
        )
    return group.divergence(variance)


def optimal_prior_variance(weights: Any, posterior_scale: Any, prior_mean: Any = None) -> Any:
    r"""The variance of a Gaussian prior with the least divergence from a Gaussian posterior.

    $$\tau^* = \frac1D \Big(\|w - m\|^2 + \sum_d \sigma_d^2\Big)$$

    Args:
        weights: $w$, a tensor or a list or other structure of them.
        posterior_scale: $\sigma$, above 0: a scalar, or a list of scales in the order and shapes of the weights.
        prior_mean: $m$ in the structure of the weights; `None` for 0.

    Returns:
        A scalar in at least float32, above 0.

    Raises:
        ValueError: If structures or shapes do not fit, or what must be above 0 is not (where values can be read,
            that is not inside of a traced function).

    Cost: a pass over the weights.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    kr.hyper.optimal_prior_variance([np.ones((3, 2)), np.zeros(2)], 0.1)  # 0.76
    ```

    Reference: Ethan Harvey, Mikhail Petrov and Michael C. Hughes, *Learning Hyperparameters via a Data-Emphasized
    Variational Objective*, 2025, arXiv:2502.01861.
    """
    return weight_group(weights, _log_scale(posterior_scale), prior_mean).prior_variance()


class DataEmphasizedElbo(NamedTuple):
    """What `data_emphasized_elbo` computes.

    Attributes:
        loss: The objective.
        prior_variances: A list of the variances of the groups' priors.
    """

    loss: Any
    prior_variances: list[Any]


def data_emphasized_elbo(
    negative_log_likelihood: Any,
    groups: Sequence[Any],
    posterior_scale: Any,
    dataset_size: int,
    data_emphasis: float | None = None,
    prior_means: Sequence[Any] | None = None,
) -> DataEmphasizedElbo:
    r"""A variational objective in which the likelihood is raised to a power, with its prior variances solved for.

    $$\frac1N \mathbb E[-\log p(y \mid w)] + \frac{1}{\kappa N} \sum_g \mathrm{KL}_g$$

    with `gaussian_prior_kl` of each group at `optimal_prior_variance`. With $\kappa = 1$ it is the evidence lower
    bound, in which the prior of a large network outweighs the data; $\kappa = D / N$ gives each of $D$ weights the
    weight of a sample.

    Args:
        negative_log_likelihood: Mean over the samples at weights drawn from the posterior, a scalar.
        groups: A list of groups of weights, each a tensor or a structure of them.
        posterior_scale: $\sigma$, above 0: a scalar for all groups.
        dataset_size: $N$, at least 1.
        data_emphasis: $\kappa$, above 0; `None` for $D / N$.
        prior_means: The prior mean of each group in its structure, or `None` for 0; `None` for 0 everywhere.

    Returns:
        A named tuple of the `loss` and a list of `prior_variances`.

    Raises:
        ValueError: If a number is out of range (that of a tensor where it can be read), or structures or shapes do
            not fit.

    Cost: a pass over the weights.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    kr.hyper.data_emphasized_elbo(0.7, [np.ones((3, 2)), np.zeros(2)], 0.1, dataset_size=40).loss
    ```

    Reference: Ethan Harvey, Mikhail Petrov and Michael C. Hughes, *Learning Hyperparameters via a Data-Emphasized
    Variational Objective*, 2025, arXiv:2502.01861.
    """
    check_integer("dataset_size", dataset_size, minimum=1)
    check_number("data_emphasis", data_emphasis, above=0, optional=True)
    if not isinstance(groups, (list, tuple)) or not groups:
        raise ValueError(
            "`groups` must be a list of at least one group of weights. "
            f"Received: {len(groups)} in a {type(groups).__name__}"
        )
    means = [None] * len(groups) if prior_means is None else list(prior_means)
    if len(means) != len(groups):
        raise ValueError(
            f"`prior_means` must have an entry for each of {len(groups)} groups. Received: {len(means)}"
        )
    scale = _log_scale(posterior_scale)
    if isinstance(scale, list):
        raise ValueError(
            "`posterior_scale` must be a scalar for all groups. "
            f"Received: {type(posterior_scale).__name__}"
        )
    loss = upcast(ops.convert_to_tensor(negative_log_likelihood))
    if loss.shape != ():
        raise ValueError(
            "`negative_log_likelihood` must be a scalar, the mean over the samples. "
            f"Received: shape {tuple(loss.shape)}"
        )
    found = [weight_group(group, scale, mean) for group, mean in zip(groups, means)]
    divergence, variances = least_divergence(found)
    emphasis = sum(group.size for group in found) / dataset_size
    emphasis = emphasis if data_emphasis is None else data_emphasis
    return DataEmphasizedElbo(joint_sum([loss, divergence / (emphasis * dataset_size)]), variances)
