"""Pruning by what weights contribute to their units."""

import contextlib
import functools
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from keras_regularize.analysis import relative_importance
from keras_regularize.autodiff.taps import tap
from keras_regularize.callbacks.fitting import find_masks, without_wrappers
from keras_regularize.validation import check_number


class RelativeImportancePruning(keras.callbacks.Callback):
    r"""Prunes, when training begins, the weights that contribute least to their units on some data.

    The importance of a weight is its share in what its unit sums up, averaged over the data
    (`kr.analysis.relative_importance` with `normalization="sum"`):

    $$r_{ij} = \frac1n \sum_t \frac{|w_{ij} x_{ti}|}{\sum_k |w_{kj} x_{tk}| + |b_j|} .$$

    A large weight on an input that is mostly zero counts little, a small one on a strong input much. The
    samples of a layer that is called several times are those of all calls. In every dense and 2-D
    convolutional layer of the model itself (not of models inside it) either the `sparsity` share of least
    importance becomes zero for good, or what lies `threshold` standard deviations below the mean of its unit.
    The training that follows recovers the accuracy; call `fit` again with a higher sparsity to go on.

    The model must be compiled with `kr.optimizers.Masked(optimizer)`, possibly inside further wrappers.

    Args:
        data: Inputs of the model, as `predict` takes them; some hundred samples will do.
        sparsity: Part of a layer's kernel to prune, in $[0, 1)$; counts what is pruned already. This or
            `threshold`.
        threshold: $k \ge 0$: prune where $r_{ij} < \mu_j - k \sigma_j$, the mean and deviation over the weights
            of a unit.

    Raises:
        ValueError: Unless exactly one of the two numbers is given and in range; when training begins, if the
            optimizer keeps no masks or the model is not a functional or Sequential one with such layers.

    Cost: one prediction of the data with the inputs of all layers kept, and two matrix products per layer, once.

    Example:

    ```python
    import keras
    import keras_regularize as kr
    import numpy as np

    x = np.random.default_rng(0).normal(size=(32, 4)).astype("float32")
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile(kr.optimizers.Masked("sgd"), "mse")
    pruning = kr.callbacks.RelativeImportancePruning(x, sparsity=0.5)
    model.fit(x, x[:, :1], callbacks=[pruning], verbose=0)
    ```

    Reference: Mostafa Hussien, Mahmoud Afifi, Kim Khoa Nguyen and Mohamed Cheriet, *Small Contributions, Small
    Networks: Efficient Neural Network Pruning Based on Relative Importance*, 2024, arXiv:2410.16151. The paper
    divides by the output, which may be near zero; the sum is safer for a ranking.
    """

    def __init__(self, data: Any, sparsity: float | None = None, threshold: float | None = None):
        super().__init__()
        if (sparsity is None) == (threshold is None):
            raise ValueError(
                "Give either `sparsity` or `threshold`. "
                f"Received: sparsity={sparsity!r}, threshold={threshold!r}"
            )
        self.data = data
        self.sparsity = check_number("sparsity", sparsity, minimum=0, below=1, optional=True)
        self.threshold = check_number("threshold", threshold, minimum=0, optional=True)

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Called by Keras."""
        optimizer = find_masks(self)
        kept = {
            id(layer.kernel): self._kept(
                relative_importance(inputs, layer.kernel, layer.bias, "sum")
            )
            for layer, inputs in self._layers_and_inputs()
        }
        variables = self.model.trainable_variables
        masks = [
            old & kept[id(v)] if id(v) in kept else None
            for v, old in zip(variables, optimizer.get_masks())
        ]
        optimizer.set_masks(masks)

    def _kept(self, importance):
        r = ops.convert_to_numpy(importance)
        if self.sparsity is None:
            over = tuple(range(r.ndim - 1))
            mean, deviation = r.mean(over), r.std(over)
            return r >= mean - self.threshold * deviation
        keep = np.ones(r.size, bool)
        keep[np.argsort(r, axis=None, kind="stable")[: int(self.sparsity * r.size)]] = False
        return keep.reshape(r.shape)

    def _layers_and_inputs(self):
        model = without_wrappers(self.model)
        found = [layer for layer in model.layers if _is_prunable(layer)]
        if not found or not hasattr(model, "inputs"):
            raise ValueError(
                "`RelativeImportancePruning` needs a functional or Sequential model with dense or 2-D "
                f"convolutional layers. Received: {model!r}"
            )
        taken = _Inputs(model, found).predict(self.data, verbose=0)
        return [(layer, _rows(layer, calls)) for layer, calls in zip(found, taken)]


class _Inputs(keras.Model):
    """What some layers of a model take, at each of their calls."""

    def __init__(self, model, found):
        super().__init__(name="inputs_of_layers")  # TensorFlow takes no leading underscore.
        self.model, self.found = model, found

    def call(self, inputs):
        taken: list[list[Any]] = [[] for _ in self.found]
        with contextlib.ExitStack() as taps:
            for layer, calls in zip(self.found, taken):
                taps.enter_context(tap(layer, functools.partial(_note, calls)))
            self.model(inputs, training=False)
        return taken


def _note(calls, outputs, inputs, *_, **__):
    calls.append(inputs)
    return outputs


def _is_prunable(layer):
    if isinstance(layer, layers.Conv2D):
        return layer.trainable and layer.groups == 1 and layer.data_format == "channels_last"
    return isinstance(layer, layers.Dense) and layer.trainable


def _rows(layer, calls):
    """What a unit of the layer sees in all calls, `(samples, features)`."""
    patches = [_patches(layer, x) for x in calls]
    return ops.concatenate([ops.reshape(x, (-1, x.shape[-1])) for x in patches])


def _patches(layer, x):
    if isinstance(layer, layers.Dense):
        return x
    return ops.image.extract_patches(
        x,
        layer.kernel_size,
        strides=layer.strides,
        dilation_rate=layer.dilation_rate,
        padding=layer.padding,
        data_format="channels_last",
    )
