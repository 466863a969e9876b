"""Predictions of regularized linear and low-rank models as sums over the training points."""

import dataclasses
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from keras import ops

from keras_regularize import autodiff
from keras_regularize.validation import check_number


def l1_representers(
    coefficients: Any,
    x_train: Any,
    y_train: Any,
    x_test: Any,
    factor: float,
    loss: str | Callable[[Any, Any], Any] = "logistic",
) -> np.ndarray:
    r"""How much each training point contributes to the predictions of an L1-regularized linear model.

    At the minimum of $\frac1n \sum_i \ell(\langle w, x_i \rangle, y_i) + \lambda \|w\|_1$ a prediction is a sum
    over the training points, of a global importance times a similarity in the features that the model uses:

    $$\langle w, x' \rangle = \sum_i \underbrace{-\frac{\ell'_i}{\lambda n}}_{\text{importance}}\;
    \underbrace{\sum_j |w_j|\, x_{ij}\, x'_j}_{\text{similarity}}$$

    with the derivative $\ell'_i$ of the loss in the prediction. A positive value pushes the prediction up. The sum
    is the prediction only where the model was trained to the minimum: a warning says so if it is not, by more than
    0.01.

    Args:
        coefficients: The trained $w$, `(features,)`, without an intercept that is not penalized (give it as a
            feature that is).
        x_train: Training features, `(n, features)`, dense or a sparse matrix of SciPy.
        y_train: Training targets `(n,)`; classes are 0 and 1, or -1 and 1.
        x_test: Features of the predictions to explain, `(m, features)`.
        factor: $\lambda$ of the mean loss, positive: $1 / (n C)$ for scikit-learn's `C`.
        loss: `"logistic"`, `"squared"` for $\frac12 (f - y)^2$, or a function `(y, prediction) -> values per
            sample` of `keras.ops`.

    Returns:
        An array `(n, m)`; column $j$ sums to the prediction for test point $j$.

    Raises:
        ValueError: If shapes do not fit, labels are no classes, the factor is not positive, or a function does not
            give a loss for each sample.

    Cost: a matrix product over the features in use; no retraining.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr
    from sklearn.linear_model import Lasso

    x = np.random.default_rng(0).normal(size=(100, 5))
    y = x @ np.array([2.0, -1.0, 0.0, 0.0, 0.5])
    w = Lasso(alpha=0.1, fit_intercept=False, tol=1e-10).fit(x, y).coef_
    values = kr.analysis.l1_representers(w, x, y, x[:2], factor=0.1, loss="squared")
    print(np.argsort(values[:, 0])[-3:])  # What pushes the first prediction up most.
    ```

    Reference: Che-Ping Tsai, Jiong Zhang, Eli Chien, Hsiang-Fu Yu, Cho-Jui Hsieh and Pradeep Ravikumar,
    *Representer Point Selection for Explaining Regularized High-dimensional Models*, ICML 2023, arXiv:2305.20002.
    """
    w, importance = _importances(coefficients, x_train, y_train, x_test, factor, loss)
    used = np.flatnonzero(w)
    similarity = (_dense(x_train, used) * np.abs(w[used])) @ _dense(x_test, used).T
    values = importance[:, None] * similarity
    _check_sums(values.sum(axis=0), _dense(x_test, used) @ w[used])
    return values


def l2_representers(
    coefficients: Any,
    x_train: Any,
    y_train: Any,
    x_test: Any,
    factor: float,
    loss: str | Callable[[Any, Any], Any] = "logistic",
) -> np.ndarray:
    r"""How much each training point contributes to the predictions of an L2-regularized linear model.

    As `l1_representers` at the minimum of $\frac1n \sum_i \ell(\langle w, x_i \rangle, y_i) + \lambda \|w\|_2^2$:

    $$\langle w, x' \rangle = \sum_i -\frac{\ell'_i}{2 \lambda n}\, \langle x_i, x' \rangle$$

    The features may be those of a network's last hidden layer.

    Args:
        coefficients: The trained $w$, `(features,)`.
        x_train: Training features, `(n, features)`, dense or a sparse matrix of SciPy.
        y_train: Training targets `(n,)`; classes are 0 and 1, or -1 and 1.
        x_test: Features of the predictions to explain, `(m, features)`.
        factor: $\lambda$ of the mean loss, positive: $1 / (2 n C)$ for scikit-learn's `C`.
        loss: As in `l1_representers`.

    Returns:
        An array `(n, m)`; column $j$ sums to the prediction for test point $j$.

    Raises:
        ValueError: If shapes do not fit, labels are no classes, or the factor is not positive.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    x = np.random.default_rng(0).normal(size=(100, 5))
    y = x @ np.arange(5.0)
    w = np.linalg.solve(x.T @ x / 100 + 2 * 0.1 * np.eye(5), x.T @ y / 100)
    values = kr.analysis.l2_representers(w, x, y, x[:2], factor=0.1, loss="squared")
    ```

    Reference: Chih-Kuan Yeh, Joon Sik Kim, Ian E. H. Yen and Pradeep Ravikumar, *Representer Point Selection for
    Explaining Deep Neural Networks*, NeurIPS 2018, arXiv:1811.09720.
    """
    w, importance = _importances(coefficients, x_train, y_train, x_test, factor, loss)
    every = np.arange(w.size)
    tests = _dense(x_test, every)
    values = 0.5 * importance[:, None] * (_dense(x_train, every) @ tests.T)
    _check_sums(values.sum(axis=0), tests @ w)
    return values


