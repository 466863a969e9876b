"""Features as float64 rows."""

from typing import Any

import numpy as np


def as_features(features: Any, width: int | None = None) -> np.ndarray:
    """`features` as float64 `(n, d)`, all finite; of the `width` of those in `fit`, where it is given."""
    rows = np.asarray(features, "float64")
    expected = "(n, d)" if width is None else f"(n, {width}), as in `fit`"
    if rows.ndim != 2 or not rows.shape[1] or (width is not None and rows.shape[1] != width):
        raise ValueError(
            f"Expected features {expected}; pool or flatten those of further axes. Received: "
            f"features.shape={np.shape(features)}"
        )
    if not np.isfinite(rows).all():
        count = rows.size - np.isfinite(rows).sum()
        raise ValueError(f"Expected finite features. Received: {count} that are not finite")
    return rows
