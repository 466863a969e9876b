"""Norms of input gradients, and the generalization bound they enter."""

import math
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops, tree

from keras_regularize import autodiff
from keras_regularize.attacks.points import Point
from keras_regularize.autodiff import backend
from keras_regularize.autodiff.compiled_losses import sample_losses
from keras_regularize.utils.variables import weight_like
from keras_regularize.validation import check_integer, check_number


class InputGradientNorm(NamedTuple):
    """What `input_gradient_norm` measures.

    Attributes:
        mean_squared_gradient: Mean over samples of the squared length of the loss' gradient in the input.
        mean_loss: Mean loss over the same samples and weights.
    """

    mean_squared_gradient: float
    mean_loss: float


def input_gradient_norm(
    model: keras.Model,
    x: Any,
    y: Any,
    loss: Any = None,
    weight_noise: float = 0.0,
    samples: int = 1,
    batch_size: int = 128,
    seed: int | None = None,
) -> InputGradientNorm:
    r"""How strongly a model's loss reacts to its inputs: the mean squared norm of the input gradient.

    $$g = \mathbb{E}_{w' \sim N(w, s^2 I)}\; \frac1n \sum_i \big\|\nabla_x \ell(w'; x_i, y_i)\big\|_2^2$$

    together with the mean of $\ell$ over the same samples and weights. The norm is over all floating inputs of
    a sample. The model runs in inference mode, so that samples do not mix, and compiled like `model.predict`;
    it is not changed. `kr.models.InputGradientPenalty` trains with $g$ as a penalty.

    Args:
        model: A model, or a wrapper of one.
        x: Inputs as arrays, in any nested structure the model takes.
        y: Labels as the loss takes them.
        loss: The loss: a name, function or `keras.losses.Loss` that gives a value per sample; by default the
            compiled one.
        weight_noise: Deviation $s$ of Gaussian noise on all trainable weights, at least 0.
        samples: Number of noise draws to average over, at least 1; of no use without noise.
        batch_size: Number of samples at once, at least 1.
        seed: Seed of the noise.

    Returns:
        A named tuple of two floats, `mean_squared_gradient` and `mean_loss`.

    Raises:
        ValueError: If an argument is out of range, there is no loss, no sample, or no input is floating.

    Cost: per draw one forward pass and one backward pass to the inputs.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    x = np.random.default_rng(0).random((20, 4))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    result = kr.analysis.input_gradient_norm(model, x, np.arange(20) % 3, loss)
    print(result.mean_squared_gradient, result.mean_loss)
    ```

    Reference: Gat, Adi, Schwing and Hazan, *On the Importance of Gradient Norm in PAC-Bayesian Bounds*,
    NeurIPS 2022, arXiv:2210.06143.
    """
    check_number("weight_noise", weight_noise, minimum=0)
    check_integer("samples", samples, minimum=1)
    check_integer("batch_size", batch_size, minimum=1)
    x, y = tree.map_structure(np.asarray, (x, y))
    size = len(tree.flatten(y)[0])
    if size == 0:
        raise ValueError("`x` and `y` must have at least one sample. Received none.")
    if loss is None:
        loss = getattr(model, "loss", None)
    if size > batch_size and size % batch_size:
        # Rows again up to whole batches: a last, smaller one would be compiled anew.
        rows = np.arange(-(-size // batch_size) * batch_size) % size
        x, y = tree.map_structure(lambda leaf: leaf[rows], (x, y))
    if not model.built:
        model(tree.map_structure(lambda leaf: leaf[:1], x))
    measured = _Measured(model, loss)
    random = np.random.default_rng(seed)
    totals = []
    for _ in range(samples if weight_noise > 0 else 1):
        if weight_noise > 0:
            for noise in measured.noise:
                noise.assign(weight_noise * random.standard_normal(noise.shape))
        with backend.keep_weights_on_error(measured):
            values = measured.predict({"x": x, "y": y}, batch_size=batch_size, verbose=0)
        totals.append(np.mean(np.asarray(values[:size], "float64"), axis=0))
    return InputGradientNorm(*map(float, np.mean(totals, axis=0)))


class _Measured(keras.Model):
    """Maps `{"x": …, "y": …}` to `(squared gradient norm, loss)` per sample, at weights moved by `noise`."""

    def __init__(self, model, loss):
        super().__init__(name="input_gradient_norm", autocast=False)
        self.model = model
        self.measured_loss = loss
        self.noise = [
            weight_like(self, v, trainable=False, name=f"noise_{i}")
            for i, v in enumerate(model.trainable_variables)
        ]
        modes = ("run_eagerly", "jit_compile") if model.compiled else ()
        self.compile(**{mode: getattr(model, mode) for mode in modes})
        self.build(None)

    def build(self, input_shape):
        """Nothing to create; without it Keras would call the model once eagerly."""

    def call(self, inputs):
        variables = self.model.trainable_variables
        weights = [v + ops.cast(n, v.dtype) for v, n in zip(variables, self.noise)]
        point = Point(autodiff.Forward(self.model, weights), inputs["x"])

        def total(leaves):
            losses = sample_losses(self.measured_loss, inputs["y"], point.outputs(leaves))
            return ops.sum(losses), losses

        gradients, losses = autodiff.grad(total, has_aux=True)(point.start)
        axes = [tuple(range(1, len(g.shape))) for g in gradients]
        squares = sum(ops.sum(g * g, axis=a) if a else g * g for g, a in zip(gradients, axes))
        return ops.stack([ops.cast(squares, losses.dtype), losses], axis=-1)


def gradient_norm_bound(
    empirical_loss: Any,
    kl_divergence: Any,
    num_samples: int,
    temperature: Any,
    mean_loss: Any = None,
    mean_squared_gradient: Any = None,
    delta: float = 0.05,
    prior_draws: tuple[Any, Any] | None = None,
) -> Any:
    r"""A bound on the expected loss of a randomized model that grows with the norm of its input gradients.

    With probability $1 - \delta$ over $m$ training samples,

    $$\mathbb{E}_{q} L \le \mathbb{E}_{q} \hat L + \frac{KL(q \| p) + \log(1/\delta)}{\lambda}
    + g\,\frac{e^{\lambda b/m} - 1}{2 b}$$

    for a prior $p$ and a posterior $q$ over weights, if the loss is not negative, the data's law satisfies a
    log-Sobolev inequality of constant 1 (a standard Gaussian does), and for every $w$ in the prior's support the
    loss has mean at most $b$ over the data and the squared input gradient mean at most $g$. For $b \to 0$ the last
    term is $g \lambda/(2m)$. Averages of both over draws of $w$ are not enough. With `prior_draws` of them,
    $(b_w, g_w)$, the last term is instead

    $$\frac1\lambda \log \mathbb{E}_{w \sim p} \exp\Big(\lambda\, g_w \frac{e^{\lambda b_w/m} - 1}{2 b_w}\Big),$$

    with the mean over the draws, which estimates the expectation; it is at least the term of the averages.

    Measure $b_w$ and $g_w$ by `input_gradient_norm` at draws from the prior, on data the training did not see.
    Estimated on training data, or under the posterior, the number tells models apart but certifies nothing. For a
    posterior $N(w, s^2 I)$ and a prior $N(w_0, s_0^2 I)$ over $d$ weights,
    $KL(q\|p) = \frac12\big(d\,s^2/s_0^2 + \|w - w_0\|^2/s_0^2 - d + 2 d \log(s_0/s)\big)$.

    Args:
        empirical_loss: Mean training loss under the posterior, $\mathbb{E}_q \hat L$.
        kl_divergence: Divergence of the posterior from the prior, at least 0.
        num_samples: Number $m$ of training samples, at least 1.
        temperature: $\lambda$, above 0; between $\sqrt m$ and $m$ as a rule.
        mean_loss: $b$, at least 0, for every weight in the prior's support.
        mean_squared_gradient: $g$, at least 0, for every weight in the prior's support.
        delta: Probability that the bound fails, above 0 and at most 1.
        prior_draws: `(mean_losses, mean_squared_gradients)`, two vectors of $b_w$ and $g_w$ at draws of $w$ from
            the prior, in the place of `mean_loss` and `mean_squared_gradient`.

    Returns:
        A float, or an array where arguments are arrays (a sweep over temperatures, say). Infinite where the
        exponential overflows.

    Raises:
        ValueError: If an argument is out of range, or neither or both of the bounds and the draws are given.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    temperatures = np.array([100.0, 300.0, 1000.0])
    bounds = kr.analysis.gradient_norm_bound(0.35, 120.0, 1000, temperatures, 0.5, 0.8)
    print(bounds.min())
    draws = np.array([0.4, 0.5, 0.45]), np.array([0.7, 0.8, 0.6])  # At three draws from the prior.
    print(kr.analysis.gradient_norm_bound(0.35, 120.0, 1000, 300.0, prior_draws=draws))
    ```

    Reference: Gat, Adi, Schwing and Hazan, *On the Importance of Gradient Norm in PAC-Bayesian Bounds*,
    NeurIPS 2022, arXiv:2210.06143. The constants here are derived from Herbst's argument and may differ from
    those of the paper's theorem.
    """
    check_integer("num_samples", num_samples, minimum=1)
    check_number("delta", delta, above=0, maximum=1)
    bounds = {"mean_loss": mean_loss, "mean_squared_gradient": mean_squared_gradient}
    missing = [name for name, value in bounds.items() if value is None]
    if len(missing) != (0 if prior_draws is None else 2):
        raise ValueError(
            "Either `mean_loss` and `mean_squared_gradient` or `prior_draws` must be given. Received: "
            + ", ".join(
                f"{name}={value!r}"
                for name, value in (*bounds.items(), ("prior_draws", prior_draws))
            )
        )
    if prior_draws is not None:
        bounds = dict(zip(bounds, prior_draws, strict=True))
    named = {
        "empirical_loss": empirical_loss,
        "kl_divergence": kl_divergence,
        "temperature": temperature,
        **bounds,
    }
    for name, value in named.items():
        if np.asarray(value).dtype.kind not in "iuf":
            raise ValueError(f"`{name}` must be a number or numbers. Received: {name}={value!r}")
    named = {name: np.asarray(value, "float64") for name, value in named.items()}
    for name, value in named.items():
        least = value > 0 if name == "temperature" else value >= 0
        if not np.all(least):
            kind = "positive" if name == "temperature" else "at least 0"
            raise ValueError(f"`{name}` must be {kind}. Received: {name}={value}")
    loss, divergence, temperature, mean_loss, gradient = named.values()
    if prior_draws is None:
        noise = _noise_term(temperature, num_samples, mean_loss, gradient)
    else:
        if mean_loss.ndim != 1 or mean_loss.shape != gradient.shape or mean_loss.size == 0:
            raise ValueError(
                "`prior_draws` must be two vectors of one length, at least 1. Received shapes "
                f"{mean_loss.shape} and {gradient.shape}"
            )
        exponents = temperature[..., None] * _noise_term(
            temperature[..., None], num_samples, mean_loss, gradient
        )
        largest = np.max(exponents, axis=-1, keepdims=True)
        shift = np.where(np.isfinite(largest), largest, 0.0)
        with np.errstate(over="ignore"):
            mean = np.mean(np.exp(exponents - shift), axis=-1)
        noise = (shift[..., 0] + np.log(mean)) / temperature
    bound = loss + (divergence - math.log(delta)) / temperature + noise
    return float(bound) if bound.ndim == 0 else bound


def _noise_term(temperature, num_samples, mean_loss, gradient):
    """`g (exp(λ b / m) - 1) / (2 b)`."""
    share = temperature / num_samples
    with np.errstate(over="ignore", invalid="ignore"):
        growth = np.expm1(share * mean_loss) / np.where(mean_loss > 0, 2 * mean_loss, 1.0)
        growth = np.where(mean_loss > 0, growth, share / 2)
        return np.where(gradient > 0, gradient * growth, 0.0)  # Not 0 * inf.