@dataclasses.dataclass(frozen=True, eq=False)
class FactorizationRepresenters:
    """What `factorization_representers` computes.

    Attributes:
        item_based: Contributions `(n,)` of the ratings of the same user, by how alike their items are.
        user_based: Contributions `(n,)` of the ratings of the same item, by how alike their users are.
        prediction: The prediction; each side sums to it at the minimum.
    """

    item_based: np.ndarray
    user_based: np.ndarray
    prediction: float


def factorization_representers(
    user_factors: Any,
    item_factors: Any,
    users: Any,
    items: Any,
    ratings: Any,
    query: tuple[int, int],
    factor: float,
    loss: str | Callable[[Any, Any], Any] = "squared",
    normalize: bool = True,
) -> FactorizationRepresenters:
    r"""How much each rating contributes to a prediction of a factorization of users and items.

    For $\Theta = P Q^\top$ at the minimum of $\frac1n \sum_k \ell(\Theta_{u_k i_k}, r_k) + \lambda \|\Theta\|_*$,
    the nuclear norm, which is also that with $\frac\lambda2 (\|P\|^2 + \|Q\|^2)$,

    $$\Theta_{u i} = \sum_{k:\, u_k = u} a_k\, \langle q_{i_k}, q_i \rangle
    = \sum_{k:\, i_k = i} a_k\, \langle p_{u_k}, p_u \rangle,\qquad a_k = -\frac{\ell'_k}{\lambda n}:$$

    the prediction is a sum over what the user rated, and also one over who rated the item. The sums are the
    prediction only where the factors were trained to the minimum: a warning says so if they are off by more than
    0.01.

    Args:
        user_factors: $P$, `(users, rank)`.
        item_factors: $Q$, `(items, rank)`.
        users: Ids of the users of the ratings, `(n,)`.
        items: Ids of their items, `(n,)`.
        ratings: The ratings $r_k$, `(n,)`; classes 0 and 1, or -1 and 1, with the logistic loss.
        query: The user and the item of the prediction to explain.
        factor: $\lambda$ of the mean loss, positive.
        loss: `"squared"`, `"logistic"`, or a function as in `l1_representers`.
        normalize: Whether to balance the factors, $P^\top P = Q^\top Q$, as they are at the minimum in the form of
            the squared norms; `False` if they are.

    Returns:
        A frozen dataclass of `item_based`, `user_based` and `prediction`.

    Raises:
        ValueError: If shapes do not fit, ids are no integers or out of range, or the factor is not positive.

    Cost: to balance, the QR factorizations of both; the matrix of users and items is never made.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    one = np.array([[1.0]])
    # One rating of 1.5 with a factor of 0.5 is fitted by 1.
    found = kr.analysis.factorization_representers(one, one, [0], [0], [1.5], (0, 0), 0.5)
    print(found.item_based, found.prediction)  # [1.0], 1.0
    ```

    Reference: Che-Ping Tsai, Jiong Zhang, Eli Chien, Hsiang-Fu Yu, Cho-Jui Hsieh and Pradeep Ravikumar,
    *Representer Point Selection for Explaining Regularized High-dimensional Models*, ICML 2023, arXiv:2305.20002.
    """
    check_number("factor", factor, above=0)
    p, q = (np.asarray(part, "float64") for part in (user_factors, item_factors))
    if p.ndim != 2 or q.ndim != 2 or p.shape[1] != q.shape[1]:
        raise ValueError(
            "`user_factors` and `item_factors` must be matrices with as many columns. Received shapes "
            f"{p.shape} and {q.shape}"
        )
    users, items, ratings = np.asarray(users), np.asarray(items), np.asarray(ratings, "float64")
    if users.ndim != 1 or not users.shape == items.shape == ratings.shape or not users.size:
        raise ValueError(
            "`users`, `items` and `ratings` must be vectors of one length, at least 1. Received shapes "
            f"{users.shape}, {items.shape} and {ratings.shape}"
        )
    asked = np.asarray(query)
    if asked.shape != (2,) or any(ids.dtype.kind not in "iu" for ids in (users, items, asked)):
        raise ValueError(
            "`users`, `items` and the two entries of `query` must be integers. Received: "
            f"{users.dtype}, {items.dtype} and query={query!r}"
        )
    user, item = (int(index) for index in query)
    for name, ids, size in (("users", [*users, user], len(p)), ("items", [*items, item], len(q))):
        if min(ids) < 0 or max(ids) >= size:
            raise ValueError(
                f"Ids of {name} must be from 0 to {size - 1}. Received: {min(ids)} to {max(ids)}"
            )
    if normalize:
        p, q = _balanced(p, q)
    importance = _importance(np.sum(p[users] * q[items], axis=1), ratings, factor, loss)
    item_based = np.where(users == user, importance * (q[items] @ q[item]), 0.0)
    user_based = np.where(items == item, importance * (p[users] @ p[user]), 0.0)
    prediction = float(p[user] @ q[item])
    _check_sums(np.array([item_based.sum(), user_based.sum()]), prediction)
    return FactorizationRepresenters(item_based, user_based, prediction)


