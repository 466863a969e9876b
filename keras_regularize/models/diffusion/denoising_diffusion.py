"""Diffusion models that `fit` trains and `sample` draws from."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_regularize.autodiff import backend
from keras_regularize.configuration import Configured
from keras_regularize.losses.regression.pseudo_huber import PseudoHuber
from keras_regularize.models.diffusion.noise_levels import ContinuousLevels, DiscreteLevels
from keras_regularize.models.diffusion.pseudo_huber import (
    pseudo_huber_schedule,
    scheduled_pseudo_huber,
)
from keras_regularize.models.diffusion.sampling import Sampler
from keras_regularize.models.diffusion.schedules import (
    PREDICTIONS,
    WEIGHTINGS,
    DiffusionSchedule,
    per_sample,
)
from keras_regularize.models.step.standalone import Standalone
from keras_regularize.numerics import upcast
from keras_regularize.registration import export
from keras_regularize.validation import check_choice, check_integer, check_number, compatible


@export
class DenoisingDiffusion(Configured, Standalone):
    r"""Trains a network to take noise off data, at all levels of noise, and draws new data with it.

    Each step of `fit(x)` draws a time $t$ and noise $\epsilon$ for every sample, shows the network
    $x_t = \sqrt{\bar\alpha_t}\, x_0 + \sqrt{1 - \bar\alpha_t}\, \epsilon$, and compares what it gives out with a
    target by the compiled loss:

    $$L = \frac1B \sum_b w(t_b)\; \ell\big(\text{target}(x_0, \epsilon, t_b),\; f_\theta(x_{t_b}, t_b)\big).$$

    | `prediction` | target | its error, relative to that of $x_0$ |
    |---|---|---|
    | `"x0"` | $x_0$ | 1 |
    | `"epsilon"` | $\epsilon$ | $1 / \sqrt r$ |
    | `"v"` | $\sqrt{\bar\alpha_t}\, \epsilon - \sqrt{1 - \bar\alpha_t}\, x_0$ | $1 / \sqrt{r + 1}$ |

    with the ratio of signal to noise $r = \bar\alpha_t / (1 - \bar\alpha_t)$. The squared error of $x_0$ weighs
    $\min(r, \gamma)$ by `"min_snr"` and $1 / \sigma_d^2 + r$ by `"edm"`, whatever the target; by `"uniform"` that
    of the target weighs 1. By the schedule `"edm"` time is continuous and the network is surrounded with
    `generative.edm_preconditioning`.

    `sample` starts from noise and takes it off in steps. By `"ddpm"` a step is random, with the deviation
    $\sqrt{\beta_t}$, which supposes standardized data, or such of the deviation $\sigma_d$ by `"edm"`; by `"ddim"`
    it is not, and a tenth of the steps will do; by `"heun"`, of the schedule `"edm"`, it has a second pass that
    makes it more exact.

    Standardize the data, or scale them to $[-1, 1]$. Averages of the weights, without which samples are noticeably
    worse, are the optimizer's: `keras.optimizers.Adam(1e-3, use_ema=True, ema_momentum=0.999)`, which `fit` puts
    in the place of the weights when it ends. Train steps wrap the model, as `SAM(DenoisingDiffusion(network))`.

    `evaluate` measures the loss at random times. `predict([x_t, t])` is that of the network.

    Args:
        network: Model of `[x_t, t]` that gives out the shape of `x_t`, and `t (batch,)`: integers from 0 to
            `num_timesteps - 1`, which may go into a `keras.layers.Embedding`, or for `"edm"` the numbers
            $\tfrac14 \ln \sigma$. With conditions, of `[x_t, t, *conditions]`; then call `fit` with
            `[x, *conditions]`.
        num_timesteps: Number of time steps, at least 1; not used by `"edm"`.
        schedule: `"cosine"`, `"linear"` (see `generative.DiffusionSchedule`) or `"edm"`.
        prediction: `"x0"`, `"epsilon"` or `"v"`. Of `"cosine"`, at whose end no signal is left, `"epsilon"` says
            nothing of the data. By `"edm"` it must be `"x0"`.
        weighting: `"min_snr"`, `"uniform"` or `"edm"`. By default `"edm"` for that schedule, where it is the
            plain loss of the network, else `"min_snr"`.
        snr_clip: $\gamma > 0$ of `"min_snr"`.
        sigma_data: $\sigma_d > 0$, the deviation of the data, for `"edm"`.
        delta_schedule: Schedule of `generative.pseudo_huber_schedule`, `"exponential"` or `"snr"`, by which the
            `delta` of a compiled `losses.PseudoHuber` depends on the time, or `None`.
        seed: Integer seed of the training noise, or None.
        **kwargs: `name` and other arguments of `keras.Model`.

    Input: floating data `(batch, …)`, or a list of them and conditions. Output: a dictionary of what the loss
    is computed from.

    Raises:
        ValueError: If an argument is out of its range, data are integers, labels are given, or the network gives
            out another shape.

    Cost: one pass of the network per step of `fit`. `sample`: one per step, two by `"heun"`.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    x, t = keras.Input((2,)), keras.Input((), dtype="int32")
    hidden = keras.layers.Concatenate()([x, keras.layers.Embedding(100, 16)(t)])
    hidden = keras.layers.Dense(64, activation="relu")(hidden)
    network = keras.Model([x, t], keras.layers.Dense(2)(hidden))
    model = kr.models.DenoisingDiffusion(network, num_timesteps=100)
    model.compile(keras.optimizers.Adam(1e-3, use_ema=True), loss="mse")
    model.fit(np.random.normal(size=(256, 2)), verbose=0)
    new = model.sample(16, sampler="ddim", steps=20)  # (16, 2)
    ```

    Reference: Jonathan Ho, Ajay Jain and Pieter Abbeel, *Denoising Diffusion Probabilistic Models*, NeurIPS 2020,
    arXiv:2006.11239. `"ddim"`: Jiaming Song, Chenlin Meng and Stefano Ermon, *Denoising Diffusion Implicit
    Models*, ICLR 2021, arXiv:2010.02502. `"min_snr"`: Tiankai Hang and others, *Efficient Diffusion Training via
    Min-SNR Weighting Strategy*, ICCV 2023, arXiv:2303.09556. `"edm"` and `"heun"`: Tero Karras, Miika Aittala,
    Timo Aila and Samuli Laine, *Elucidating the Design Space of Diffusion-Based Generative Models*, NeurIPS 2022,
    arXiv:2206.00364.
    """

    def __init__(
        self,
        network: keras.Model,
        num_timesteps: int = 1000,
        schedule: str = "cosine",
        prediction: str = "x0",
        weighting: str | None = None,
        snr_clip: float = 5.0,
        sigma_data: float = 0.5,
        delta_schedule: str | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ):
        if not isinstance(network, keras.Model):
            raise ValueError(f"`network` must be a `keras.Model`. Received: network={network!r}")
        # The network casts what it is given; noise is added in full precision.
        super().__init__(**{"autocast": False, "dtype": network.dtype_policy, **kwargs})
        self.network = network
        self.num_timesteps = check_integer("num_timesteps", num_timesteps, minimum=1)
        self.schedule = check_choice("schedule", schedule, ("cosine", "linear", "edm"))
        self.prediction = check_choice("prediction", prediction, PREDICTIONS)
        self.weighting = check_choice("weighting", weighting, (None, *WEIGHTINGS))
        self.snr_clip = check_number("snr_clip", snr_clip, above=0)
        self.sigma_data = check_number("sigma_data", sigma_data, above=0)
        self.delta_schedule = check_choice(
            "delta_schedule", delta_schedule, (None, "exponential", "snr")
        )
        self.seed = check_integer("seed", seed, optional=True)
        self.seed_generator = keras.random.SeedGenerator(seed)
        if schedule == "edm" and (prediction != "x0" or delta_schedule is not None):
            raise ValueError(
                '`schedule="edm"` has a prediction of its own, which stands for "x0", and no time steps for '
                f"`delta_schedule`. Received: prediction={prediction!r}, delta_schedule={delta_schedule!r}"
            )
        # Behind functions: Keras wraps what a model holds.
        levels, sampler = self._make_levels(), Sampler(network)
        self._levels, self._sampler = lambda: levels, lambda: sampler

    def _make_levels(self):
        if self.schedule == "edm":
            return ContinuousLevels(self.weighting or "edm", self.snr_clip, self.sigma_data)
        schedule = DiffusionSchedule(self.num_timesteps, self.schedule)
        weighting = self.weighting or "min_snr"
        return DiscreteLevels(schedule, self.prediction, weighting, self.snr_clip, self.sigma_data)

    def compile(
        self, optimizer: Any = "rmsprop", loss: Any = None, *args: Any, **kwargs: Any
    ) -> None:
        """As `keras.Model.compile`; the loss compares targets and predictions `(batch, …)`, by default `"mse"`."""
        loss = "mse" if loss is None else loss
        if self.delta_schedule is not None and not isinstance(loss, PseudoHuber):
            raise ValueError(
                "`delta_schedule` is that of `kr.losses.PseudoHuber`, which `compile` must be given. "
                f"Received: loss={loss!r}"
            )
        super().compile(optimizer, loss, *args, **kwargs)

    def build(self, input_shape: Any) -> None:
        """The network is built by itself, when it is first called."""

    def call(self, inputs: Any, training: bool | None = None) -> dict[str, Any]:
        x0, conditions = split_inputs(inputs, self.compute_dtype)
        levels, count = self._levels(), ops.shape(x0)[0]
        times = levels.draw(count, self.seed_generator)
        at = levels.at(times)
        noise = keras.random.normal(ops.shape(x0), dtype=x0.dtype, seed=self.seed_generator)
        x_t = per_sample(at.data_in, x0) * x0 + per_sample(at.noise_in, x0) * noise
        told = levels.network_time(times)
        output = self.network([x_t, told, *conditions], training=training)
        prediction = upcast(output)
        if not compatible(prediction.shape, x0.shape):
            raise ValueError(
                "The network must give out the shape of the data. Received: data "
                f"{tuple(x0.shape)}, an output {tuple(prediction.shape)}"
            )
        if self.prediction == "v" or self.schedule == "edm":
            target = per_sample(at.data_out, x0) * x0 + per_sample(at.noise_out, x0) * noise
        else:
            target = x0 if self.prediction == "x0" else noise
        outputs = {"prediction": prediction, "target": target, "noisy": x_t, "time": times}
        if at.weight is not None:
            outputs["weight"] = at.weight
        return outputs

    # Training

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        refuse_labels(self, y)
        target, prediction = y_pred["target"], y_pred["prediction"]
        weight = joint_weight(y_pred.get("weight"), sample_weight, prediction.dtype)
        if self.delta_schedule is None:
            if weight is not None:  # For each position of a sample, as Keras wants them.
                weight = ops.reshape(weight, (-1, *(1,) * (len(prediction.shape) - 2)))
            return super().compute_loss(x, target, prediction, weight, training)
        loss, schedule = self.loss, self._levels().schedule
        delta = pseudo_huber_schedule(
            y_pred["time"],
            schedule.num_timesteps,
            loss.delta,
            self.delta_schedule,
            schedule.alphas_cumprod,
        )
        values = scheduled_pseudo_huber(target, prediction, delta, loss.scaling)
        return self.with_penalties(ops.mean(values if weight is None else weight * values))

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        weight = joint_weight(None, sample_weight, y_pred["prediction"].dtype)
        return super().compute_metrics(x, y_pred["target"], y_pred["prediction"], weight)

    def predict_step(self, *arguments: Any) -> Any:
        return backend.predict_step(self, self.network, arguments)

    # Drawing

    def sample(
        self,
        num_samples: int,
        sampler: str | None = None,
        steps: int | None = None,
        conditions: Any = None,
        clip: tuple[float, float] | None = None,
        shape: Sequence[int] | None = None,
        batch_size: int | None = None,
        seed: int | None = None,
    ) -> np.ndarray:
        """New data.

        Args:
            num_samples: How many, at least 0.
            sampler: `"ddpm"`, `"ddim"` or `"heun"`; by default `"ddpm"`, for the schedule `"edm"` `"heun"`.
            steps: Number of steps, at most that of the time steps; by default all of them for `"ddpm"` (200 of
                `"edm"`), 50 for `"ddim"`, 18 for `"heun"`.
            conditions: An array of `num_samples` rows, or a list of them, for a network with conditions.
            clip: Bounds of the data, such as `(-1, 1)`, to which each estimate of them is clipped.
            shape: That of one sample, where the network does not tell.
            batch_size: How many are drawn at a time; all by default.
            seed: Integer seed; by default each call draws others.

        Returns:
            An array `(num_samples, …)`.
        """
        levels = self._levels()
        check_integer("num_samples", num_samples, minimum=0)
        sampler = levels.samplers[0] if sampler is None else sampler
        if sampler == "heun" and sampler not in levels.samplers:
            raise ValueError('`sampler="heun"` needs `schedule="edm"`')
        check_choice("sampler", sampler, levels.samplers)
        steps = levels.steps_of(sampler) if steps is None else steps
        check_integer("steps", steps, minimum=1, maximum=levels.most_steps)
        check_integer("batch_size", batch_size, minimum=1, optional=True)
        generator = keras.random.SeedGenerator(check_integer("seed", seed, optional=True))
        conditions = check_conditions(conditions, num_samples)
        clip, shape = check_clip(clip), self._sample_shape(shape)
        grid, size = levels.grid(steps), batch_size or max(1, num_samples)
        drawn = [np.empty((0, *shape), "float32")]
        for start in range(0, num_samples, size):
            rows = slice(start, min(start + size, num_samples))
            count = rows.stop - start
            noise = keras.random.normal((count, *shape), dtype="float32", seed=generator)
            given = [condition[rows] for condition in conditions]
            x = self._sampler().run(
                grid,
                noise * float(grid.noise[0]) if self.schedule == "edm" else noise,
                sampler,
                clip,
                given,
                generator,
            )
            drawn.append(ops.convert_to_numpy(x))
        return np.concatenate(drawn)

    def _sample_shape(self, shape):
        if shape is None:
            inputs = getattr(self.network, "inputs", None)
            shape = tuple(inputs[0].shape[1:]) if inputs else (None,)
        if any(size is None for size in shape):
            raise ValueError(
                "The network does not tell the shape of a sample: `sample` needs `shape`, such as (28, 28, 1). "
                f"Received: a network of inputs {shape}"
            )
        return tuple(shape)


def split_inputs(inputs, compute_dtype):
    """Floating data, in single precision or in that of a model in double precision, and the list of conditions."""
    if isinstance(inputs, dict):
        raise ValueError(
            "Expected data, or a list `[data, *conditions]`. Received: a dictionary with the keys "
            f"{sorted(inputs)}"
        )
    x, *conditions = inputs if isinstance(inputs, (list, tuple)) else (inputs,)
    x = ops.convert_to_tensor(x)
    dtype = keras.backend.standardize_dtype(x.dtype)
    if not keras.backend.is_float_dtype(dtype) or len(x.shape) < 2:
        raise ValueError(
            "Expected floating data (batch, …); scale images to [-1, 1], by `x / 127.5 - 1.0`. "
            f"Received: dtype {dtype}, shape {tuple(x.shape)}"
        )
    return ops.cast(x, "float64" if compute_dtype == "float64" else "float32"), conditions


def refuse_labels(model, y):
    """Raises for labels, which would have no effect."""
    if y is not None:
        raise ValueError(
            f"`{type(model).__name__}` is trained without labels. What the network is told of a sample goes into "
            "the inputs: `fit([x, labels])`, `dataset.map(lambda x, labels: ((x, labels),))`. "
            f"Received: y of type {type(y).__name__}"
        )


def joint_weight(weight, sample_weight, dtype):
    """`(batch,)` weights, `None` if all are 1."""
    weight = None if weight is None else ops.cast(weight, dtype)
    if sample_weight is None:
        return weight
    sample_weight = ops.cast(sample_weight, dtype)
    shape = tuple(sample_weight.shape)
    if len(shape) > 2 or len(shape) == 2 and shape[1] != 1:
        raise ValueError(f"Expected one weight per sample. Received: sample_weight.shape={shape}")
    sample_weight = ops.reshape(sample_weight, (-1,))
    return sample_weight if weight is None else weight * sample_weight


def check_conditions(conditions, num_samples):
    """A list of arrays."""
    if conditions is None:
        return []
    conditions = conditions if isinstance(conditions, (list, tuple)) else [conditions]
    conditions = [
        ops.convert_to_numpy(c) if ops.is_tensor(c) else np.asarray(c) for c in conditions
    ]
    shapes = [condition.shape for condition in conditions]
    if any(shape[:1] != (num_samples,) for shape in shapes):
        raise ValueError(
            f"`conditions` must be an array of {num_samples} rows, or a list of such. "
            f"Received: shapes {shapes}"
        )
    return conditions


def check_clip(clip):
    """A pair of ascending numbers, or `None`."""
    if clip is not None and not (len(clip) == 2 and clip[0] < clip[1]):
        raise ValueError(f"`clip` must be two ascending numbers, or None. Received: clip={clip!r}")
    return clip
