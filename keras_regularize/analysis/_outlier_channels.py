"""Channels of activations that stand out, where quantization loses most."""

import contextlib
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from keras_regularize.autodiff.taps import tap
from keras_regularize.validation import check_integer, check_number


def outlier_channels(
    model: keras.Model, data: Any, ratio: float = 6.0, batch_size: int = 128
) -> dict[str, np.ndarray]:
    r"""Finds the input channels of dense and convolutional layers that are far larger than the others.

    Channel $c$ of the inputs $x$ of a layer is an outlier if

    $$\operatorname{mean}_t |x_{tc}| > \rho\, \operatorname{mean}_{t, c'} |x_{tc'}|$$

    over all positions $t$ of the data. One step size for all channels then wastes its levels on that one. A layer
    of fewer than $\rho$ channels has none. `kr.regularizers.ActivationKurtosis` on the layer in front trains
    them away.

    Args:
        model: A built model, or a wrapper of one; nested models are searched. Layers inside custom layers are
            not.
        data: Inputs as arrays, in any nested structure the model takes.
        ratio: $\rho > 0$.
        batch_size: Number of samples at once, at least 1.

    Returns:
        A dictionary from the `path` of a layer with a `kernel` to the integer array of its outlier channels,
        for every such layer that the model calls.

    Raises:
        ValueError: If an argument is out of range or there is no sample.

    Cost: one forward pass over the data, not compiled.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    model = keras.Sequential([keras.Input((16,)), keras.layers.Dense(8), keras.layers.Dense(2)])
    x = np.random.default_rng(0).normal(size=(100, 16))
    x[:, 3] *= 100
    kr.analysis.outlier_channels(model, x)  # {'dense': array([3]), 'dense_1': array([], dtype=int64)}
    ```

    Reference: Aniruddha Nrusimha, Mayank Mishra, Naigang Wang, Dan Alistarh, Rameswar Panda and Yoon Kim,
    *Mitigating the Impact of Outlier Channels for Language Model Quantization with Activation Regularization*,
    2024, arXiv:2404.03605.
    """
    check_number("ratio", ratio, above=0)
    check_integer("batch_size", batch_size, minimum=1)
    data = tree.map_structure(np.asarray, data)
    size = len(tree.flatten(data)[0])
    if size == 0:
        raise ValueError("`data` must have at least one sample. Received none.")
    totals: dict[str, Any] = {}
    counts: dict[str, Any] = {}
    with contextlib.ExitStack() as stack:
        for layer in _kernel_layers(model):
            stack.enter_context(_watched(layer, totals, counts))
        for start in range(0, size, batch_size):
            batch = tree.map_structure(lambda leaf, s=start: leaf[s : s + batch_size], data)
            model(tree.map_structure(ops.convert_to_tensor, batch), training=False)
    found = {}
    for path, total in totals.items():
        means = total / counts[path]
        found[path] = np.flatnonzero(means > ratio * means.mean())
    return found


def _kernel_layers(model):
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _kernel_layers(layer)
        elif hasattr(layer, "kernel"):
            yield layer


def _watched(layer, totals, counts):
    """Context in which calls of `layer` add the sizes of its input channels to `totals[path]`."""

    def add(outputs, inputs, *_, **__):
        sizes = np.abs(np.asarray(ops.convert_to_numpy(ops.cast(inputs, "float32")), "float64"))
        if getattr(layer, "data_format", None) == "channels_first":
            sizes = np.moveaxis(sizes, 1, -1)
        rows = sizes.reshape((-1, sizes.shape[-1]))
        totals[layer.path] = totals.get(layer.path, 0.0) + rows.sum(axis=0)
        counts[layer.path] = counts.get(layer.path, 0) + len(rows)
        return outputs

    return tap(layer, add)