def _balanced(p, q):
    """Factors of the same product, `U √S` and `V √S` of its singular values."""
    left, r_left = np.linalg.qr(p)
    right, r_right = np.linalg.qr(q)
    u, s, vt = np.linalg.svd(r_left @ r_right.T, full_matrices=False)
    return left @ u * np.sqrt(s), right @ vt.T * np.sqrt(s)


def _importances(coefficients, x_train, y_train, x_test, factor, loss):
    check_number("factor", factor, above=0)
    w, y = np.asarray(coefficients, "float64"), np.asarray(y_train, "float64")
    wanted = [(y.size, w.size), (np.shape(x_test)[0] if np.ndim(x_test) else 0, w.size)]
    received = [tuple(np.shape(x)) for x in (x_train, x_test)]
    if w.ndim != 1 or y.ndim != 1 or received != wanted or not y.size:
        raise ValueError(
            "Expected coefficients (features,), x_train (n, features), y_train (n,) and x_test (m, features). "
            f"Received shapes {w.shape}, {received[0]}, {y.shape} and {received[1]}"
        )
    used = np.flatnonzero(w)
    return w, _importance(_dense(x_train, used) @ w[used], y, factor, loss)


def _importance(predictions, y, factor, loss):
    """`-l' / (factor n)`."""
    if loss == "squared":
        slopes = predictions - y
    elif loss == "logistic":
        if set(np.unique(y)) <= {-1.0, 1.0}:
            y = (y + 1) / 2
        if not set(np.unique(y)) <= {0.0, 1.0}:
            raise ValueError(
                "Labels of the logistic loss must be 0 and 1, or -1 and 1. Received: "
                f"{', '.join(map(str, np.unique(y)[:5]))}"
            )
        slopes = 0.5 * (1 + np.tanh(0.5 * predictions)) - y
    elif callable(loss):
        targets = ops.convert_to_tensor(y)

        def total(f):
            values = loss(targets, f)
            if tuple(values.shape) != y.shape:  # A mean would have smaller slopes.
                raise ValueError(
                    f"`loss` must return a value for each of {len(y)} samples. Received: values of shape "
                    f"{tuple(values.shape)}"
                )
            return ops.sum(values)

        slopes = autodiff.grad(total)(ops.convert_to_tensor(predictions))
        slopes = np.asarray(ops.convert_to_numpy(ops.stop_gradient(slopes)), "float64")
    else:
        raise ValueError(
            f"`loss` must be 'logistic', 'squared' or a function. Received: loss={loss!r}"
        )
    return -slopes / (factor * len(y))


def _dense(x, columns):
    """Columns of a matrix, which may be a sparse one, in double precision."""
    if hasattr(x, "tocsc"):
        return x.tocsc()[:, columns].toarray().astype("float64")
    return np.asarray(x, "float64")[:, columns]


def _check_sums(sums, predictions):
    residual = float(np.max(np.abs(sums - predictions), initial=0.0))
    if residual > 1e-2:
        warnings.warn(
            f"The contributions miss the predictions by up to {residual:.2g}: the model was not trained to the "
            "minimum of its regularized loss, or with another factor.",
            stacklevel=3,
        )
