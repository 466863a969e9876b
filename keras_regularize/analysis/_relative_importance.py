"""What each weight contributes to its unit, for pruning."""

from typing import Any

from keras import ops

from keras_regularize.numerics import upcast
from keras_regularize.utils.groups import filter_matrix
from keras_regularize.validation import check_choice, check_number


def relative_importance(
    inputs: Any,
    kernel: Any,
    bias: Any = None,
    normalization: str = "output",
    epsilon: float = 1e-12,
) -> Any:
    r"""The share that every weight has in the output of its unit, averaged over data.

    $$r_{ij} = \frac1n \sum_t \left|\frac{w_{ij} x_{ti}}{a_{tj}}\right|,\qquad
    a_{tj} = \sum_k w_{kj} x_{tk} + b_j,$$

    the relative change of the pre-activation $a$ if the weight were not there. Weights of small importance can
    be pruned with little change of the unit, whatever their size. A pre-activation near zero makes single
    samples huge; `normalization="sum"` divides by $\sum_k |w_{kj} x_{tk}| + |b_j|$ instead, which bounds the
    importance by 1 and without a bias makes the importances of a unit add up to 1 (over the samples that are
    not zero). Ranking weights is safer with it.

    Args:
        inputs: What the layer sees, `(…, in)`. For a convolution its patches, from
            `keras.ops.image.extract_patches`.
        kernel: Its kernel, `(in, out)`, or `(…, in, out)` with as many entries per filter as the inputs have.
        bias: Its bias `(out,)`, or `None`.
        normalization: `"output"` as in the paper, or `"sum"`.
        epsilon: Least denominator, positive: what keeps zero outputs finite.

    Returns:
        A tensor of the kernel's shape, in at least float32; zeros if there are no inputs.

    Raises:
        ValueError: If an argument is out of range or shapes do not match.

    Cost: two matrix products, `2 · n · in · out` multiplications; no array of that size.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    layer = keras.layers.Dense(3)
    x = np.random.default_rng(0).normal(size=(50, 4)).astype("float32")
    layer(x)
    importance = kr.analysis.relative_importance(x, layer.kernel, layer.bias, "sum")
    ```

    Reference: Mostafa Hussien, Mahmoud Afifi, Kim Khoa Nguyen and Mohamed Cheriet, *Small Contributions, Small
    Networks: Efficient Neural Network Pruning Based on Relative Importance*, 2024, arXiv:2410.16151. The sum
    form is ours.
    """
    check_choice("normalization", normalization, ("output", "sum"))
    check_number("epsilon", epsilon, above=0)
    kernel = upcast(kernel)
    bias = None if bias is None else upcast(bias)
    matrix = filter_matrix(kernel)
    inputs = upcast(inputs)
    if len(kernel.shape) < 2 or not len(inputs.shape) or inputs.shape[-1] != matrix.shape[0]:
        raise ValueError(
            "`inputs` must have as many features as a filter has weights. Received: inputs of shape "
            f"{tuple(inputs.shape)} and a kernel of shape {tuple(kernel.shape)}"
        )
    if bias is not None and tuple(bias.shape) != (matrix.shape[1],):
        raise ValueError(
            f"`bias` must have an entry per unit, {matrix.shape[1]}. Received: bias of shape "
            f"{tuple(bias.shape)}"
        )
    inputs = ops.reshape(inputs, (-1, matrix.shape[0]))
    sizes, weights = ops.abs(inputs), ops.abs(matrix)
    if normalization == "output":
        outputs = ops.matmul(inputs, matrix)
        outputs = ops.abs(outputs if bias is None else outputs + bias)
    else:
        outputs = ops.matmul(sizes, weights)
        outputs = outputs if bias is None else outputs + ops.abs(bias)
    shares = ops.matmul(ops.transpose(sizes), 1.0 / ops.maximum(outputs, epsilon))
    count = ops.cast(ops.shape(inputs)[0], matrix.dtype)
    return ops.reshape(weights * shares / ops.maximum(count, 1.0), kernel.shape)
