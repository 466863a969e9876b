"""Two views of a sample close to each other, and the features of each view apart."""

from keras import ops

from keras_regularize.losses.contrastive._views import ViewsLoss, as_weights, two_views
from keras_regularize.numerics import maximum
from keras_regularize.ops.points import lengths, tree_edges
from keras_regularize.registration import export
from keras_regularize.validation import check_number


@export
class TREGS(ViewsLoss):
    r"""Self-supervised loss of two views, kept from collapsing by the minimum spanning trees of their features.

    With the features $z_i, z'_i$ of the two views of sample $i$ and the penalty of `regularizers.TREG`,

    $$\frac{\beta}{B} \sum_i \|z_i - z'_i\|^2 + T(Z) + T(Z'), \qquad
      T(Z) = -\frac{\gamma}{B} \sum_{(i, j) \in \mathrm{MST}(Z)} \|z_i - z_j\|
      + \frac{\lambda}{B} \sum_i (\|z_i\| - 1)^2.$$

    There are no negative pairs, no second network and no statistics of the batch. It is one number for a batch,
    and each sample has it. Samples that do not count, of weight 0 or masked, are in no tree.

    On several TensorFlow replicas, or in training in several processes of PyTorch, the batch is that of all of
    them, as it is under `keras.distribution` on JAX.

    Args:
        invariance_factor: $\beta \ge 0$. With $\beta \ge \gamma \ge \lambda$ features do not collapse, as
            the authors found.
        factor: $\gamma \ge 0$.
        sphere_factor: $\lambda \ge 0$.
        reduction: How the values become one, as in `keras.losses.Loss`.
        name: Name of the loss.
        dtype: Dtype of the computation, as in `keras.losses.Loss`.

    Call arguments:
        y_true: Not used, may be `None`.
        y_pred: Features `(batch, 2, dim)`, not normalized.

    Returns:
        With `reduction="none"` one value per sample `(batch,)`, all alike, else a scalar.

    Raises:
        ValueError: If an argument is negative, or the features are not those of two views.

    Cost: two matrix products $B^2 D$ without gradient, $2 B$ steps of $B$ operations one after the other, and a
    few passes over the features.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    x = np.random.normal(size=(64, 8))
    views = x[:, None] + 0.1 * np.random.normal(size=(64, 2, 8))
    model = keras.Sequential([keras.layers.Dense(16, "relu"), keras.layers.Dense(4)])
    model.compile("adam", loss=kr.losses.TREGS())
    model.fit(views, np.zeros(64), verbose=0)
    ```

    Reference: Julie Mordacq, David Loiseaux, Vicky Kalogeiton and Steve Oudot, *T-REGS: Minimum Spanning Tree
    Regularization for Self-Supervised Learning*, NeurIPS 2025, arXiv:2510.23484.
    """

    def __init__(
        self,
        invariance_factor: float = 10.0,
        factor: float = 0.2,
        sphere_factor: float = 8e-4,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "tregs",
        dtype: str | None = None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.invariance_factor = check_number("invariance_factor", invariance_factor, minimum=0)
        self.factor = check_number("factor", factor, minimum=0)
        self.sphere_factor = check_number("sphere_factor", sphere_factor, minimum=0)

    def sample_values(self, y_true, z, here):
        views = two_views(z)
        weights = as_weights(here, views[0])
        count = maximum(ops.sum(weights), 1.0)
        gaps = ops.sum(ops.square(views[0] - views[1]), axis=-1)
        total = self.invariance_factor * ops.sum(weights * gaps)
        for view in views:
            total = total + self.sphere_factor * ops.sum(weights * ops.square(lengths(view) - 1.0))
            if here is not None:
                # In a tree, what does not count stands where a sample does that counts.
                view = ops.where(here[:, None], view, view[ops.argmax(weights)])
            total = total - self.factor * ops.sum(tree_edges(view))
        return total / count * ops.ones_like(weights)
