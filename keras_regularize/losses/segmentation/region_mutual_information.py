"""Mutual information of the neighbourhoods of pixels in prediction and target."""

from keras import ops

from keras_regularize.losses.segmentation.segmentation_loss import SegmentationLoss
from keras_regularize.numerics import matmul
from keras_regularize.registration import export
from keras_regularize.validation import check_integer, check_number


@export
class RegionMutualInformation(SegmentationLoss):
    r"""Binary cross-entropy and a bound on what neighbourhoods of the prediction leave unknown of the target's.

    Each class has its mask $y$ and the sigmoid $p$ of its logit, pooled and cut into windows of $R \times R$
    pixels, columns of $Y$ and $P$ from which their means are subtracted. With

    $$M = Y Y^\top - Y P^\top (P P^\top + \epsilon I)^{-1} P Y^\top,$$

    the value of an image is $w$ times the binary cross-entropy, summed over classes and averaged over pixels, plus
    $1 - w$ times $\sum_c \frac{1}{2 R^2} \log \det (M_c + \epsilon I)$: the log-volume of what a linear
    estimate from the prediction cannot tell of the target. It is negative for good predictions, without a bound
    at 0.

    Args:
        radius: Side $R \ge 1$ of the windows.
        pool_size: Side of the max pooling before, with steps of the same size; 1 for none.
        weight: Weight $w$ of the cross-entropy, in [0, 1].
        epsilon: $\epsilon > 0$ on the diagonals. Images with no more windows than $R^2$ have singular products;
            float32 keeps 1e-3 well.
        ignore_class: Class id of pixels that do not count in the cross-entropy, and are 0 in both masks, or
            `None`.
        reduction: Reduction of the values as in `keras.losses.Loss`.
        name: Name of the loss.
        dtype: Dtype of the computation, as in `keras.losses.Loss`.

    Call arguments:
        y_true: Class ids `(batch, height, width)` or one-hot or soft rows `(batch, height, width, classes)`.
        y_pred: Logits `(batch, height, width, classes)`, of which each has its own sigmoid, as the authors do.

    Returns:
        With `reduction="none"` one value per image `(batch,)`, else a scalar.

    Raises:
        ValueError: If an argument is out of its range, there are not two axes of space, or they are smaller than a
            window.

    Cost: per class, products of the windows of $2 R^2 n$ numbers with themselves, for $n$ windows, and a Cholesky
    decomposition of $R^2 \times R^2$.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    loss = kr.losses.RegionMutualInformation()
    y_true = np.random.randint(0, 3, size=(2, 16, 16))
    loss(y_true, np.random.normal(size=(2, 16, 16, 3)))
    ```

    Reference: Shuai Zhao, Yang Wang, Zheng Yang, Deng Cai, *Region Mutual Information Loss for Semantic
    Segmentation*, NeurIPS 2019, arXiv:1910.12037.
    """

    def __init__(
        self,
        radius: int = 3,
        pool_size: int = 3,
        weight: float = 0.5,
        epsilon: float = 5e-4,
        ignore_class: int | None = None,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "region_mutual_information",
        dtype: str | None = None,
    ):
        super().__init__(True, True, ignore_class, name=name, reduction=reduction, dtype=dtype)
        self.radius = check_integer("radius", radius, 1)
        self.pool_size = check_integer("pool_size", pool_size, 1)
        self.weight = check_number("weight", weight, minimum=0, maximum=1)
        self.epsilon = check_number("epsilon", epsilon, above=0)

    def image_values(self, pixels):
        y, x = pixels.labels, pixels.scores
        entropy = ops.sum(pixels.count(ops.softplus(x) - x * y), axis=1)
        p = pixels.count(ops.sigmoid(x) + 1e-6)
        information = self._information(self._windows(pixels, y), self._windows(pixels, p))
        return self.weight * self.mean(pixels, entropy) + (1.0 - self.weight) * information

    def _windows(self, pixels, x):
        """Windows of `x (batch, classes, pixels)` less their means: `(batch, classes, radius², windows)`."""
        if len(pixels.spatial) != 2:
            raise ValueError(
                "Expected images with two axes of space, (batch, height, width, classes). Received: "
                f"{len(pixels.spatial)} axes of space"
            )
        x = pixels.in_space(x)
        if self.pool_size > 1:
            x = self._pooled(x)
        height, width = (size - self.radius + 1 for size in x.shape[2:])
        if height < 1 or width < 1:
            raise ValueError(
                f"Expected images of at least {self.radius} × {self.radius} pixels after pooling. Received: "
                f"{x.shape[2]} × {x.shape[3]}"
            )
        shifts = [(i, j) for i in range(self.radius) for j in range(self.radius)]
        parts = [x[:, :, i : i + height, j : j + width] for i, j in shifts]
        vectors = ops.reshape(
            ops.stack(parts, axis=2), (-1, x.shape[1], self.radius**2, height * width)
        )
        return vectors - ops.sum(vectors, axis=-1, keepdims=True) / (height * width)

    def _pooled(self, x):
        size, rim = self.pool_size, self.pool_size // 2
        x = ops.pad(x, ((0, 0), (0, 0), (rim, rim), (rim, rim)), constant_values=-1.0)
        flat = ops.reshape(x, (-1, *x.shape[2:], 1))
        flat = ops.max_pool(flat, size, strides=size, padding="valid", data_format="channels_last")
        return ops.reshape(flat, (-1, x.shape[1], *flat.shape[1:3]))

    def _information(self, y, p):
        """Sums over the classes `(batch,)`."""

        def product(a, b):
            return matmul(a, ops.swapaxes(b, -1, -2))

        def factor(matrix):
            return ops.cholesky(matrix + self.epsilon * ops.eye(self.radius**2, dtype=matrix.dtype))

        # With L Lᵀ = P Pᵀ + ε I, M is Y Yᵀ less the product of L⁻¹ P Yᵀ with itself.
        explained = ops.solve_triangular(factor(product(p, p)), product(p, y), lower=True)
        rest = product(y, y) - matmul(ops.swapaxes(explained, -1, -2), explained)
        diagonal = ops.diagonal(factor(rest), axis1=-2, axis2=-1)
        return ops.sum(ops.log(diagonal), axis=(-2, -1)) / self.radius**2
