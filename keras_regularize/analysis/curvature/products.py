"""Products of the loss' Hessian, and of its Gauss-Newton part, with vectors."""

from typing import Any

import keras
import numpy as np

from keras_regularize.analysis._objective import Objective
from keras_regularize.analysis._progress import progress


def hessian_vector_product(
    model: keras.Model,
    x: Any,
    y: Any = None,
    vector: Any = None,
    *,
    sample_weight: Any = None,
    loss: Any = None,
    batch_size: int = 32,
    include_regularization: bool = False,
) -> list[np.ndarray]:
    r"""The Hessian of a model's mean loss in its weights, times a vector.

    $$H v = \nabla^2_w \Big(\frac1n \sum_i \ell(f_w(x_i), y_i)\Big)\, v$$

    exactly, without ever holding $H$. Everything that is known of curvature in large networks comes from such
    products.

    Args:
        model: A built model, or a wrapper of one; it runs in inference mode and is not changed.
        x: Inputs as arrays, in any nested structure the model takes, or a dataset of batches as `fit` takes them.
        y: Labels as the loss takes them; `None` with a dataset.
        vector: $v$, a list of arrays in the shapes of `model.trainable_variables`.
        sample_weight: Weights of samples, or `None`; also the third entry of a dataset's batches.
        loss: A loss of Keras, or a name or function of one with a value per sample; by default the compiled one.
        batch_size: Samples at once where `x` is arrays; it changes time and memory only, but where a loss takes
            the samples of a batch together, as the mean over unmasked positions does in `evaluate`.
        include_regularization: Whether the model's penalties of weights and activities are part of the loss.

    Returns:
        A list of arrays in the shapes of `model.trainable_variables`.

    Raises:
        ValueError: If the model is not built, there is no loss or no sample, or the vector has other shapes.

    Cost: two to three gradients per batch, in the memory of two. On torch the graph of the gradient is kept where
    all data is one batch, so that further products of the functions built on this one take two.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    model.compile("sgd", "mse")
    x, y = np.random.normal(size=(20, 4)), np.random.normal(size=(20, 3))
    vector = [np.ones(v.shape) for v in model.trainable_variables]
    product = kr.analysis.hessian_vector_product(model, x, y, vector)
    ```

    Reference: Barak A. Pearlmutter, *Fast Exact Multiplication by the Hessian*, Neural Computation 1994.
    """
    objective = Objective(
        "hessian_vector_product",
        model,
        x,
        y,
        sample_weight,
        loss,
        batch_size,
        include_regularization,
    )
    product = objective.hessian_product(objective.checked("vector", vector))
    return objective.unflat(product, tensors=False)


def gauss_newton_vector_product(
    model: keras.Model,
    x: Any,
    y: Any = None,
    vector: Any = None,
    *,
    sample_weight: Any = None,
    loss: Any = None,
    batch_size: int = 32,
    include_regularization: bool = False,
) -> list[np.ndarray]:
    r"""The Gauss-Newton part of the Hessian of a model's mean loss, times a vector.

    $$G v = \frac1n \sum_i J_i^\top A_i J_i\, v,\qquad J_i = \frac{\partial f_w(x_i)}{\partial w},\quad
    A_i = \frac{\partial^2 \ell}{\partial f^2}(f_w(x_i), y_i),$$

    the Hessian of the loss with the model linearized in its weights: equal to it for a linear model, and positive
    semidefinite if the loss is convex in the outputs. The outputs are those of the model: give it logits and a
    loss of logits for what is usually meant, which then is the Fisher information of the cross-entropy.

    Args:
        model: A built model, or a wrapper of one; it runs in inference mode and is not changed.
        x: Inputs as arrays, in any nested structure the model takes, or a dataset of batches as `fit` takes them.
        y: Labels as the loss takes them; `None` with a dataset.
        vector: $v$, a list of arrays in the shapes of `model.trainable_variables`.
        sample_weight: Weights of samples, or `None`; also the third entry of a dataset's batches.
        loss: A loss of Keras, or a name or function of one with a value per sample; by default the compiled one.
        batch_size: Samples at once where `x` is arrays; it changes time and memory only, but where a loss takes
            the samples of a batch together, as the mean over unmasked positions does in `evaluate`.
        include_regularization: Whether the model's penalties of weights and activities are part of the loss.
            Penalties have no Gauss-Newton part and do not count.

    Returns:
        A list of arrays in the shapes of `model.trainable_variables`.

    Raises:
        ValueError: If the model is not built, there is no loss or no sample, or the vector has other shapes.

    Cost: about two gradients per batch, four on torch.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    x, y = np.random.normal(size=(20, 4)), np.arange(20) % 3
    vector = [np.ones(v.shape) for v in model.trainable_variables]
    product = kr.analysis.gauss_newton_vector_product(model, x, y, vector)
    ```

    Reference: Nicol N. Schraudolph, *Fast Curvature Matrix-Vector Products for Second-Order Gradient Descent*,
    Neural Computation 2002.
    """
    objective = Objective(
        "gauss_newton_vector_product",
        model,
        x,
        y,
        sample_weight,
        loss,
        batch_size,
        include_regularization,
    )
    product = objective.gauss_newton_product(objective.checked("vector", vector))
    return objective.unflat(product, tensors=False)


def hessian_matrix(
    model: keras.Model,
    x: Any,
    y: Any = None,
    force: bool = False,
    *,
    sample_weight: Any = None,
    loss: Any = None,
    batch_size: int = 32,
    include_regularization: bool = False,
) -> np.ndarray:
    r"""The whole Hessian of the mean loss of a small model, as a matrix.

    Weights are in the order of `model.trainable_variables`, each one raveled. The matrix is made symmetric, which
    it is but for rounding.

    Args:
        model: A built model, or a wrapper of one; it runs in inference mode and is not changed.
        x: Inputs as arrays, in any nested structure the model takes, or a dataset of batches as `fit` takes them.
        y: Labels as the loss takes them; `None` with a dataset.
        force: Whether to go on with more than 10 000 weights, where the matrix takes 400 MB and more.
        sample_weight: Weights of samples, or `None`; also the third entry of a dataset's batches.
        loss: A loss of Keras, or a name or function of one with a value per sample; by default the compiled one.
        batch_size: Samples at once where `x` is arrays; it changes time and memory only, but where a loss takes
            the samples of a batch together, as the mean over unmasked positions does in `evaluate`.
        include_regularization: Whether the model's penalties of weights and activities are part of the loss.

    Returns:
        An array `(P, P)` for `P` weights.

    Raises:
        ValueError: If the model is not built or has more than 10 000 weights, or there is no loss or no sample.

    Cost: a Hessian-vector product per weight.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    matrix = kr.analysis.hessian_matrix(model, np.random.normal(size=(20, 2)), np.zeros(20))
    print(np.linalg.eigvalsh(matrix))
    ```
    """
    objective = Objective(
        "hessian_matrix",
        model,
        x,
        y,
        sample_weight,
        loss,
        batch_size,
        include_regularization,
    )
    size = objective.size
    if size > 10_000 and not force:
        raise ValueError(
            f"`hessian_matrix` makes a matrix of {size} x {size} numbers. Set `force=True`, or use "
            "`hessian_eigenvalues`, which needs none. Received: a model of more than 10 000 weights"
        )
    matrix = np.empty((size, size), objective.dtype)
    unit = np.zeros(size, objective.dtype)
    for i in progress(range(size), "Hessian", size):
        unit[:] = 0
        unit[i] = 1
        matrix[i] = objective.hessian_product(unit)
    return (matrix + matrix.T) / 2
