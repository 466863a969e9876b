"""How much noise there is at each time step of a diffusion model."""

from typing import Any

import numpy as np
from keras import ops

from keras_regularize.numerics import upcast
from keras_regularize.validation import check_choice, check_integer, check_number, compatible

#: What a network may be asked for.
PREDICTIONS = ("x0", "epsilon", "v")
WEIGHTINGS = ("min_snr", "uniform", "edm")


def cosine_beta_schedule(num_timesteps: int, offset: float = 0.008) -> np.ndarray:
    r"""Variances $\beta_i$ of the noise that each of $N$ time steps adds, by which the signal falls as a cosine.

    $$\bar\alpha(s) = \cos^2\!\Big(\frac{s / N + o}{1 + o} \cdot \frac{\pi}{2}\Big), \qquad
      \beta_i = \min\Big(1 - \frac{\bar\alpha(i + 1)}{\bar\alpha(i)},\; 0.999\Big), \qquad i = 0, \dots, N - 1.$$

    Args:
        num_timesteps: $N \ge 1$.
        offset: $o \ge 0$, which keeps the first steps from being too small.

    Returns:
        An array of $N$ numbers in double precision: ratios of products of them lose digits in single.

    Raises:
        ValueError: If an argument is out of its range.

    Cost: $N$ cosines.

    Example:

    ```python
    import keras_regularize as kr

    betas = kr.generative.cosine_beta_schedule(1000)
    ```

    Reference: Alex Nichol and Prafulla Dhariwal, *Improved Denoising Diffusion Probabilistic Models*, ICML 2021,
    arXiv:2102.09672.
    """
    check_integer("num_timesteps", num_timesteps, minimum=1)
    check_number("offset", offset, minimum=0)
    s = np.arange(num_timesteps + 1) / num_timesteps
    signal = np.cos((s + offset) / (1 + offset) * np.pi / 2) ** 2
    return np.minimum(1 - signal[1:] / signal[:-1], 0.999)


def linear_beta_schedule(num_timesteps):
    """From 1e-4 to 0.02 at a thousand steps, and as much noise in all with another number of them."""
    return np.minimum(np.linspace(0.1, 20.0, num_timesteps) / num_timesteps, 0.999)


