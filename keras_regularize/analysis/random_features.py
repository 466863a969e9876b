"""Ridge regression on the features of deep networks whose hidden layers stay as they were drawn."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from keras_regularize.validation import check_integer, check_number

#: Where activations of a standard normal variable are looked at. The rule of trapezoids is exact to rounding for
#: smooth ones, and to 1e-7 for those with kinks; none is at 0, where some jump.
_NODES = np.linspace(-10.0, 10.0, 40_000)
_SHARES = np.exp(-0.5 * _NODES**2) / np.sum(np.exp(-0.5 * _NODES**2))


class ActivationCoefficients(NamedTuple):
    """What `activation_coefficients` computes.

    Attributes:
        mean: Mean of the activation.
        kappa_1: Its linear part.
        kappa_star: The deviation of what is not linear.
        second_moment: Mean of its square.
    """

    mean: float
    kappa_1: float
    kappa_star: float
    second_moment: float


class RandomFeaturesError(NamedTuple):
    """What `deep_random_features_error` and `ridge_test_error` compute.

    Attributes:
        effective_ridge: The ridge at which the regression on infinitely many samples has the same bias.
        degrees_of_freedom: How many directions are fitted, at most the number of samples and of features.
        test_error: Mean squared error on new data, noise included.
    """

    effective_ridge: float
    degrees_of_freedom: float
    test_error: float


def activation_coefficients(
    activation: str | Callable, variance: float = 1.0
) -> ActivationCoefficients:
    r"""Linear part and remainder of an activation of normal values.

    For $z \sim N(0, r)$

    $$\kappa_1 = \frac{\mathbb{E}[z\, \sigma(z)]}{r}, \qquad
      \kappa_*^2 = \operatorname{Var} \sigma(z) - r \kappa_1^2 :$$

    for what a wide layer with random weights does to second moments, $\sigma(z)$ is $\kappa_1 z$ and noise of
    deviation $\kappa_*$ beside its mean.

    Args:
        activation: A name, `"erf"`, `"sign"` or one of Keras, or an elementwise function of a tensor.
        variance: $r > 0$.

    Returns:
        A named tuple of floats: `mean`, `kappa_1`, `kappa_star` and `second_moment`, $\mathbb{E}[\sigma(z)^2]$.

    Raises:
        ValueError: If the variance is not positive or the activation is not finite.

    Cost: the activation of forty thousand numbers.

    Example:

    ```python
    import keras_regularize as kr

    kr.analysis.activation_coefficients("tanh").kappa_1  # 0.6057
    ```

    Reference: Dominik Schröder, Hugo Cui, Daniil Dmitriev and Bruno Loureiro, *Deterministic Equivalent and Error
    Universality of Deep Random Features Learning*, ICML 2023, arXiv:2302.00401.
    """
    check_number("variance", variance, above=0)
    z = math.sqrt(variance) * _NODES
    values = _activated(activation, z)
    if not np.isfinite(values).all():
        raise ValueError(f"`activation` must be finite. Received: activation={activation!r}")
    mean = float(_SHARES @ values)
    second = float(_SHARES @ values**2)
    kappa_1 = float(_SHARES @ (z * values)) / variance
    # What is left of a linear activation is the rounding of backends in float32.
    rest = second - mean**2 - variance * kappa_1**2
    return ActivationCoefficients(
        mean, kappa_1, math.sqrt(rest) if rest > 1e-6 * second else 0.0, second
    )


def linearized_feature_covariance(
    weights: Sequence[Any], activations: Sequence[str | Callable], input_covariance: Any = None
) -> np.ndarray:
    r"""The covariance of the features of a network with random weights.

    For hidden layers $h_l = \sigma_l(W_l^\top h_{l-1} / \sqrt{k_{l-1}})$ with standard normal entries of $W_l$
    of shape $(k_{l-1}, k_l)$, centred normal inputs and odd activations,

    $$\Omega_l = \frac{\kappa_1^2}{k_{l-1}}\, W_l^\top \Omega_{l-1} W_l + \kappa_*^2 I,$$

    nearly, for large layers, with the coefficients of `kr.analysis.activation_coefficients` at the variance of
    what goes into the activation.

    Args:
        weights: Kernels $W_l$, first layer first. Those of Keras' layers are scaled: multiply them by
            $\sqrt{k_{l-1}}$.
        activations: An activation for each, as `kr.analysis.activation_coefficients` takes it.
        input_covariance: Covariance of the inputs; `None` for the identity.

    Returns:
        A float64 array, `(features, features)`.

    Raises:
        ValueError: If shapes do not fit, `input_covariance` is not symmetric and positive semidefinite, or an
            activation is not odd.

    Cost: products of matrices.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    kernels = [np.random.normal(size=(30, 40)), np.random.normal(size=(40, 20))]
    covariance = kr.analysis.linearized_feature_covariance(kernels, ["tanh", "erf"])
    ```

    Reference: Dominik Schröder, Hugo Cui, Daniil Dmitriev and Bruno Loureiro, *Deterministic Equivalent and Error
    Universality of Deep Random Features Learning*, ICML 2023, arXiv:2302.00401.
    """
    kernels = [np.asarray(ops.convert_to_numpy(kernel), "float64") for kernel in weights]
    shapes = [kernel.shape for kernel in kernels]
    if (
        not kernels
        or len(kernels) != len(activations)
        or any(len(shape) != 2 for shape in shapes)
        or any(before[1] != after[0] for before, after in zip(shapes, shapes[1:]))
    ):
        raise ValueError(
            "`weights` must be a chain of matrices, and `activations` as many. Received: shapes "
            f"{shapes} and {len(activations)} activations"
        )
    inputs = shapes[0][0]
    covariance = np.eye(inputs) if input_covariance is None else input_covariance
    covariance = np.asarray(covariance, "float64")
    if covariance.shape != (inputs, inputs):
        raise ValueError(
            f"`input_covariance` must have shape {(inputs, inputs)}. Received: shape {covariance.shape}"
        )
    _check_covariance("input_covariance", covariance)
    variance = float(np.trace(covariance)) / inputs
    for kernel, activation in zip(kernels, activations):
        found = _odd(activation, variance)
        covariance = found.kappa_1**2 / len(kernel) * (kernel.T @ covariance @ kernel)
        covariance += found.kappa_star**2 * np.eye(len(covariance))
        variance = found.second_moment
    return covariance


def ridge_test_error(
    covariance: Any,
    target: Any,
    samples: int,
    ridge: float,
    noise_variance: float = 0.0,
    cross_covariance: Any = None,
    target_covariance: Any = None,
) -> RandomFeaturesError:
    r"""The test error of ridge regression on features of a known covariance, without drawing any.

    For ridge regression $(X^\top X + n \lambda I)^{-1} X^\top y$ on features of covariance $\Omega$, and targets
    $y = \langle t, x \rangle$ with noise, the effective ridge $\kappa$ and degrees of freedom are

    $$\kappa\,\big(1 - \mathrm{df}_1 / n\big) = \lambda, \qquad
      \mathrm{df}_m = \operatorname{tr}\, \Omega^m (\Omega + \kappa)^{-m}, \qquad
      \text{error} = \frac{\kappa^2\, t^\top \Omega\, (\Omega + \kappa)^{-2} t + \sigma^2}{1 - \mathrm{df}_2 /
      n}.$$

    A target that is no function of the features, but $\langle \theta, z \rangle$ of features $z$ of another
    network, is what is linear in them, $t = \Omega^{-1} \Phi\, \theta$, and noise of the variance
    $\theta^\top \Psi\, \theta - t^\top \Omega\, t$, with $\Phi = \mathbb E\, x z^\top$ and $\Psi = \mathbb E\, z
    z^\top$: exact for normal features, and nearly so for those of wide networks
    (`kr.analysis.linearized_feature_covariance`).

    Args:
        covariance: $\Omega$, `(features, features)`.
        target: $t$ `(features,)`; $\theta$ `(others,)` with the two covariances below.
        samples: Number $n$ of training samples.
        ridge: $\lambda \ge 0$, which is multiplied by $n$. 0 is the limit of small ones.
        noise_variance: $\sigma^2 \ge 0$.
        cross_covariance: $\Phi$ `(features, others)`.
        target_covariance: $\Psi$ `(others, others)`.

    Returns:
        A named tuple of floats: `effective_ridge`, `degrees_of_freedom` ($\mathrm{df}_1$) and `test_error`.

    Raises:
        ValueError: If a number is out of range, shapes do not fit, only one of the two covariances is given, or
            the covariances are not symmetric and positive semidefinite, on their own and together.

    Cost: an eigendecomposition.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    for samples in (20, 40, 80):  # The peak is at as many samples as features.
        result = kr.analysis.ridge_test_error(np.eye(40), np.ones(40) / 40**0.5, samples, 1e-3, 0.1)
        print(result.test_error)
    ```

    Reference: Dominik Schröder, Hugo Cui, Daniil Dmitriev and Bruno Loureiro, *Deterministic Equivalent and Error
    Universality of Deep Random Features Learning*, ICML 2023, arXiv:2302.00401.
    """
    check_integer("samples", samples, minimum=1)
    check_number("ridge", ridge, minimum=0)
    check_number("noise_variance", noise_variance, minimum=0)
    omega, t = (np.asarray(array, "float64") for array in (covariance, target))
    if (cross_covariance is None) != (target_covariance is None):
        raise ValueError(
            "`cross_covariance` and `target_covariance` belong together. Received one."
        )
    several = cross_covariance is not None
    phi, psi = (
        np.asarray(array, "float64") if several else omega
        for array in (cross_covariance, target_covariance)
    )
    if not (
        t.ndim == 1
        and omega.ndim == 2
        and omega.shape == 2 * omega.shape[:1]
        and phi.shape == (len(omega), len(t))
        and psi.shape == 2 * t.shape
    ):
        raise ValueError(
            "Expected `covariance` (features, features) and `target` (features,), or `target` (others,), "
            "`cross_covariance` (features, others) and `target_covariance` (others, others). Received shapes "
            f"{omega.shape}, {t.shape}, {phi.shape} and {psi.shape}"
        )
    values, vectors = _check_covariance("covariance", omega)
    largest = values[-1]
    if several:
        seen = values > 1e-12 * largest
        along = np.where(seen, vectors.T @ phi @ t / np.where(seen, values, 1.0), 0.0)
        energy, explained = t @ psi @ t, values @ along**2
        rest = energy - explained
        if not np.allclose(psi, psi.T) or rest < -1e-4 * explained:
            raise ValueError(
                "`target_covariance` must be symmetric, and at least what `cross_covariance` explains of it. "
                f"Received: a target of variance {energy:.3g}, of which {explained:.3g} would be explained"
            )
        noise_variance = noise_variance + max(rest, 0.0)
    else:
        along = vectors.T @ t
    ridge = max(ridge, 1e-12 * largest)

    def excess(kappa):
        share = values / (values + kappa)
        left = 1 - share.sum() / samples
        return kappa * left - ridge, left + (share * (1 - share)).sum() / samples

    kappa = _root(excess, ridge, ridge + values.sum() / samples)
    share = values / (values + kappa)
    bias = ((1 - share) ** 2 * values) @ along**2
    left = 1 - (share**2).sum() / samples
    return RandomFeaturesError(kappa, share.sum(), (bias + noise_variance) / left)


def deep_random_features_error(
    widths: Sequence[int],
    activations: Sequence[str | Callable],
    samples: int,
    ridge: float,
    noise_variance: float = 0.0,
    input_variance: float = 1.0,
) -> RandomFeaturesError:
    r"""The test error of a network of which only the last layer is trained, without drawing any.

    Ridge regression $(X^\top X + n \lambda I)^{-1} X^\top y$ on the features of
    `kr.analysis.linearized_feature_covariance`, for a target that is a normal combination $t \sim N(0, I /
    k_L)$ of the features, and noise. With $\Omega$ their covariance, the effective ridge $\kappa$ and degrees
    of freedom are

    $$\kappa\,\big(1 - \mathrm{df}_1 / n\big) = \lambda, \qquad
      \mathrm{df}_m = \operatorname{tr}\, \Omega^m (\Omega + \kappa)^{-m}, \qquad
      \text{error} = \frac{\kappa^2\, t^\top \Omega\, (\Omega + \kappa)^{-2} t + \sigma^2}{1 - \mathrm{df}_2 /
      n}.$$

    Traces are those of layers of large widths, where they no longer depend on the weights. Without a ridge the
    error has a peak where there are as many samples as features.

    Args:
        widths: Numbers of inputs and of units of each hidden layer, $k_0, \dots, k_L$.
        activations: Of the hidden layers, odd, as `kr.analysis.activation_coefficients` takes them.
        samples: Number $n$ of training samples.
        ridge: $\lambda \ge 0$; weights have variance 1 and the ridge is multiplied by $n$, unlike in some papers.
            0 is the limit of small ones.
        noise_variance: $\sigma^2 \ge 0$ of the noise of targets.
        input_variance: Variance of the inputs, positive.

    Returns:
        A named tuple of floats: `effective_ridge`, `degrees_of_freedom` ($\mathrm{df}_1$) and `test_error`.

    Raises:
        ValueError: If a number is out of range, or an activation is not odd.

    Cost: roots of scalar equations, one in another for each layer; milliseconds for a few layers.

    Example:

    ```python
    import keras_regularize as kr

    result = kr.analysis.deep_random_features_error([100, 60], ["tanh"], samples=40, ridge=0.01)
    print(result.test_error)
    ```

    Reference: Dominik Schröder, Hugo Cui, Daniil Dmitriev and Bruno Loureiro, *Deterministic Equivalent and Error
    Universality of Deep Random Features Learning*, ICML 2023, arXiv:2302.00401.
    """
    widths = [check_integer("widths", width, minimum=1) for width in widths]
    if len(widths) < 2 or len(activations) != len(widths) - 1:
        raise ValueError(
            "`widths` must be those of the inputs and of each hidden layer, and `activations` one for each hidden "
            f"layer. Received: {len(widths)} widths and {len(activations)} activations"
        )
    check_integer("samples", samples, minimum=1)
    check_number("ridge", ridge, minimum=0)
    check_number("noise_variance", noise_variance, minimum=0)
    variance = check_number("input_variance", input_variance, above=0)
    layers = []
    for before, width, activation in zip(widths, widths[1:], activations):
        found = _odd(activation, variance)
        layers.append((width / before, found.kappa_1**2, found.kappa_star**2, variance))
        variance = found.second_moment
    ridge = max(ridge, 1e-12 * variance)
    features = widths[-1]

    def excess(kappa):
        share, slope = _share(kappa, layers, input_variance)
        value = kappa * (1 - features * share / samples) - ridge
        return value, 1 - features * (share + kappa * slope) / samples

    kappa = _root(excess, ridge, ridge + features * variance / samples)
    share, slope = _share(kappa, layers, input_variance)
    left = 1 - features * (share + kappa * slope) / samples
    return RandomFeaturesError(kappa, features * share, (noise_variance - kappa**2 * slope) / left)


def _share(kappa, layers, input_variance):
    """Mean over features of `ω / (ω + κ)` with the eigenvalues of the covariance, and its derivative in `κ`."""
    if not layers:
        share = input_variance / (input_variance + kappa)
        return share, -share / (input_variance + kappa)
    *before, (growth, linear, rest, variance) = layers
    if linear == 0:
        share = rest / (rest + kappa)
        return share, -share / (rest + kappa)
    least = (kappa + rest) / linear

    def inner(s):
        u = 1 / (growth * s)
        share, slope = _share(u, before, input_variance)
        return u, u * share, share + u * slope

    def equation(s):
        u, h, h_slope = inner(s)
        return s * (least + h) - 1, least + h - u * h_slope

    s = _root(equation, 1 / (least + variance), 1 / least)
    u, h, h_slope = inner(s)
    s_slope = -s / linear / (least + h - u * h_slope)
    share = s * (rest / linear + h)
    return share, s_slope * (rest / linear + h) - h_slope * u * s_slope


def _root(fn, low, high):
    """The root of an increasing function between two numbers, by Newton's steps within a bracket."""
    x = high
    for _ in range(200):
        value, slope = fn(x)
        low, high = (low, x) if value > 0 else (x, high)
        step = x - value / slope if slope > 0 else low
        if not low < step < high:
            step = (low + high) / 2
        if abs(step - x) <= 1e-14 * x:
            return step
        x = step
    return x


