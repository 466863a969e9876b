"""Derivatives of functions of tensors, the same on every backend, nestable, usable inside `jit` and layers."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops, tree

from keras_regularize.autodiff import backend


def value_and_grad(fn: Callable, has_aux: bool = False) -> Callable:
    r"""Function that computes `fn` and its gradient with respect to the first argument.

    The gradient has the structure of the first argument, with zeros where `fn` does not depend on it.
    Calls nest: differentiate a function that itself calls `value_and_grad` for second derivatives. Tensors
    that `fn` closes over are constants.

    Args:
        fn: Maps a nested structure of floating tensors (and any further arguments) to a scalar, or to
            `(scalar, aux)` with `has_aux=True`.
        has_aux: Whether `fn` also returns something that is handed back undifferentiated.

    Returns:
        A function of the same arguments that returns `(value, gradient)`, or `((value, aux), gradient)`.
        On torch the results can be differentiated further wherever gradients are enabled, as everywhere
        in torch; under `torch.no_grad()` no graph is kept.

    Raises:
        ValueError: If an entry of the first argument is not floating, or `fn` does not return a scalar.

    Cost: one forward and one backward pass of `fn`.

    Example:

    ```python
    import keras_regularize as kr
    from keras import ops

    w = {"kernel": ops.ones((2, 2)), "bias": ops.ones((2,))}
    value, gradient = kr.autodiff.value_and_grad(lambda w: ops.sum(w["kernel"] ** 3))(w)
    # gradient["kernel"] is 3, gradient["bias"] is 0
    ```
    """

    def differentiated(x, *args, **kwargs):
        x = [_floating(leaf) for leaf in x] if _is_flat(x) else tree.map_structure(_floating, x)

        def scalar(x):
            value, aux = fn(x, *args, **kwargs) if has_aux else (fn(x, *args, **kwargs), None)
            value = ops.convert_to_tensor(value)
            if len(value.shape) != 0:
                raise ValueError(
                    "Only a scalar has a gradient: reduce the value, or use `vjp`. "
                    f"Received a value of shape {tuple(value.shape)}"
                )
            return value, aux

        (value, aux), gradient = backend.differentiate(scalar, x)
        return ((value, aux) if has_aux else value), gradient

    return differentiated


def grad(fn: Callable, has_aux: bool = False) -> Callable:
    """Function that computes the gradient of `fn` with respect to its first argument.

    Args:
        fn: As in `value_and_grad`.
        has_aux: As in `value_and_grad`.

    Returns:
        A function of the same arguments that returns `gradient`, or `(gradient, aux)`.

    Example:

    ```python
    import keras_regularize as kr
    from keras import ops

    cube = lambda x: x**3
    kr.autodiff.grad(kr.autodiff.grad(cube))(ops.convert_to_tensor(2.0))  # 12
    ```
    """

    def differentiated(*args, **kwargs):
        value, gradient = value_and_grad(fn, has_aux)(*args, **kwargs)
        return (gradient, value[1]) if has_aux else gradient

    return differentiated


def vjp(fn: Callable, x: Any, cotangent: Any) -> tuple[Any, Any]:
    r"""Value of `fn` at `x` and the vector-Jacobian product $v^\top J$.

    Args:
        fn: Maps a nested structure of floating tensors to a nested structure of tensors.
        x: Where to differentiate.
        cotangent: The vector $v$, of the structure and shapes of `fn(x)`.

    Returns:
        `(fn(x), product)`; the product has the structure of `x`.

    Cost: one forward and one backward pass.

    Example:

    ```python
    import keras_regularize as kr
    from keras import ops

    x = ops.convert_to_tensor([1.0, 2.0])
    value, product = kr.autodiff.vjp(lambda x: x**2, x, ops.ones((2,)))  # [1, 4], [2, 4]
    ```
    """

    def weighted(x):
        outputs = fn(x)
        return _inner_product(outputs, cotangent), outputs

    (_, outputs), product = value_and_grad(weighted, has_aux=True)(x)
    return outputs, product


def jvp(fn: Callable, x: Any, tangent: Any) -> tuple[Any, Any]:
    r"""Value of `fn` at `x` and the Jacobian-vector product $J v$, for nested structures.

    Args:
        fn: Maps a nested structure of floating tensors to a nested structure of tensors.
        x: Where to differentiate.
        tangent: The direction $v$, of the structure and shapes of `x`.

    Returns:
        `(fn(x), product)`; the product has the structure of `fn(x)`.

    Cost: about two forward passes (forward mode); on torch, whose forward mode lacks much, one forward and
    two backward passes.

    Example:

    ```python
    import keras_regularize as kr
    from keras import ops

    x = {"a": ops.convert_to_tensor(3.0)}
    value, product = kr.autodiff.jvp(lambda x: x["a"] ** 3, x, {"a": ops.convert_to_tensor(1.0)})
    # 27, 27
    ```
    """
    # Copies: TensorFlow would follow the very tensor `x` into what `fn` closes over.
    x = tree.map_structure(lambda leaf: ops.copy(_floating(leaf)), x)
    value, product = backend.jvp(
        lambda *leaves: fn(tree.pack_sequence_as(x, list(leaves))),
        tree.flatten(x),
        [right for _, right in _pairs(x, tangent)],
    )
    # Outputs that do not depend on `x` have no tangent on TensorFlow and torch.
    product = tree.map_structure(lambda v, p: ops.zeros_like(v) if p is None else p, value, product)
    return value, product


def hvp(fn: Callable, x: Any, vector: Any) -> tuple[Any, Any]:
    r"""Gradient of a scalar `fn` at `x` and the Hessian-vector product $H v$.

    Args:
        fn: Maps a nested structure of floating tensors to a scalar.
        x: Where to differentiate.
        vector: The vector $v$, of the structure and shapes of `x`.

    Returns:
        `(gradient, product)`, both of the structure of `x`.

    Cost: two forward-backward passes (reverse mode over reverse mode).

    Example:

    ```python
    import keras_regularize as kr
    from keras import ops

    x = ops.convert_to_tensor([1.0, 2.0])
    gradient, product = kr.autodiff.hvp(lambda x: ops.sum(x**3), x, ops.ones((2,)))
    # [3, 12], [6, 12]
    ```
    """

    def along(x):
        gradient = grad(fn)(x)
        return _inner_product(gradient, vector), gradient

    (_, gradient), product = value_and_grad(along, has_aux=True)(x)
    return gradient, product


def input_gradient(fn: Callable, x: Any) -> Any:
    r"""Gradient of $\sum fn(x)$ with respect to `x`, for use inside a layer's `call`.

    For a `fn` that treats the samples of a batch independently, row $i$ is the gradient of output $i$ with
    respect to input $i$. It works in `fit`, where the result is itself differentiated with respect to the
    weights, and in `predict`.

    Args:
        fn: Maps `x` to a tensor of any shape.
        x: A nested structure of floating tensors.

    Returns:
        The gradient, of the structure of `x`.

    Cost: one forward and one backward pass; twice that again when training through it.

    Example:

    ```python
    import keras
    import keras_regularize as kr


    class Potential(keras.layers.Layer):
        "The gradient field of a learned potential."

        def __init__(self):
            super().__init__()
            self.energy = keras.layers.Dense(1, activation="softplus")

        def call(self, x):
            return kr.autodiff.input_gradient(self.energy, x)


    Potential()(keras.ops.ones((4, 3))).shape  # (4, 3)
    ```
    """
    return grad(lambda x: ops.sum(fn(x)))(x)


def straight_through(value: Any, surrogate: Any) -> Any:
    """`value` in the forward pass with the gradient of `surrogate` in the backward pass.

    Args:
        value: Tensor that is returned exactly.
        surrogate: Tensor of the same shape whose gradient is used.

    Returns:
        A tensor equal to `value`.

    Example:

    ```python
    import keras_regularize as kr
    from keras import ops

    sign = lambda x: kr.autodiff.straight_through(ops.sign(x), x)
    kr.autodiff.grad(lambda x: ops.sum(sign(x)))(ops.convert_to_tensor([0.3, -2.0]))  # [1, 1]
    ```

    Reference: Bengio, Léonard and Courville, *Estimating or Propagating Gradients Through Stochastic Neurons
    for Conditional Computation*, 2013, arXiv:1308.3432.
    """
    # Not `surrogate + stop_gradient(value - surrogate)`: that rounds.
    return ops.stop_gradient(value) + (surrogate - ops.stop_gradient(surrogate))


def _inner_product(a, b):
    return sum(ops.sum(left * right) for left, right in _pairs(a, b))


def _pairs(a, vector):
    """Pairs of leaves, those of `vector` as tensors of the same dtype."""
    tree.assert_same_structure(a, vector)
    pairs = []
    for left, right in zip(tree.flatten(a), tree.flatten(vector)):
        right = ops.convert_to_tensor(right, dtype=left.dtype)
        if tuple(left.shape) != tuple(right.shape):
            raise ValueError(
                "The vector must have the shapes of what it multiplies. "
                f"Expected {tuple(left.shape)}, received {tuple(right.shape)}"
            )
        pairs.append((left, right))
    return pairs


def _is_flat(x):
    """Whether a structure is a list of tensors, such as the weights of a model, which need no tree."""
    return type(x) is list and not any(isinstance(leaf, (dict, list, tuple)) for leaf in x)


def _floating(x):
    x = ops.convert_to_tensor(x.value if isinstance(x, keras.Variable) else x)
    if not keras.backend.is_float_dtype(keras.backend.standardize_dtype(x.dtype)):
        raise ValueError(
            "Only floating tensors can be differentiated with respect to. "
            f"Received dtype {keras.backend.standardize_dtype(x.dtype)}"
        )
    return x