class DiffusionSchedule:
    r"""The tables of a diffusion in discrete time, and what is computed from them.

    Time step $t$ shows data $x_0$ as

    $$x_t = \sqrt{\bar\alpha_t}\, x_0 + \sqrt{1 - \bar\alpha_t}\, \epsilon, \qquad \epsilon \sim N(0, I), \qquad
      \bar\alpha_t = \prod_{i \le t} (1 - \beta_i).$$

    A network is asked for one of three, each of which gives the others:

    | `prediction` | what it is |
    |---|---|
    | `"x0"` | $x_0$ |
    | `"epsilon"` | $\epsilon$ |
    | `"v"` | $\sqrt{\bar\alpha_t}\, \epsilon - \sqrt{1 - \bar\alpha_t}\, x_0$ |

    `models.DenoisingDiffusion` does all this by itself; this is for train steps of your own.

    Args:
        num_timesteps: Number of time steps $N \ge 1$; they are $0, \dots, N - 1$, the first with the least noise.
        kind: `"cosine"`, that of `cosine_beta_schedule`, or `"linear"`: $\beta$ from $0.1 / N$ to $20 / N$, at
            most 0.999.

    Attributes:
        betas: $\beta_t$, in double precision like all tables.
        alphas_cumprod: $\bar\alpha_t$.
        snr: $\bar\alpha_t / (1 - \bar\alpha_t)$, the ratio of the variances of signal and noise.
        posterior_variance: $\tilde\beta_t = \beta_t (1 - \bar\alpha_{t-1}) / (1 - \bar\alpha_t)$, the variance of
            $x_{t-1}$ where $x_t$ and $x_0$ are known. The first would be 0, and is the second.

    Raises:
        ValueError: If an argument is out of its range.

    Cost: a row of a table per sample.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    schedule = kr.generative.DiffusionSchedule(1000)
    x0, noise = np.random.normal(size=(2, 4, 8))
    t = np.array([0, 10, 500, 999])
    noisy = schedule.add_noise(x0, noise, t)
    target = schedule.target(x0, noise, t, "v")
    again = schedule.denoised(noisy, target, t, "v")  # x0
    ```

    Reference: Jonathan Ho, Ajay Jain and Pieter Abbeel, *Denoising Diffusion Probabilistic Models*, NeurIPS 2020,
    arXiv:2006.11239. `"v"`: Tim Salimans and Jonathan Ho, *Progressive Distillation for Fast Sampling of Diffusion
    Models*, ICLR 2022, arXiv:2202.00512.
    """

    def __init__(self, num_timesteps: int = 1000, kind: str = "cosine"):
        self.num_timesteps = check_integer("num_timesteps", num_timesteps, minimum=1)
        self.kind = check_choice("kind", kind, ("cosine", "linear"))
        make = cosine_beta_schedule if kind == "cosine" else linear_beta_schedule
        self.betas = make(num_timesteps)
        self.alphas_cumprod = np.cumprod(1 - self.betas)
        self.snr = self.alphas_cumprod / (1 - self.alphas_cumprod)
        before = np.concatenate([[1.0], self.alphas_cumprod[:-1]])
        self.posterior_variance = self.betas * (1 - before) / (1 - self.alphas_cumprod)
        self.posterior_variance[0] = (
            self.posterior_variance[1] if num_timesteps > 1 else self.betas[0]
        )

    @property
    def signal(self) -> np.ndarray:
        """What data are multiplied by, the roots of `alphas_cumprod`."""
        return np.sqrt(self.alphas_cumprod)

    @property
    def noise(self) -> np.ndarray:
        """Deviations of the noise."""
        return np.sqrt(1 - self.alphas_cumprod)

    def add_noise(self, x0: Any, noise: Any, timesteps: Any) -> Any:
        """$x_t$ of data and noise of the same shape `(batch, …)`, for time steps `(batch,)`."""
        return self._joined(x0, noise, timesteps, self.signal, self.noise)

    def target(self, x0: Any, noise: Any, timesteps: Any, prediction: str = "x0") -> Any:
        """What the network is asked for."""
        return self._joined(x0, noise, timesteps, *self.of_target(prediction))

    def denoised(self, x_t: Any, output: Any, timesteps: Any, prediction: str = "x0") -> Any:
        """The estimate of $x_0$ that an output of the network stands for."""
        return self._joined(x_t, output, timesteps, *self.of_estimate(prediction))

    def of_target(self, prediction: str) -> tuple[np.ndarray, np.ndarray]:
        """By what $x_0$ and the noise are multiplied in the target, for each time step."""
        check_choice("prediction", prediction, PREDICTIONS)
        one, zero = np.ones(self.num_timesteps), np.zeros(self.num_timesteps)
        return {"x0": (one, zero), "epsilon": (zero, one), "v": (-self.noise, self.signal)}[
            prediction
        ]

    def of_estimate(self, prediction: str) -> tuple[np.ndarray, np.ndarray]:
        """By what $x_t$ and the output are multiplied in the estimate of $x_0$, for each time step."""
        check_choice("prediction", prediction, PREDICTIONS)
        one, zero = np.ones(self.num_timesteps), np.zeros(self.num_timesteps)
        from_noise = (1 / self.signal, -self.noise / self.signal)
        return {"x0": (zero, one), "epsilon": from_noise, "v": (self.signal, -self.noise)}[
            prediction
        ]

    def at(self, timesteps: Any, *tables: np.ndarray) -> list[Any]:
        """Entries `(batch,)` of tables such as `betas` at time steps `(batch,)`, as tensors."""
        table = ops.convert_to_tensor(np.stack(tables, axis=-1).astype("float32"))
        rows = ops.take(table, ops.cast(timesteps, "int32"), axis=0)
        return [rows[..., i] for i in range(len(tables))]

    def _joined(self, one, other, timesteps, of_one, of_other):
        one = upcast(one)
        other = ops.cast(other, one.dtype)
        timesteps = ops.convert_to_tensor(timesteps)
        if not compatible(timesteps.shape, one.shape[:1]) or not compatible(one.shape, other.shape):
            raise ValueError(
                "Expected two tensors (batch, …) of one shape, and time steps (batch,). Received: shapes "
                f"{tuple(one.shape)}, {tuple(other.shape)} and {tuple(timesteps.shape)}"
            )
        of_one, of_other = self.at(timesteps, of_one, of_other)
        return per_sample(of_one, one) * one + per_sample(of_other, other) * other


def per_sample(values: Any, like: Any) -> Any:
    """`(batch,)` values that multiply a tensor `(batch, …)`."""
    return ops.cast(ops.reshape(values, (-1, *(1,) * (len(like.shape) - 1))), like.dtype)


def loss_weights(snr, weighting, snr_clip=5.0, sigma_data=1.0):
    """The weight of the squared error of the estimate of the data, at a ratio of signal to noise."""
    if weighting == "min_snr":
        return np.minimum(snr, snr_clip)
    return (1 + sigma_data**2 * snr) / sigma_data**2
