"""Complexity of networks that are chains of shallow blocks."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops

from keras_regularize.layers.accordion_block import unit_products
from keras_regularize.validation import check_integer, check_number


def f1_norm(kernel_in: Any, kernel_out: Any, bias_in: Any = None) -> Any:
    r"""The F1-norm of a shallow block: what its weights say about the complexity of its function.

    $$\sum_i \lVert v_i \rVert_2 \sqrt{\lVert w_i \rVert_2^2 + c_i^2}$$

    over the hidden units of $x \mapsto b + V \sigma(W x + c)$, with the weights $w_i, c_i$ into unit $i$ and
    $v_i$ out of it. It is at most $\frac12(\lVert V\rVert_F^2 + \lVert W\rVert_F^2 + \lVert c\rVert^2)$, with
    equality if units are balanced, so that weight decay on both kernels lowers it. For ReLU it does not change
    if a unit's incoming weights are scaled and its outgoing ones divided, or if a unit is split in two. Of a
    low norm few units are active, however wide the block. Dead units count as 0, with gradient 0.

    Args:
        kernel_in: `(in, hidden)`, the kernel of the first dense layer.
        kernel_out: `(hidden, out)`, that of the second.
        bias_in: `(hidden,)`, the bias of the first, or `None`.

    Returns:
        A scalar tensor in at least float32, which can be differentiated.

    Raises:
        ValueError: If shapes do not match.

    Example:

    ```python
    import keras
    import keras_regularize as kr

    model = keras.Sequential([
        keras.Input((4,)), keras.layers.Dense(16, activation="relu"), keras.layers.Dense(2)
    ])
    first, second = model.layers
    norm = kr.analysis.f1_norm(first.kernel, second.kernel, first.bias)
    ```

    Reference: Arthur Jacot, Seok Hoan Choi and Yuxiao Wen, *How DNNs break the Curse of Dimensionality:
    Compositionality and Symmetry Learning*, 2024, arXiv:2407.05664.
    """
    return ops.sum(unit_products(kernel_in, kernel_out, bias_in))


def accnet_bound(
    blocks: Sequence[tuple[Any, Any]], num_samples: int = 1, input_radius: float = 1.0
) -> float:
    r"""How the generalization gap of a chain of shallow blocks grows with its weights.

    $$\frac{r}{\sqrt N} \prod_l \lVert V_l \rVert \lVert W_l \rVert\;
    \sum_l \frac{\lVert V_l \rVert_F \lVert W_l \rVert_F}{\lVert V_l \rVert \lVert W_l \rVert}
    \sqrt{d_l + d_{l-1}},$$

    with the largest length $r$ of an input, operator norms $\lVert\cdot\rVert$ and the dimensions $d_{l-1}$ into
    and $d_l$ out of block $l$, the narrow places of the chain: the widths inside the blocks do not appear. It is
    the complexity that a bound on the gap between test and training loss is proportional to, up to constants and
    logarithms: for comparing networks, not a certificate. The authors' code has half of
    $\lVert V_l\rVert_F^2 + \lVert W_l\rVert_F^2$ in the place of $\lVert V_l\rVert_F \lVert W_l\rVert_F$, which is
    at least that, and (stable) ranks in the place of the dimensions. This form does not change if a block's
    $W_l$ is multiplied by a number and its $V_l$ divided by it.

    Args:
        blocks: For every block its kernels $(W, V)$ of shapes `(in, hidden)` and `(hidden, out)`, in order.
        num_samples: Number $N$ of training samples.
        input_radius: Largest Euclidean length $r$ of an input, at least 0.

    Returns:
        A float; 0 if a kernel is zero.

    Raises:
        ValueError: If there is no block, shapes do not match, `num_samples` is below 1 or `input_radius` below 0.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    rng = np.random.default_rng(0)
    blocks = [
        (rng.normal(size=(5, 100)) / 10, rng.normal(size=(100, 2)) / 10),
        (rng.normal(size=(2, 100)) / 10, rng.normal(size=(100, 1)) / 10),
    ]
    complexity = kr.analysis.accnet_bound(blocks, num_samples=1000)
    ```

    Reference: Arthur Jacot, Seok Hoan Choi and Yuxiao Wen, *How DNNs break the Curse of Dimensionality:
    Compositionality and Symmetry Learning*, 2024, arXiv:2407.05664. The form is that of the
    authors' code; constants and logarithms are left out.
    """
    check_integer("num_samples", num_samples, minimum=1)
    check_number("input_radius", input_radius, minimum=0)
    kernels = [
        tuple(np.asarray(ops.convert_to_numpy(kernel), "float64") for kernel in block)
        for block in blocks
    ]
    shapes = [tuple(kernel.shape for kernel in block) for block in kernels]
    flat = [shape for block in shapes for shape in block]
    if (
        not flat
        or any(len(block) != 2 for block in shapes)
        or any(len(shape) != 2 for shape in flat)
        or any(before[1] != after[0] for before, after in zip(flat, flat[1:]))
    ):
        raise ValueError(
            "`blocks` must be a chain of pairs of kernels (in, hidden) and (hidden, out). "
            f"Received kernels of shapes {shapes}"
        )
    spectral = [[np.linalg.norm(kernel, 2) for kernel in block] for block in kernels]
    frobenius = [[np.linalg.norm(kernel) for kernel in block] for block in kernels]
    product = math.prod(w * v for w, v in spectral)
    if product == 0:
        return 0.0
    total = sum(
        norms[0] * norms[1] / (largest[0] * largest[1]) * math.sqrt(shape[0][0] + shape[1][1])
        for norms, largest, shape in zip(frobenius, spectral, shapes)
    )
    return float(input_radius * product * total / math.sqrt(num_samples))
