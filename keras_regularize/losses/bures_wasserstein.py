"""The distance between normal distributions, as a loss of covariances."""

from keras import ops

from keras_regularize.losses.loss import Loss
from keras_regularize.ops.bures import bures_distance, covariances
from keras_regularize.registration import export
from keras_regularize.validation import check_number


@export
class BuresWasserstein(Loss):
    r"""Squared Bures-Wasserstein distance of covariances: how far mass has to move from one normal to the other.

    $$\operatorname{tr} A + \operatorname{tr} B
      - 2 \operatorname{tr} \big(A^{1/2} B A^{1/2}\big)^{1/2}, \qquad B = \hat B + \tau I$$

    for the covariance $A$ of the data and the predicted $\hat B$: the squared Wasserstein distance of normal
    distributions of equal means. Where $\hat B$ loses rank the loss is not smooth, and $\tau > 0$ makes it so; the
    target stays as it is, so that the minimum is at $\hat B = A - \tau I$. `kr.regularizers.BuresWasserstein` is
    the distance for the kernel of a linear generator, `kr.metrics.FrechetDistance` that of features.

    The gradient in $B$ is $I - T$ with the transport map $T$ from $B$ to $A$, found without derivatives of
    eigenvectors. Directions that $\hat B$ does not have at $\tau = 0$ get none of $T$. Matrices are symmetrized,
    and eigenvalues below 0 are 0; targets get no gradient, and there is no second derivative.

    Args:
        epsilon: $\tau \ge 0$.
        reduction: Reduction of the values as in `keras.losses.Loss`.
        name: Name of the loss.
        dtype: Dtype of the computation, as in `keras.losses.Loss`.

    Call arguments:
        y_true: $A$, `(batch, d, d)`.
        y_pred: $\hat B$, `(batch, d, d)`.

    Returns:
        With `reduction="none"` one value per pair `(batch,)`, else a scalar. Further axes behind the batch are
        those of further pairs.

    Raises:
        ValueError: If `epsilon` is negative, or the shapes do not fit.

    Cost: two eigendecompositions per pair.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    loss = kr.losses.BuresWasserstein()
    loss(np.array([np.diag([1.0, 4.0])]), np.array([np.diag([4.0, 4.0])]))  # (2 - 1)² = 1
    ```

    Reference: Pierre Bréchet, Katerina Papagiannouli, Jing An and Guido Montúfar, *Critical Points and Convergence
    Analysis of Generative Deep Linear Networks Trained with Bures-Wasserstein Loss*, ICML 2023, arXiv:2303.03027.
    """

    def __init__(
        self,
        epsilon: float = 0.0,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "bures_wasserstein",
        dtype: str | None = None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.epsilon = check_number("epsilon", epsilon, minimum=0)

    def call(self, y_true, y_pred):
        target, model = covariances(y_true, y_pred)
        return bures_distance(
            target, model + self.epsilon * ops.eye(model.shape[-1], dtype=model.dtype)
        )
