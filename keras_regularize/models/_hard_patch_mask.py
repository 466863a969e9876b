"""Which patches of an image to hide."""

from typing import Any

import keras
from keras import ops

from keras_regularize.numerics import upcast
from keras_regularize.validation import check_number


def hard_patch_mask(
    scores: Any,
    noise: Any = None,
    mask_ratio: float = 0.75,
    hard_fraction: Any = 0.5,
    seed: Any = None,
) -> Any:
    r"""Masks of patches of which a part is the hardest and the others are random.

    Of $L$ patches $M = L - \lfloor L (1 - r) \rfloor$ are masked: the $\lfloor M h \rfloor$ with the largest
    scores and, of the others, those with the largest noise. Each row has exactly $M$ ones.

    Args:
        scores: How hard each patch is, `(batch, patches)`, such as the predicted loss.
        noise: Random numbers `(batch, patches)` between 0 and 1; drawn by default.
        mask_ratio: $r$, 0 to 1.
        hard_fraction: $h$, 0 to 1, a number or a scalar tensor.
        seed: Of the noise, an integer or a `keras.random.SeedGenerator`.

    Returns:
        1 where a patch is masked, else 0, `(batch, patches)`, in the dtype of the scores, at least float32.

    Raises:
        ValueError: If a share is out of range or scores are no rows of known size.

    Cost: two sorts of each row.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    mask = kr.models.hard_patch_mask(np.random.normal(size=(4, 16)), mask_ratio=0.5)
    ```

    Reference: Haochen Wang, Kaiyou Song, Junsong Fan, Yuxi Wang, Jin Xie and Zhaoxiang Zhang, *Hard Patches Mining
    for Masked Image Modeling*, CVPR 2023, arXiv:2304.05919.
    """
    check_number("mask_ratio", mask_ratio, minimum=0, maximum=1)
    scores = ops.stop_gradient(upcast(scores))
    if len(scores.shape) != 2 or scores.shape[1] is None:
        raise ValueError(
            f"`scores` must be `(batch, patches)`. Received: shape={tuple(scores.shape)}"
        )
    if not ops.is_tensor(hard_fraction):
        hard_fraction = check_number("hard_fraction", hard_fraction, minimum=0, maximum=1)
    if noise is None:
        noise = keras.random.uniform(ops.shape(scores), dtype=scores.dtype, seed=seed)
    noise = ops.cast(ops.convert_to_tensor(noise), scores.dtype)
    masked = number_masked(scores.shape[1], mask_ratio)
    # The product of two shares may be a hair below a whole number.
    hard = ops.floor(ops.cast(masked * hard_fraction, scores.dtype) + 1e-4)
    hardest = ops.cast(_rank(scores), scores.dtype) < hard
    first = ops.where(hardest, 2.0, noise)
    return ops.cast(_rank(first) < masked, scores.dtype)


def number_masked(patches, mask_ratio):
    """How many of the patches are masked."""
    return patches - int(patches * (1.0 - mask_ratio) + 1e-6)


def _rank(x):
    """0 for the largest entry of each row, and so on."""
    return ops.argsort(ops.argsort(-x, axis=-1), axis=-1)
