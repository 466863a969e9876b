"""A penalty on the gradient of the loss with respect to the inputs."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_regularize.attacks.points import check_floating, check_input_names
from keras_regularize.models._input_gradients import inner_products, input_gradients
from keras_regularize.models.regularized_model import RegularizedModel
from keras_regularize.registration import export
from keras_regularize.validation import check_number


@export
class InputGradientPenalty(RegularizedModel):
    r"""Makes the loss flat in the inputs, so that small changes of them change it little.

    $$L + \lambda\,\frac1B\sum_i \big\|\nabla_x \ell(x_i, y_i)\big\|_2^2$$

    with $\ell$ the compiled loss per sample, and the norm over all floating inputs of a sample. Known as
    double backpropagation and as gradient regularization; it makes models somewhat robust to small
    perturbations and their input gradients easier to read. `kr.analysis.input_gradient_norm` measures what
    it penalizes.

    The gradient is that of the model in training mode with the dropout masks of the step. Rows are exact
    gradients of their samples where the layers treat samples independently; batch normalization in training
    does not quite.

    On TensorFlow with batch normalization in training mode, the second derivatives that the step needs are wrong:
    Keras takes moments by an operation that treats the mean within the variance as a constant.

    Args:
        model: The model to train, or another wrapper.
        factor: Weight $\lambda$ of the penalty, at least 0; or a schedule. It has the unit of the inputs
            squared: start near 0.01 for standardized features, higher for pixels in [0, 1].
        layer: Layer, or its name, with respect to whose output the gradient is taken instead; needed for
            token ids (give the embedding).
        inputs: Names (dictionary) or positions (list) of the inputs with respect to which the gradient is taken
            (the others may be ids); all floating ones by default. Not together with `layer`.
        **kwargs: `name` and other arguments of `keras.Model`.

    Raises:
        ValueError: If an argument is out of range, labels are missing, or no input is floating and `layer` is
            not given.

    Cost: one forward-backward pass, and a forward pass with a double backward (about three passes more);
    with `layer` one more forward pass. `torch.compile` cannot do that: `jit_compile=True` runs eagerly on
    torch, with a warning.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    net = keras.Sequential([keras.Input((4,)), keras.layers.Dense(5, "tanh"), keras.layers.Dense(3)])
    model = kr.models.InputGradientPenalty(net, factor=0.1)
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    x = np.random.default_rng(0).random((8, 4))
    model.fit(x, np.arange(8) % 3, verbose=0)
    ```

    Reference: Drucker and Le Cun, *Improving Generalization Performance Using Double Backpropagation*, IEEE
    Transactions on Neural Networks 1992. Ross and Doshi-Velez, *Improving the Adversarial Robustness and
    Interpretability of Deep Neural Networks by Regularizing their Input Gradients*, AAAI 2018,
    arXiv:1711.09404.
    """

    double_backward = True

    def __init__(
        self,
        model: keras.Model,
        factor: Any = 0.1,
        layer: Any = None,
        inputs: Sequence[str | int] | None = None,
        **kwargs: Any,
    ):
        check_number("factor", factor, minimum=0, schedule=True)
        super().__init__(model, **kwargs)
        self.factor = factor
        self.layer = layer.name if isinstance(layer, keras.layers.Layer) else layer
        self.moved_inputs = check_input_names(inputs, self.layer)

    def check_data(self, x, y):
        super().check_data(x, y)
        if self.layer is None:
            check_floating(x, self.moved_inputs)
        if y is None:
            raise ValueError(f"`{type(self).__name__}` needs labels `y`. Received: y=None")

    def objective(self, batch, forward):
        loss, values = super().objective(batch, forward)
        gradients = input_gradients(forward, batch, self.layer, inputs=self.moved_inputs)
        penalty = forward.sample_mean(inner_products(gradients, gradients), batch)
        factor = self.scheduled(self.factor, batch)
        return loss + ops.cast(factor * penalty, loss.dtype), values

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "factor": keras.saving.serialize_keras_object(self.factor),
            "layer": self.layer,
            "inputs": self.moved_inputs,
        }
