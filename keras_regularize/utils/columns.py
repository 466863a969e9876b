"""Extra columns of a sample that ride in `y`."""

from collections.abc import Mapping
from typing import Any

import numpy as np


def with_index(y: Any, **columns: Any) -> dict[str, Any]:
    """Labels with the index of each sample, for methods that remember something per sample.

    Args:
        y: Labels, an array with one row per sample.
        **columns: Further columns of the same length, such as `group=groups`.

    Returns:
        `{"label": y, "index": 0 … len(y) - 1, **columns}`, which the models of this package take as `y` in
        `fit`; the compiled loss and metrics see the label. Indices are 32-bit integers.

    Raises:
        ValueError: If `y` is a dictionary, or a column's length differs from that of `y`, or is called `label` or
            `index`.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    y = kr.utils.with_index(np.array([1, 0, 1]))  # {"label": [1, 0, 1], "index": [0, 1, 2]}
    ```
    """
    if isinstance(y, Mapping):
        raise ValueError(
            "`with_index` takes the labels of one output, an array. "
            f"Received a dictionary {sorted(y)}; add an `index` column to it yourself."
        )
    size = len(y)
    for name, column in columns.items():
        if name in ("label", "index"):
            raise ValueError(
                f"The column name {name!r} is taken. Received columns {sorted(columns)}"
            )
        if len(column) != size:
            raise ValueError(
                f"Column {name!r} must have one entry per label. "
                f"Received {len(column)} entries for {size} labels"
            )
    return {"label": y, "index": np.arange(size, dtype="int32"), **columns}
