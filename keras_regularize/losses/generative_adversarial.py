"""What a generator and its discriminator play for, and penalties of the discriminator's slope."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from keras_regularize import autodiff
from keras_regularize.numerics import upcast
from keras_regularize.validation import check_choice, check_number

KINDS = (
    "non_saturating",
    "minimax",
    "least_squares",
    "hinge",
    "wasserstein",
    "relativistic",
    "relativistic_average",
)


def discriminator_loss(real_logits: Any, fake_logits: Any, kind: str = "non_saturating") -> Any:
    r"""What a discriminator minimizes to tell real samples from generated ones.

    With logits $r$ of real samples and $f$ of generated ones, $\operatorname{sp}(z) = \log(1 + e^z)$, and bars for
    means over all entries, so that maps of patches work:

    | kind | loss |
    |---|---|
    | `"minimax"`, `"non_saturating"` | $\overline{\operatorname{sp}(-r)} + \overline{\operatorname{sp}(f)}$ |
    | `"least_squares"` | $\frac12 \overline{(r - 1)^2} + \frac12 \overline{f^2}$ |
    | `"hinge"` | $\overline{\max(0, 1 - r)} + \overline{\max(0, 1 + f)}$ |
    | `"wasserstein"` | $\bar f - \bar r$ |
    | `"relativistic"` | $\overline{\operatorname{sp}(f - r)}$, of pairs |
    | `"relativistic_average"` | $\overline{\operatorname{sp}(\bar f - r) + \operatorname{sp}(f - \bar r)}$ |

    Args:
        real_logits: Outputs for real samples, without sigmoid, of any shape.
        fake_logits: Outputs for generated samples; for `"relativistic"` as many.
        kind: Which loss, see above.

    Returns:
        A scalar.

    Raises:
        ValueError: If `kind` is unknown, or pairs do not fit.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    kr.generative.discriminator_loss(np.array([2.0, 3.0]), np.array([-1.0, 0.0]), kind="hinge")  # 0.5
    ```

    Reference: Ian Goodfellow and others, *Generative Adversarial Nets*, NeurIPS 2014, arXiv:1406.2661. Least
    squares: Xudong Mao and others, *Least Squares Generative Adversarial Networks*, ICCV 2017,
    arXiv:1611.04076. Hinge: Jae Hyun Lim and Jong Chul Ye, *Geometric GAN*, 2017, arXiv:1705.02894. Martin
    Arjovsky, Soumith Chintala and Léon Bottou, *Wasserstein GAN*, 2017, arXiv:1701.07875. Alexia
    Jolicoeur-Martineau, *The relativistic
    discriminator: a key element missing from standard GAN*, ICLR 2019, arXiv:1807.00734.
    """
    real, fake = _logits(real_logits, fake_logits, kind)
    if kind in ("minimax", "non_saturating"):
        return ops.mean(ops.softplus(-real)) + ops.mean(ops.softplus(fake))
    if kind == "least_squares":
        return 0.5 * (ops.mean(ops.square(real - 1.0)) + ops.mean(ops.square(fake)))
    if kind == "hinge":
        return ops.mean(ops.relu(1.0 - real)) + ops.mean(ops.relu(1.0 + fake))
    if kind == "wasserstein":
        return ops.mean(fake) - ops.mean(real)
    if kind == "relativistic":
        return ops.mean(ops.softplus(fake - real))
    return ops.mean(ops.softplus(ops.mean(fake) - real)) + ops.mean(
        ops.softplus(fake - ops.mean(real))
    )


def generator_loss(fake_logits: Any, real_logits: Any = None, kind: str = "non_saturating") -> Any:
    r"""What a generator minimizes to have its samples taken for real ones.

    In the notation of `discriminator_loss`:

    | kind | loss |
    |---|---|
    | `"minimax"` | $-\overline{\operatorname{sp}(f)}$, flat where the discriminator is sure |
    | `"non_saturating"` | $\overline{\operatorname{sp}(-f)}$ |
    | `"least_squares"` | $\frac12 \overline{(f - 1)^2}$ |
    | `"hinge"`, `"wasserstein"` | $-\bar f$ |
    | `"relativistic"` | $\overline{\operatorname{sp}(r - f)}$, of pairs |
    | `"relativistic_average"` | $\overline{\operatorname{sp}(\bar r - f) + \operatorname{sp}(r - \bar f)}$ |

    Args:
        fake_logits: Outputs of the discriminator for generated samples, without sigmoid, of any shape.
        real_logits: Outputs for real samples, which the relativistic kinds need.
        kind: Which loss, see above.

    Returns:
        A scalar.

    Raises:
        ValueError: If `kind` is unknown, `real_logits` are missing, or pairs do not fit.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    kr.generative.generator_loss(np.array([-1.0, 0.0]), kind="hinge")  # 0.5
    ```

    Reference: Ian Goodfellow and others, *Generative Adversarial Nets*, NeurIPS 2014, arXiv:1406.2661. Least
    squares: Xudong Mao and others, *Least Squares Generative Adversarial Networks*, ICCV 2017,
    arXiv:1611.04076. Hinge: Jae Hyun Lim and Jong Chul Ye, *Geometric GAN*, 2017, arXiv:1705.02894. Martin
    Arjovsky, Soumith Chintala and Léon Bottou, *Wasserstein GAN*, 2017, arXiv:1701.07875. Alexia
    Jolicoeur-Martineau, *The relativistic
    discriminator: a key element missing from standard GAN*, ICLR 2019, arXiv:1807.00734.
    """
    if real_logits is None and kind.startswith("relativistic"):
        raise ValueError(f"`kind={kind!r}` needs `real_logits`.")
    real, fake = _logits(real_logits, fake_logits, kind)
    if kind == "minimax":
        return -ops.mean(ops.softplus(fake))
    if kind == "non_saturating":
        return ops.mean(ops.softplus(-fake))
    if kind == "least_squares":
        return 0.5 * ops.mean(ops.square(fake - 1.0))
    if kind in ("hinge", "wasserstein"):
        return -ops.mean(fake)
    if kind == "relativistic":
        return ops.mean(ops.softplus(real - fake))
    return ops.mean(ops.softplus(ops.mean(real) - fake)) + ops.mean(
        ops.softplus(real - ops.mean(fake))
    )


def gradient_penalty(
    discriminator: Callable[[Any], Any],
    real: Any,
    fake: Any,
    mix: Any = None,
    factor: float = 10.0,
    target: float = 1.0,
    seed: Any = None,
) -> Any:
    r"""Penalty that gives a critic the slope 1 between real and generated samples.

    $$\lambda\, \frac1B \sum_b \big(\|\nabla_x D(\hat x_b)\|_2 - t\big)^2, \qquad
      \hat x_b = m_b\, x_b + (1 - m_b)\, \tilde x_b,$$

    the gradient that of the sum of a sample's outputs. Batch normalization in the critic makes its output for one
    sample depend on the others, which the penalty does not mean: use layer normalization or none.

    Args:
        discriminator: $D$, a model or function of a batch.
        real: Real samples `(batch, …)`.
        fake: Generated samples of the same shape.
        mix: $m$, in [0, 1], of shape `(batch, 1, …)`; drawn anew for each sample by default.
        factor: $\lambda \ge 0$.
        target: $t \ge 0$.
        seed: Seed of the draw, an integer or a `keras.random.SeedGenerator`.

    Returns:
        A scalar, differentiable in the weights of the critic.

    Raises:
        ValueError: If a number is out of range.

    Cost: a forward-backward pass of the critic; a second one when trained through.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    critic = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    real, fake = np.random.default_rng(0).normal(size=(2, 4, 2)).astype("float32")
    kr.generative.gradient_penalty(critic, real, fake)
    ```

    Reference: Ishaan Gulrajani and others, *Improved Training of Wasserstein GANs*, NeurIPS 2017,
    arXiv:1704.00028.
    """
    check_number("factor", factor, minimum=0)
    check_number("target", target, minimum=0)
    real, fake = (upcast(ops.convert_to_tensor(x)) for x in (real, fake))
    if mix is None:
        shape = (ops.shape(real)[0], *(1,) * (len(real.shape) - 1))
        mix = keras.random.uniform(shape, dtype=real.dtype, seed=seed)
    mix = ops.cast(mix, real.dtype)
    squares = _squared_slopes(discriminator, mix * real + (1.0 - mix) * fake)
    # Where the critic is flat its slope has no derivative.
    return factor * ops.mean(ops.square(ops.sqrt(squares + 1e-12) - target))


def r1_penalty(discriminator: Callable[[Any], Any], inputs: Any, factor: float = 10.0) -> Any:
    r"""Penalty of a discriminator's squared slope: R1 at real samples, R2 at generated ones.

    $$\frac\gamma2\, \frac1B \sum_b \|\nabla_x D(x_b)\|^2$$

    Args:
        discriminator: $D$, a model or function of a batch.
        inputs: Samples `(batch, …)`.
        factor: $\gamma \ge 0$.

    Returns:
        A scalar, differentiable in the weights of the discriminator.

    Raises:
        ValueError: If `factor` is negative.

    Cost: a forward-backward pass of the discriminator; a second one when trained through.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    discriminator = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    kr.generative.r1_penalty(discriminator, np.ones((4, 2), "float32"))
    ```

    Reference: Lars Mescheder, Andreas Geiger and Sebastian Nowozin, *Which Training Methods for GANs do actually
    Converge?*, ICML 2018, arXiv:1801.04406.
    """
    check_number("factor", factor, minimum=0)
    return 0.5 * factor * ops.mean(_squared_slopes(discriminator, inputs))


def _squared_slopes(discriminator, x):
    """Squared norm of the gradient of each sample's outputs in that sample, `(batch,)`."""
    x = upcast(ops.convert_to_tensor(x))
    slopes = autodiff.input_gradient(lambda x: upcast(discriminator(x)), x)
    return ops.sum(ops.square(slopes), axis=tuple(range(1, len(x.shape))))


def _logits(real, fake, kind):
    check_choice("kind", kind, KINDS)
    real, fake = (
        None if logits is None else upcast(ops.convert_to_tensor(logits)) for logits in (real, fake)
    )
    if kind == "relativistic" and tuple(real.shape) != tuple(fake.shape):
        raise ValueError(
            "`kind='relativistic'` compares pairs, expected logits of one shape. "
            f"Received: {tuple(real.shape)} and {tuple(fake.shape)}"
        )
    return real, fake
