"""Adversarial training that gets its perturbations from the gradients it computes anyway."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops, tree

from keras_regularize.attacks.bounds import Bounds, check_bounds, clip_to_bounds
from keras_regularize.attacks.channels import per_channel
from keras_regularize.attacks.inputs import check_within
from keras_regularize.attacks.points import (
    check_floating,
    check_input_names,
    floating_leaves,
    ids_refused,
    movable,
    replace_floating,
)
from keras_regularize.models.regularized_model import RegularizedModel
from keras_regularize.numerics import upcast
from keras_regularize.registration import export
from keras_regularize.validation import check_integer, check_numbers


@export
class FreeAdversarialTraining(RegularizedModel):
    r"""Adversarial training at the cost of plain training: each backward pass serves weights and perturbation.

    Every batch is replayed $m$ times. A replay takes one gradient of the loss at $x + \delta$, in the weights
    and in $\delta$ at once, then an optimizer step, and

    $$\delta \leftarrow \mathrm{clip}\big(\delta + \epsilon\,\mathrm{sign}(\nabla_\delta L),
    -\epsilon, \epsilon\big).$$

    $\delta$ stays in the model and goes on with the next batch; a shorter batch uses its first rows. $x + \delta$
    is clipped to `bounds`. Divide the number of epochs by $m$: a batch makes $m$ optimizer steps, which
    learning-rate schedules count, batch statistics move $m$ times, and the logged loss and metrics are those of
    the first replay, on adversarial inputs.

    The one gradient of a replay is that of the compiled loss, which in float32 keeps its direction up to a
    confidence of about 1 - 1e-7: beyond, attacks of their own (`AdversarialTraining`) are more exact.

    A gradient rule around it, as in `AWP(FreeAdversarialTraining(model))`, acts in each replay, and $\delta$
    follows the gradient at the unperturbed weights. On TensorFlow replicas and torch processes $\delta$ is
    averaged, which weakens it: train on one device there, or on JAX, which sees the whole batch.

    Args:
        model: The model to train, or another wrapper; the shapes of its inputs must be known.
        epsilon: Radius $\epsilon$ of the $L_\infty$ ball, in units of the inputs, at least 0; or a list of one for
            each channel, as `kr.attacks.FGSM` takes it.
        replays: Number $m$ of replays, at least 1. 8 is the authors' choice for CIFAR-10, 4 for ImageNet.
        batch_size: Number of samples that have a perturbation: the size of the largest batch.
        bounds: Smallest and largest allowed input, each a number or a list of one for each channel; or `None`, for
            inputs without any. Inputs farther than `epsilon` outside are an error.
        inputs: Names (dictionary) or positions (list) of the inputs that are perturbed, as the model itself has
            them; the others stay as they are (they may be ids). All floating ones by default.
        **kwargs: `name` and other arguments of `keras.Model`.

    Raises:
        ValueError: If an argument is out of range, the model has no floating input or does not know their
            shapes, inputs lie farther than `epsilon` outside the bounds, or a batch is larger than `batch_size`.

    Cost: `replays` forward-backward passes per batch (the same number per optimizer step as plain training), and
    memory for one batch of inputs.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    net = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    model = kr.models.FreeAdversarialTraining(net, epsilon=0.1, replays=4, batch_size=8)
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    x = np.random.default_rng(0).random((16, 4))
    model.fit(x, np.arange(16) % 3, batch_size=8, verbose=0)
    ```

    Reference: Shafahi, Najibi, Ghiasi, Xu, Dickerson, Studer, Davis, Taylor and Goldstein, *Adversarial Training
    for Free!*, NeurIPS 2019, arXiv:1904.12843.
    """

    def __init__(
        self,
        model: keras.Model,
        epsilon: float | Sequence[float] = 8 / 255,
        replays: int = 8,
        batch_size: int = 128,
        bounds: Bounds | None = (0.0, 1.0),
        inputs: Sequence[str | int] | None = None,
        **kwargs: Any,
    ):
        super().__init__(model, **kwargs)
        self.epsilon = check_numbers("epsilon", epsilon, minimum=0)
        self.replays = check_integer("replays", replays, minimum=1)
        self.batch_size = check_integer("batch_size", batch_size, minimum=1)
        self.bounds = check_bounds(bounds, None)
        self.moved_inputs = check_input_names(inputs)
        options = {"initializer": "zeros", "trainable": False, "aggregation": "mean"}
        self.perturbations = [
            self.add_weight(shape=(self.batch_size, *shape), name="perturbation", **options)
            for shape in self._perturbed_shapes()
        ]

    @property
    def updates_per_batch(self):
        return self.replays * super().updates_per_batch

    @property
    def checks_values(self):
        return self.bounds is not None or super().checks_values

    def check_data(self, x, y):
        super().check_data(x, y)
        check_floating(x, self.moved_inputs)
        if self.bounds is not None:
            check_within(x, self.bounds, self.epsilon, self.moved_inputs)

    def prepare(self, batch, forward):
        batch = super().prepare(batch, forward)
        rows = ops.shape(floating_leaves(batch.x, self.moved_inputs)[0])[0]
        if isinstance(rows, int) and rows > self.batch_size:
            raise ValueError(
                f"A batch must have at most `batch_size={self.batch_size}` samples, as many as have a "
                f"perturbation. Received a batch of {rows}"
            )
        values = (ops.convert_to_tensor(variable) for variable in self.perturbations)
        return batch.add(**{self.key: [value[:rows] for value in values]})

    def objective(self, batch, forward):
        leaves = floating_leaves(batch.x, self.moved_inputs)
        wide = [upcast(x) for x in leaves]
        moved = [x + ops.cast(delta, x.dtype) for x, delta in zip(wide, batch.extra[self.key])]
        moved = clip_to_bounds(moved, self.bounds)
        moved = [ops.cast(new, leaf.dtype) for new, leaf in zip(moved, leaves)]
        x = replace_floating(batch.x, moved, self.moved_inputs)
        with ids_refused(forward, batch.x, self.moved_inputs):
            return super().objective(batch.replace(x=x), forward)

    def gradients(self, objective, weights, batch):
        return super().gradients(objective.also_in(self.key), weights, batch)

    def after_update(self, batch, aux, gradients):
        super().after_update(batch, aux, gradients)
        given = zip(self.perturbations, batch.extra[self.key], aux.values[self.key])
        for variable, delta, gradient in given:
            # An overflow under loss scaling costs a step, it must not stay in the perturbation.
            sign = ops.where(ops.isfinite(gradient), ops.sign(gradient), 0.0)
            epsilon = per_channel(self.epsilon, delta)
            delta = ops.clip(delta + epsilon * sign, -epsilon, epsilon)
            rest = ops.convert_to_tensor(variable)[ops.shape(delta)[0] :]
            variable.assign(ops.concatenate([delta, rest], axis=0))

    def _perturbed_shapes(self):
        base = self.innermost
        if not getattr(base, "inputs", None):
            raise ValueError(
                f"`{type(self).__name__}` needs a model that knows the shapes of its inputs, such as a "
                f"`Sequential` model with a `keras.Input`. Received: {base!r}"
            )
        inputs = self.symbolic_inputs()
        places = movable(inputs, self.moved_inputs)
        shapes = [t.shape[1:] for t, moves in zip(tree.flatten(inputs), places) if moves]
        if not shapes or any(None in shape for shape in shapes):
            raise ValueError(
                f"`{type(self).__name__}` needs floating inputs of known shapes; convert images by "
                '`x.astype("float32")`, outside the model. Received a model with '
                f"inputs {[(t.shape, t.dtype) for t in base.inputs]}"
            )
        return shapes

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "epsilon": self.epsilon,
            "replays": self.replays,
            "batch_size": self.batch_size,
            "bounds": self.bounds,
            "inputs": self.moved_inputs,
        }