def _check_covariance(name, matrix):
    """Its eigenvalues, at least 0 and in rising order, and eigenvectors."""
    finite = np.isfinite(matrix).all()
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2) if finite else ([np.nan], None)
    largest = max(values[-1], 0.0)
    if (
        not finite
        or not np.allclose(matrix, matrix.T)
        or values[0] < -1e-6 * largest
        or not largest
    ):
        raise ValueError(
            f"`{name}` must be symmetric and positive semidefinite, and not 0. Received: eigenvalues from "
            f"{values[0]:.3g} to {values[-1]:.3g}"
        )
    return np.maximum(values, 0.0), vectors


def _odd(activation, variance):
    found = activation_coefficients(activation, variance)
    if abs(found.mean) > 1e-3 * math.sqrt(found.second_moment):
        raise ValueError(
            "Activations must be odd, so that features have mean 0. Received: "
            f"{activation!r}, of mean {found.mean:.3g}"
        )
    return found


def _activated(activation, z):
    if isinstance(activation, str) and activation == "sign":
        return np.sign(z)
    if isinstance(activation, str) and activation == "erf":
        return np.array([math.erf(value) for value in z])
    values = keras.activations.get(activation)(ops.convert_to_tensor(z))
    return np.asarray(ops.convert_to_numpy(values), "float64")
