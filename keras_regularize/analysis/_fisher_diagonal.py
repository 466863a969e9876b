"""The diagonal of the Fisher information of a model's weights."""

import contextlib
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from keras_regularize import autodiff
from keras_regularize.autodiff import backend
from keras_regularize.autodiff.compiled_losses import sample_losses
from keras_regularize.numerics import log_probabilities
from keras_regularize.scores import class_log_probabilities, class_outputs, gives_logits
from keras_regularize.utils.variables import weight_like


def fisher_diagonal(
    model: keras.Model,
    x: Any,
    y: Any = None,
    seed: int | None = None,
    from_logits: bool | None = None,
) -> list[np.ndarray]:
    r"""How much the predictions of a model depend on each of its weights.

    $$F_j = \frac1n \sum_{i=1}^n \left(\frac{\partial \log p(y_i \mid x_i; w)}{\partial w_j}\right)^2,$$

    with the squares of single samples' gradients, not of a batch's. With labels this is the empirical Fisher
    information, in which $-\log p$ is the compiled loss per sample; without, labels are drawn from the model's
    own predictions, which gives the true one in expectation. The model runs in inference mode and is not
    changed. `kr.regularizers.EWC` and `kr.models.WeightPenalty(…, anchors="weighted")` take it as the
    importance of weights.

    Args:
        model: A built and compiled model; without `y` a classifier with one output.
        x: Inputs as arrays, in any nested structure the model takes.
        y: Labels as the loss takes them, or `None` to draw them.
        seed: Seed of the drawn labels.
        from_logits: Whether outputs are logits, where labels are drawn; `None` asks the compiled loss.

    Returns:
        A list of float32 arrays of the shapes of `model.trainable_variables`, in that order, none negative.

    Raises:
        ValueError: If the model is not built or not compiled, or there is no sample.

    Cost: a forward and a backward pass per sample, one sample at a time; a few hundred samples are enough as
    a rule.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    kernel, bias = kr.analysis.fisher_diagonal(model, np.ones((5, 4)), np.arange(5) % 3)
    ```

    Reference: James Kirkpatrick and others, *Overcoming catastrophic forgetting in neural networks*, PNAS 2017,
    arXiv:1612.00796; on drawn and given labels Frederik Kunstner, Lukas Balles and Philipp Hennig,
    *Limitations of the Empirical Fisher Approximation for Natural Gradient Descent*, NeurIPS 2019,
    arXiv:1905.12558.
    """
    if not model.built or not model.compiled:
        raise ValueError(
            "`fisher_diagonal` needs a built and compiled model. Received: "
            f"{model.name!r}, built={model.built}, compiled={model.compiled}"
        )
    x = tree.map_structure(np.asarray, x)
    size = len(tree.flatten(x)[0])
    if size == 0:
        raise ValueError("`x` must have at least one sample. Received none.")
    if y is None:
        y, loss = _drawn(model, x, gives_logits(model, from_logits), seed)
    else:
        y, loss = tree.map_structure(np.asarray, y), model.loss
    measured = _Measured(model, loss)
    with _undivided_batches(), backend.keep_weights_on_error(measured):
        measured.predict({"x": x, "y": y}, batch_size=1, verbose=0)
    return [np.asarray(ops.convert_to_numpy(total)) / size for total in measured.totals]


@contextlib.contextmanager
def _undivided_batches():
    """Lets every device see the whole batch, as one sample cannot be divided; weights stay where they are."""
    distribution = keras.distribution.distribution()
    keras.distribution.set_distribution(None)
    try:
        yield
    finally:
        keras.distribution.set_distribution(distribution)


def _drawn(model, x, from_logits, seed):
    """A class per row of outputs (and position), with the probabilities the model gives, and their loss."""
    outputs = class_outputs(model.predict(x, verbose=0), model)
    scores = np.asarray(ops.convert_to_numpy(log_probabilities(outputs, from_logits)), "float64")
    noise = np.random.default_rng(seed).gumbel(size=scores.shape)
    y = np.argmax(scores + noise, axis=-1).astype("int32")

    def loss(y_true, outputs):
        scores = class_log_probabilities(class_outputs(outputs, model), from_logits)
        hot = ops.one_hot(ops.cast(y_true, "int32"), scores.shape[-1], dtype=scores.dtype)
        return -ops.sum(hot * scores, axis=-1)

    return y, loss


class _Measured(keras.Model):
    """Adds the squared gradients at a single sample `{"x": …, "y": …}` to `totals`; gives out its loss."""

    def __init__(self, model, loss):
        super().__init__(name="fisher_diagonal", autocast=False)
        self.model = model
        self.measured_loss = loss
        self.totals = [
            weight_like(
                self, v, dtype="float32", trainable=False, autocast=False, name=f"total_{i}"
            )
            for i, v in enumerate(model.trainable_variables)
        ]
        modes = ("run_eagerly", "jit_compile")
        self.compile(**{mode: getattr(model, mode) for mode in modes})
        self.build(None)

    def build(self, input_shape):
        """Nothing to create; without it Keras would call the model once eagerly."""

    def call(self, inputs):
        def of_sample(weights):
            outputs = autodiff.Forward(self.model, weights)(inputs["x"])
            losses = sample_losses(self.measured_loss, inputs["y"], outputs)
            return ops.sum(losses), losses

        variables = self.model.trainable_variables
        gradients, losses = autodiff.grad(of_sample, has_aux=True)([v.value for v in variables])
        for total, gradient in zip(self.totals, gradients):
            total.assign_add(ops.square(ops.cast(gradient, "float32")))
        return losses
