"""Networks that respond to hyperparameters, and find these by the validation loss of the response."""

import dataclasses
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from keras_regularize import autodiff
from keras_regularize.autodiff import Batch, Forward, backend
from keras_regularize.autodiff.functional import read_state, read_values
from keras_regularize.layers.self_tuning.response import RESPONSE
from keras_regularize.models._paired_batches import paired_with_validation
from keras_regularize.models.hyperparameters import Hyperparameter, perturbation_entropy
from keras_regularize.models.regularized_model import RegularizedModel
from keras_regularize.models.step.objective import scaled
from keras_regularize.models.step.optimizers import Optimizers, scaled_optimizer
from keras_regularize.registration import export
from keras_regularize.validation import check_choice, check_integer, check_number

VALIDATION = "validation"


@export
class SelfTuningNetwork(RegularizedModel):
    r"""Finds dropout rates, noise and other hyperparameters in one training, by the validation loss.

    The weights are functions of the hyperparameters $h$: those of `kr.layers.SelfTuningDense` and its siblings.
    Each sample is trained with hyperparameters of its own, $h_b = h + \mathrm{softplus}(s)\,\epsilon_b$, so that
    the network learns which weights are best for which $h$. Between these steps, others lower

    $$L_{\mathrm{val}}\big(w(h_b)\big) - \tau\, H(s)$$

    over $h$ and the scales $s$ alone, with the entropy $H$ of the noise, `kr.hyper.perturbation_entropy`: the
    hyperparameters move to where the validation loss is least, through what the weights make of them, and the
    noise becomes as large as the response is good for. What is found is a schedule, the best at each time.

    The wrapped model has the inputs `[x, h]` or `[x, h, values]`. The layers that respond take `h`, real numbers
    without bounds. What acts on the training alone takes the constrained `values`, `kr.layers.HyperDropout`
    and `kr.layers.HyperGaussianNoise` or layers of your own that act if `training`. Give `fit` the data `x` alone,
    and the `validation_data` that the hyperparameters are tuned by; keep a third part of your data to measure what
    came out. `evaluate` and `predict` are at the hyperparameters found, without noise. Logs of `fit` contain their
    values by name.

    `style="delta"` is the Delta-STN: the weights that do not respond are trained at $h$ itself, and the response,
    which is a function of $h_b - h$, by its linear part, the derivative of the outputs. Make its layers with
    `hyper_initializer="zeros"`, and take `train_steps=5`.

    In a loop of your own, `train_on_batch(x, {"label": y, "validation": ((x_val, y_val),)})` gives a step its
    validation batches, and `end_epoch()` counts those of the warm-up. It is the outermost wrapper:
    `SelfTuningNetwork(SAM(model), …)`. A callback that sets the learning rate scales those of the hyperparameters
    alike.

    Args:
        model: A functional model with a list of two or three inputs, or a wrapper of one.
        hyperparameters: A list of `kr.hyper.Hyperparameter`, in the order of the columns of `h`.
        train_steps: Steps of the weights between those of the hyperparameters, at least 1.
        validation_steps: Steps of the hyperparameters in a row, each on a batch of its own, at least 1.
        warmup_epochs: Epochs at the beginning in which the weights alone are trained.
        tune_scales: Whether the scales of the noise move.
        entropy_weight: $\tau \ge 0$.
        style: `"stn"` or `"delta"`.
        hyper_optimizer: Optimizer of the hyperparameters; `None` for Adam of rate 0.003, or with `"delta"` RMSprop
            of rate 0.01.
        scale_optimizer: Optimizer of the scales, another one; `None` for the same.
        seed: Seed of the noise.
        **kwargs: `name` and other arguments of `keras.Model`.

    Attributes:
        epochs: Variable with the number of epochs so far.

    Raises:
        ValueError: If an argument is out of range, the model has other inputs, there are no labels or validation
            data, or it is inside of another wrapper.

    Cost: one forward-backward pass per step, and one of a validation batch for every `train_steps`. With `"delta"`
    two passes and, through a derivative of the outputs, two to three more.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    x, h, values = keras.Input((8,)), keras.Input((1,)), keras.Input((1,))
    z = kr.layers.SelfTuningDense(16, activation="relu")([x, h])
    z = kr.layers.HyperDropout(index=0)([z, values])
    net = keras.Model([x, h, values], kr.layers.SelfTuningDense(1)([z, h]))

    rate = kr.hyper.Hyperparameter("dropout", 0.05, lower=0.0, upper=0.9)
    model = kr.models.SelfTuningNetwork(net, [rate], warmup_epochs=1)
    model.compile("adam", "mse")
    data, y = np.random.normal(size=(96, 8)), np.random.normal(size=96)
    model.fit(data[:64], y[:64], validation_data=(data[64:], y[64:]), epochs=3, verbose=0)
    print(model.values)
    ```

    Reference: Matthew MacKay, Paul Vicol, Jon Lorraine, David Duvenaud and Roger Grosse, *Self-Tuning Networks:
    Bilevel Optimization of Hyperparameters using Structured Best-Response Functions*, ICLR 2019,
    arXiv:1903.03088. The style `delta`: Juhan Bae and Roger Grosse, *Delta-STN: Efficient Bilevel Optimization for
    Neural Networks using Structured Response Jacobians*, NeurIPS 2020, arXiv:2010.13514.
    """

    def __init__(
        self,
        model: keras.Model,
        hyperparameters: Sequence[Hyperparameter],
        train_steps: int = 2,
        validation_steps: int = 1,
        warmup_epochs: int = 5,
        tune_scales: bool = True,
        entropy_weight: float = 1e-3,
        style: str = "stn",
        hyper_optimizer: Any = None,
        scale_optimizer: Any = None,
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(model, **kwargs)
        self.hyperparameters = _checked(hyperparameters)
        self.initial_hyperparameters = [dataclasses.asdict(h) for h in self.hyperparameters]
        self.train_steps = check_integer("train_steps", train_steps, minimum=1)
        self.validation_steps = check_integer("validation_steps", validation_steps, minimum=1)
        self.warmup_epochs = check_integer("warmup_epochs", warmup_epochs, minimum=0)
        self.tune_scales = bool(tune_scales)
        self.entropy_weight = check_number("entropy_weight", entropy_weight, minimum=0)
        self.style = check_choice("style", style, ("stn", "delta"))
        self.double_backward = style == "delta"
        self.hyper_optimizer = self._optimizer(hyper_optimizer)
        self.scale_optimizer = self._optimizer(scale_optimizer)
        if self.hyper_optimizer is self.scale_optimizer:
            raise ValueError(
                "Hyperparameters and scales need an optimizer each. Received one for both."
            )
        self.seed = check_integer("seed", seed, optional=True)
        self.seed_generator = keras.random.SeedGenerator(seed)
        self._check_inputs()
        self.raw_values = self._row("raw_values", [h.raw_value for h in self.hyperparameters])
        self.scale_logits = self._row("scale_logits", [h.scale_logit for h in self.hyperparameters])
        self.epochs = self.add_weight(
            shape=(),
            initializer="zeros",
            dtype="int32",
            trainable=False,
            aggregation="only_first_replica",
            name="epochs",
        )
        # Under a name before `optimizer`, so that files have them in one place whether it is compiled or not.
        self.hyper_optimizers = {
            "hyperparameters": self.hyper_optimizer,
            "scales": self.scale_optimizer,
        }
        self.hyper_optimizer.build([self.raw_values])
        self.scale_optimizer.build([self.scale_logits])

    # What was found

    @property
    def values(self) -> dict[str, float]:
        """The hyperparameters by name."""
        values = ops.convert_to_numpy(self._constrained(self.raw_values.value[None]))[0]
        return {h.name: float(value) for h, value in zip(self.hyperparameters, values)}

    @property
    def scales(self) -> dict[str, float]:
        """The standard deviations of the noise by name, of the numbers without bounds."""
        scales = ops.convert_to_numpy(ops.softplus(self.scale_logits.value))
        return {h.name: float(scale) for h, scale in zip(self.hyperparameters, scales)}

    # The model with hyperparameters

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        leaves = tree.flatten(inputs)
        if len(leaves) == len(self.innermost.inputs):
            return super().call(inputs, training)
        return super().call(self._inputs(inputs, self._repeated(leaves[0])), training)

    def compute_output_spec(self, inputs, training=None, mask=None):
        rows = [keras.KerasTensor(t.shape, t.dtype) for t in self.innermost.input[1:]]
        if len(tree.flatten(inputs)) < len(self.innermost.inputs):
            inputs = [inputs, *rows]
        return self.model(inputs, training=training)

    def compute_output_shape(self, input_shape):
        spec = tree.map_shape_structure(lambda shape: keras.KerasTensor(shape), input_shape)
        return tree.map_structure(lambda t: t.shape, self.compute_output_spec(spec))

    def symbolic_inputs(self):
        return super().symbolic_inputs()[0]

    def training_inputs(self, batch):
        x = super().training_inputs(batch)
        given = batch.extra.get(self.key)
        return x if given is None else self._inputs(x, given)

    def _inputs(self, x, hyper):
        """What the wrapped model is called on, for a row of hyperparameters without bounds of each sample."""
        center = ops.stop_gradient(ops.convert_to_tensor(self.raw_values))
        response = hyper - center if self.style == "delta" else hyper
        x = tree.map_structure(ops.convert_to_tensor, x)  # Keras takes no arrays beside tensors.
        inputs = [x, response, ops.stop_gradient(self._constrained(hyper))]
        return inputs[: len(self.innermost.input)]

    def _constrained(self, raw):
        columns = [h.constrain(raw[:, i]) for i, h in enumerate(self.hyperparameters)]
        return ops.stack(columns, axis=1)

    def _repeated(self, x, raw=None):
        """A row of hyperparameters for each sample of `x`, all the same."""
        raw = ops.convert_to_tensor(self.raw_values if raw is None else raw)
        return ops.broadcast_to(raw[None], (ops.shape(x)[0], len(self.hyperparameters)))

    def _noise(self, x):
        """Standard normal noise for each sample of `x`."""
        size = ops.shape(tree.flatten(x)[0])[0]
        shape = (size, len(self.hyperparameters))
        noise = keras.random.normal(shape, dtype="float32", seed=self.seed_generator)
        if not any(h.shared for h in self.hyperparameters):
            return noise
        shared = np.array([h.shared for h in self.hyperparameters])
        return ops.where(shared, noise[:1], noise)

    def _outputs(self, forward, x, hyper, training):
        """Outputs at given hyperparameters, in the Delta-STN those of the linear part of the response."""
        if self.style == "stn":
            return forward(self._inputs(x, hyper), training=training)
        _, response, *values = self._inputs(x, hyper)
        outputs, moved = autodiff.jvp(
            lambda h: forward([x, h, *values], training=training),
            ops.zeros_like(response),
            response,
        )
        return tree.map_structure(ops.add, outputs, moved)

    # The step of the weights

    def prepare(self, batch, forward):
        batch = super().prepare(batch, forward)
        x = tree.flatten(batch.x)[0]
        if self.style == "delta":
            return batch.add(**{self.key: self._repeated(x)})
        return batch.add(**{self.key: self._perturbed(batch.x, self.raw_values, self.scale_logits)})

    def _perturbed(self, x, raw, logits):
        scale = ops.softplus(ops.convert_to_tensor(logits))
        return self._repeated(tree.flatten(x)[0], raw) + scale * self._noise(x)

    def gradients(self, objective, weights, batch):
        loss, aux, gradients = super().gradients(objective, weights, batch)
        places = [i for i, v in enumerate(batch.variables) if v.name in RESPONSE]
        if self.style == "stn" or not places:
            return loss, aux, gradients
        # At the center the response is nothing, and so is its gradient there.
        x = super().training_inputs(batch)
        hyper = self._perturbed(x, self.raw_values, self.scale_logits)

        def response(values):
            moved = list(weights)
            for i, value in zip(places, values):
                moved[i] = value
            forward = objective.forward(moved)
            return scaled(self._loss(forward, batch, x, hyper, True), objective.scale)

        added = autodiff.grad(response)([weights[i] for i in places])
        added = backend.reduce_mean_over_replicas([scaled(g, 1.0 / objective.scale) for g in added])
        gradients = list(gradients)
        for i, gradient in zip(places, added):
            gradients[i] = gradients[i] + gradient
        return loss, aux, gradients

    def _loss(self, forward, batch, x, hyper, training):
        """The compiled loss at given hyperparameters, without penalties."""
        outputs = self._outputs(forward, x, hyper, training)
        losses, weights = forward.weighted_losses(batch, outputs)
        return ops.mean(losses * weights)

    # The step of the hyperparameters

    def _update(self, variables, x, y, sample_weight):
        loss, aux = super()._update(variables, x, y, sample_weight)
        _, columns = self.split_columns(y)
        if VALIDATION not in columns:
            raise ValueError(
                "`SelfTuningNetwork` needs `fit(…, validation_data=…)`, or batches with a column 'validation' "
                f"beside their 'label'. Received: y with {sorted(columns) or 'no columns'}"
            )
        steps = ops.convert_to_tensor(self.optimizer.iterations)
        turn = ops.equal(steps % self.train_steps, 0)
        warm = ops.convert_to_tensor(self.epochs) >= self.warmup_epochs

        # Read here: in a branch there are the variables that it assigns.
        weights, state, scale = read_values(variables), read_state(self), self.loss_scale()

        def tune():
            for part in columns[VALIDATION]:
                batch = Batch(*keras.utils.unpack_x_y_sample_weight(tuple(part)))
                self._tune(batch, weights, state, scale)

        slots = [self.raw_values, self.scale_logits, self.seed_generator.state]
        slots += [*self.hyper_optimizer.variables, *self.scale_optimizer.variables]
        backend.run_or_undo(ops.logical_and(turn, warm), tune, slots)
        return loss, aux

    def _tune(self, batch, weights, state, scale):
        """One step of the hyperparameters, and of their scales."""
        variables = [self.raw_values, self.scale_logits]
        noise = self._noise(batch.x) if self.tune_scales else 0.0

        def objective(values):
            raw, logits = values
            hyper = self._repeated(tree.flatten(batch.x)[0], raw) + ops.softplus(logits) * noise
            forward = Forward(self, weights, state)
            loss = self._loss(forward, batch, batch.x, hyper, False)
            loss = ops.cast(loss, "float32")
            if self.tune_scales:
                loss = loss - self.entropy_weight * perturbation_entropy(logits)
            return scaled(loss, scale)

        gradients = autodiff.grad(objective)(read_values(variables))
        gradients = backend.reduce_mean_over_replicas([scaled(g, 1.0 / scale) for g in gradients])

        def step():
            self.optimizer.step("hyperparameters", gradients[:1])
            if self.tune_scales:
                self.optimizer.step("scales", gradients[1:])

        if isinstance(scale, float):
            step()
        else:
            finite = ops.logical_and(*[ops.all(ops.isfinite(g)) for g in gradients])
            own = [*self.hyper_optimizer.variables, *self.scale_optimizer.variables]
            backend.run_or_undo(finite, step, [*variables, *own])

    def loss_scale(self):
        return self.optimizer.scale("weights")

    def apply_gradients(self, gradients, variables):
        self.optimizer.step("weights", gradients)
        self.optimizer.iterations.assign_add(1)

    def _logs(self, *arguments: Any, **options: Any) -> Any:
        logs = super()._logs(*arguments, **options)
        values = self._constrained(ops.convert_to_tensor(self.raw_values)[None])[0]
        return {**logs, **{h.name: values[i] for i, h in enumerate(self.hyperparameters)}}

    # Keras

    def compile(self, optimizer: Any = "rmsprop", *args: Any, **kwargs: Any) -> None:
        """As `keras.Model.compile`: the optimizer is that of the weights."""
        automatic = kwargs.pop("auto_scale_loss", True)
        weights = scaled_optimizer(optimizer, self.dtype_policy) if automatic else optimizer
        weights = keras.optimizers.get(weights)
        every = Optimizers({"weights": weights, **self.hyper_optimizers}, self._own_variables)
        super().compile(every, *args, auto_scale_loss=False, **kwargs)
        self._compile_arguments |= {"optimizer": weights, "auto_scale_loss": automatic}
        if self.built:
            self.optimizer.build()

    def _own_variables(self):
        return {
            "weights": self.trainable_variables,
            "hyperparameters": [self.raw_values],
            "scales": [self.scale_logits],
        }

    def end_epoch(self) -> None:
        """Counts an epoch, as `fit` does."""
        self.epochs.assign(self.epochs + 1)

    def training_callbacks(self):
        ends = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: self.end_epoch())
        return [*super().training_callbacks(), ends]

    def check_loss(self, model):
        super().check_loss(model)
        if model is not self:
            raise ValueError(
                "`SelfTuningNetwork` must be the outermost wrapper, since it has optimizers of its own: "
                f"`SelfTuningNetwork({type(model).__name__}(…), …)`."
            )
        if self.computes_own_loss:
            raise ValueError(
                "`SelfTuningNetwork` needs the compiled loss, and cannot use a `compute_loss` of the model."
            )

    def fit(
        self, x: Any = None, y: Any = None, *args: Any, **kwargs: Any
    ) -> keras.callbacks.History:
        """As `keras.Model.fit`; `validation_data` or `validation_split` is what hyperparameters are tuned by."""
        given = inspect.signature(keras.Model.fit).bind(self, x, y, *args, **kwargs).arguments
        options = {name: given[name] for name in given if name not in ("self", "x", "y")}
        if VALIDATION in self.split_columns(y)[1]:
            return super().fit(x, y, **options)
        data, options = paired_with_validation(x, y, options, self.validation_steps, self._joined)
        return super().fit(data, **options)

    def _joined(self, batch, validation):
        if len(batch) < 2 or any(len(part) < 2 for part in validation):
            raise ValueError(
                "`SelfTuningNetwork` needs labels, of training and validation data. Received: y=None"
            )
        label, columns = self.split_columns(batch[1])
        return (batch[0], {"label": label, **columns, VALIDATION: validation}, *batch[2:])

    # Arguments

    def _optimizer(self, optimizer):
        if optimizer is not None:
            return keras.optimizers.get(optimizer)
        if self.style == "delta":
            return keras.optimizers.RMSprop(0.01)
        return keras.optimizers.Adam(0.003)

    def _row(self, name, values):
        return self.add_weight(
            shape=(len(values),),
            initializer=lambda shape, dtype: ops.convert_to_tensor(values, dtype=dtype),
            dtype="float32",
            trainable=False,
            autocast=False,
            aggregation="only_first_replica",
            name=name,
        )

    def _check_inputs(self):
        given = getattr(self.innermost, "input", None)
        size = len(self.hyperparameters)
        rows = given[1:] if isinstance(given, (list, tuple)) else []
        if len(rows) not in (1, 2) or any(tuple(t.shape) != (None, size) for t in rows):
            raise ValueError(
                "`SelfTuningNetwork` needs a functional model with inputs `[x, h]` or `[x, h, values]`, the last "
                f"ones of shape (batch, {size}), a column for each hyperparameter. Received inputs: {given}"
            )


def _checked(hyperparameters):
    if isinstance(hyperparameters, Hyperparameter) or not hyperparameters:
        raise ValueError(
            f"`hyperparameters` must be a list of `kr.hyper.Hyperparameter`. Received: {hyperparameters!r}"
        )
    found = [Hyperparameter(**h) if isinstance(h, Mapping) else h for h in hyperparameters]
    names = [getattr(h, "name", None) for h in found]
    if not all(isinstance(h, Hyperparameter) for h in found) or len(set(names)) < len(names):
        raise ValueError(
            "`hyperparameters` must be a list of `kr.hyper.Hyperparameter` with names of their own. "
            f"Received: {hyperparameters!r}"
        )
    return found
