"""Diffusion models whose samples keep a law that is known, such as a differential equation."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from keras_regularize.autodiff import backend
from keras_regularize.models.diffusion.denoising_diffusion import (
    DenoisingDiffusion,
    joint_weight,
    split_inputs,
)
from keras_regularize.models.diffusion.schedules import DiffusionSchedule, per_sample
from keras_regularize.numerics import mean, upcast
from keras_regularize.registration import export
from keras_regularize.validation import check_choice, check_integer, check_number, compatible


def physics_informed_loss(
    x0: Any,
    prediction: Any,
    residual: Any,
    timesteps: Any,
    num_timesteps: int,
    residual_weight: float = 1e-3,
    snr_clip: float = 5.0,
) -> Any:
    r"""The loss of `models.PhysicsInformedDiffusion` for train steps of your own.

    $$\min(r_t, \gamma)\; \overline{(x_0 - \hat x_0)^2}
      + c\; \overline{R^2} \,/\, (2 \tilde\beta_t)$$

    with the ratio of signal to noise $r_t$ and the variance $\tilde\beta_t$ of the cosine schedule; bars are means
    over the entries of a sample. A residual is that of a Gaussian whose variance shrinks with the noise: at the
    end of the diffusion the law must hold, at its beginning it need not.

    Args:
        x0: Data $x_0$, `(batch, …)`.
        prediction: Their estimates $\hat x_0$, of the same shape.
        residual: What the law leaves of an estimate, $R$, `(batch, …)`; 0 where it holds.
        timesteps: Time steps `(batch,)`, from 0 on.
        num_timesteps: Their number, at least 1.
        residual_weight: $c \ge 0$.
        snr_clip: $\gamma > 0$.

    Returns:
        One value per sample `(batch,)`.

    Raises:
        ValueError: If an argument is out of its range, or shapes do not fit.

    Cost: a few operations per entry.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    x0, prediction = np.random.normal(size=(2, 4, 2))
    residual = (prediction**2).sum(axis=-1, keepdims=True) - 1  # On a circle.
    kr.generative.physics_informed_loss(x0, prediction, residual, np.array([0, 3, 50, 99]), 100)
    ```

    Reference: Jan-Hendrik Bastek, WaiChing Sun and Dennis M. Kochmann, *Physics-Informed Diffusion Models*,
    ICLR 2025, arXiv:2403.14404.
    """
    check_number("residual_weight", residual_weight, minimum=0)
    check_number("snr_clip", snr_clip, above=0)
    schedule = DiffusionSchedule(num_timesteps)
    x0 = upcast(x0)
    prediction = ops.cast(prediction, x0.dtype)
    timesteps = ops.convert_to_tensor(timesteps)
    if not compatible(x0.shape, prediction.shape) or not compatible(timesteps.shape, x0.shape[:1]):
        raise ValueError(
            "Expected data and their estimates (batch, …) of one shape, and time steps (batch,). Received: shapes "
            f"{tuple(x0.shape)}, {tuple(prediction.shape)} and {tuple(timesteps.shape)}"
        )
    (snr,) = schedule.at(timesteps, schedule.snr.clip(max=snr_clip))
    loss = snr * sample_mean(ops.square(x0 - prediction))
    return loss + residual_weight * log_likelihood(residual, timesteps, schedule)


def sample_mean(values):
    """Means over all axes but the first."""
    values = upcast(values)
    axes = tuple(range(1, len(values.shape)))
    return mean(values, axis=axes) if axes else values


def log_likelihood(residual, timesteps, schedule):
    """That of residuals, up to its sign and what does not depend on them, `(batch,)`."""
    (precision,) = schedule.at(timesteps, 0.5 / schedule.posterior_variance)
    squares = sample_mean(ops.square(upcast(residual)))
    if len(squares.shape) != 1 or not compatible(squares.shape, precision.shape):
        raise ValueError(
            "A residual must be (batch, …), of as many samples as the data. Received: shape "
            f"{tuple(ops.shape(residual))} for {tuple(precision.shape)} samples"
        )
    return ops.cast(precision, squares.dtype) * squares


@export
class PhysicsInformedDiffusion(DenoisingDiffusion):
    r"""A diffusion model whose samples keep a law that is known, such as a differential equation.

    To the loss of `DenoisingDiffusion`, weighed by `"min_snr"`, a step adds what the law leaves of an estimate
    $\tilde x_0$ of the data,

    $$L_\text{diffusion} + \frac1B \sum_b \frac{c\, \overline{R(\tilde x_0)^2}
        + c_{\le}\, \overline{\max(0, I(\tilde x_0))^2}}{2 \tilde\beta_{t_b}}
      + \lambda\, \overline{O(\tilde x_0)},$$

    where $\tilde\beta_t$ is the variance of a step of the diffusion: the law must hold at its end, while the noise
    leaves room at the beginning. Networks that fit their data exactly need no law; it acts where there are few, or
    where the network has too few units or steps.

    The residual of a mean of samples is no mean of residuals. By `x0_estimation="mean"`, $\tilde x_0$ is the
    network's output, a mean; with much noise that must break the law, and a large $c$ then spoils the samples. By
    `"sample"` it is a sample that `"ddim"` draws in a few steps, at the cost of one pass for each.

    Args:
        network: As for `DenoisingDiffusion`.
        residual: Function $R$ of data `(batch, …)` that gives `(batch, …)`, 0 where the law holds.
        num_timesteps: Number of time steps, at least 1.
        residual_weight: $c \ge 0$, small: $1 / \tilde\beta_t$ is up to some ten thousand. The paper takes 1e-3 for
            Darcy flow, 0.1 for points on a circle and 0.005 for these by `"sample"`.
        inequality: Function $I$ of data that must not be positive, or `None`.
        inequality_weight: $c_{\le} \ge 0$.
        objective: Function $O$ of data that is to be small, or `None`.
        objective_weight: $\lambda \ge 0$.
        x0_estimation: `"mean"` or `"sample"`.
        sample_steps: How many times are between $t$ and 0 in `"sample"`, at least 0.
        schedule: `"cosine"` or `"linear"`.
        snr_clip: As for `DenoisingDiffusion`.
        **kwargs: `prediction`, `seed` and other arguments of `DenoisingDiffusion`.

    Raises:
        ValueError: If an argument is out of its range or no function, or as for `DenoisingDiffusion`.

    Cost: one pass of the network and of the functions per step; `"sample"`: `sample_steps` + 2 passes.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr


    @keras.saving.register_keras_serializable()
    def circle(x):
        "Of points on the unit circle."
        return keras.ops.sum(x * x, axis=-1, keepdims=True) - 1.0


    x, t = keras.Input((2,)), keras.Input((), dtype="int32")
    hidden = keras.layers.Concatenate()([x, keras.layers.Embedding(100, 16)(t)])
    hidden = keras.layers.Dense(64, activation="relu")(hidden)
    network = keras.Model([x, t], keras.layers.Dense(2)(hidden))
    model = kr.models.PhysicsInformedDiffusion(network, residual=circle, residual_weight=0.1)
    model.compile("adam")
    angle = np.random.uniform(0, 2 * np.pi, 256)
    model.fit(np.stack([np.cos(angle), np.sin(angle)], axis=1), verbose=0)
    new = model.sample(8)
    ```

    Reference: Jan-Hendrik Bastek, WaiChing Sun and Dennis M. Kochmann, *Physics-Informed Diffusion Models*,
    ICLR 2025, arXiv:2403.14404.
    """

    def __init__(
        self,
        network: keras.Model,
        residual: Callable[[Any], Any],
        num_timesteps: int = 100,
        residual_weight: float = 1e-3,
        inequality: Callable[[Any], Any] | None = None,
        inequality_weight: float = 0.0,
        objective: Callable[[Any], Any] | None = None,
        objective_weight: float = 0.0,
        x0_estimation: str = "mean",
        sample_steps: int = 0,
        schedule: str = "cosine",
        snr_clip: float = 5.0,
        **kwargs: Any,
    ):
        check_choice("schedule", schedule, ("cosine", "linear"))
        super().__init__(network, num_timesteps, schedule, snr_clip=snr_clip, **kwargs)
        functions = {"residual": residual, "inequality": inequality, "objective": objective}
        for name, function in functions.items():
            if not callable(function) and (name == "residual" or function is not None):
                raise ValueError(
                    f"`{name}` must be a function of data. Received: {name}={function!r}"
                )
        self.residual, self.inequality, self.objective = residual, inequality, objective
        self.residual_weight = check_number("residual_weight", residual_weight, minimum=0)
        self.inequality_weight = check_number("inequality_weight", inequality_weight, minimum=0)
        self.objective_weight = check_number("objective_weight", objective_weight, minimum=0)
        for name in ("inequality", "objective"):
            if functions[name] is None and getattr(self, f"{name}_weight") > 0:
                raise ValueError(f"`{name}_weight` above 0 needs `{name}`. Received: {name}=None")
        self.x0_estimation = check_choice("x0_estimation", x0_estimation, ("mean", "sample"))
        self.sample_steps = check_integer("sample_steps", sample_steps, minimum=0)

    def call(self, inputs: Any, training: bool | None = None) -> dict[str, Any]:
        outputs = super().call(inputs, training)
        x_t, times = outputs["noisy"], outputs["time"]
        _, conditions = split_inputs(inputs, self.compute_dtype)
        schedule = self._levels().schedule
        estimate = schedule.denoised(x_t, outputs["prediction"], times, self.prediction)
        if self.x0_estimation == "sample":
            estimate = self._sampled(x_t, estimate, times, conditions, training)
        terms = []
        if self.residual_weight > 0:
            value = log_likelihood(self.residual(estimate), times, schedule)
            terms.append(self.residual_weight * value)
        if self.inequality is not None and self.inequality_weight > 0:
            value = log_likelihood(ops.relu(self.inequality(estimate)), times, schedule)
            terms.append(self.inequality_weight * value)
        if self.objective is not None and self.objective_weight > 0:
            terms.append(self.objective_weight * sample_mean(self.objective(estimate)))
        if terms:
            outputs["penalty"] = sum(terms)
        return outputs

    def _sampled(self, x_t, estimate, times, conditions, training):
        """What `"ddim"` draws from `x_t` in times that are evenly spaced down to 0."""
        schedule, last = self._levels().schedule, self.sample_steps + 1
        start = ops.cast(times, "float32")
        for step in range(1, last + 1):
            share = 1.0 - step / last
            after = ops.cast(ops.round(share * start), "int32")
            signal, noise = schedule.at(times, schedule.signal, schedule.noise)
            next_signal, next_noise = schedule.at(after, schedule.signal, schedule.noise)
            kept = next_noise / noise
            of_estimate = per_sample(next_signal - signal * kept, x_t)
            x_t = of_estimate * estimate + per_sample(kept, x_t) * x_t
            output = self.network([x_t, after, *conditions], training=training)
            estimate = schedule.denoised(x_t, upcast(output), after, self.prediction)
            times = after
        return estimate

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        loss = super().compute_loss(x, y, y_pred, sample_weight, training)
        if "penalty" not in y_pred:
            return loss
        penalty = y_pred["penalty"]
        weight = joint_weight(None, sample_weight, penalty.dtype)
        penalty = penalty if weight is None else weight * penalty
        return loss + ops.cast(ops.mean(penalty), loss.dtype) / backend.num_replicas()
