"""Ranges of quantizers from data."""

from typing import Any

import keras
from keras import ops, tree

from keras_regularize.layers.quantization._rounding import calibration


def calibrate_quantizers(model: keras.layers.Layer, x: Any) -> None:
    r"""Sets the ranges of all quantizers in a model to what they meet on one batch.

    Each quantizer tries 80 ranges, from the full one of the data down to a fifth, and takes the one with the
    least mean of $|x - \hat x|^{2.4}$; a later one sees what the earlier ones let through. Activations that are
    never negative get unsigned levels if the quantizer is symmetric. `QuantizedWeights` fit their kernels as
    they are now. Call it once before quantization-aware training, or to quantize a trained model without
    further training.

    Args:
        model: A built Keras model, or a layer, with `FakeQuantize`, `QuantizedWeights`,
            `LearnedClipQuantizer` or `QuantizedInputs` in it. It runs eagerly and for inference.
        x: A batch of inputs as arrays, some hundred samples.

    Raises:
        ValueError: If `model` is not a Keras layer.

    Cost: one forward pass and 80 elementwise passes over every tensor that is quantized, in NumPy.

    Example:

    ```python
    import keras
    import keras_regularize as kr
    import numpy as np

    model = keras.Sequential([keras.Input((4,)), kr.layers.FakeQuantize(bits=4)])
    kr.layers.calibrate_quantizers(model, np.random.default_rng(0).normal(size=(64, 4)))
    ```

    Reference: Xu, Han, Tian, Yang and Zhang, *EQ-Net: Elastic Quantization Neural Networks*, ICCV 2023,
    arXiv:2308.07650.
    """
    if not isinstance(model, keras.layers.Layer):
        raise ValueError(f"`model` must be a Keras model or layer. Received: model={model!r}")
    with calibration():
        model(tree.map_structure(ops.convert_to_tensor, x), training=False)
