"""Two objectives of weights and hyperparameters, with their derivatives on flat vectors of the host."""

from collections.abc import Callable
from typing import Any

import numpy as np
from keras import ops, tree

from keras_regularize import autodiff
from keras_regularize.autodiff import backend


class Problem:
    """An inner objective `h(w, a)` and an outer one `g(w, a)` at flat double-precision `w` and `a`.

    Each function of tensors is compiled once. Vectors are double on the host, so that sums of a solver do not
    drift; the objectives run in the dtype of the weights.
    """

    def __init__(self, inner: Callable, outer: Callable, weights: Any, hyperparameters: Any):
        for name, objective in (("inner", inner), ("outer", outer)):
            if not callable(objective):
                raise ValueError(
                    f"`{name}` must be a function `(weights, hyperparameters) -> scalar`. "
                    f"Received: {name}={objective!r}"
                )
        if isinstance(weights, tuple):
            weights = list(weights)
        weights = tree.map_structure(_floating, weights)
        # In one dtype: TensorFlow adds no others.
        dtype = next((leaf.dtype for leaf in tree.flatten(weights)), "float32")
        hyperparameters = tree.map_structure(
            lambda leaf: ops.cast(_floating(leaf), dtype), hyperparameters
        )
        self._structures = structures = [weights, hyperparameters]
        self.start = [_flat(structure) for structure in structures]
        if not all(part.size for part in self.start):
            raise ValueError(
                "Expected at least one weight and one hyperparameter. "
                f"Received: {self.start[0].size} and {self.start[1].size}"
            )
        self._inner, self._outer = inner, outer
        self._programs: dict[str, Callable] = {}

    def weights(self, w: np.ndarray) -> Any:
        """A flat vector in the structure of the weights, as arrays."""
        return tree.map_structure(_numpy, self._packed(0, w))

    def hyperparameters(self, a: np.ndarray) -> Any:
        """A flat vector in the structure of the hyperparameters, as arrays."""
        return tree.map_structure(_numpy, self._packed(1, a))

    def inner(self, w: np.ndarray, a: np.ndarray) -> tuple[float, np.ndarray]:
        """The inner objective and its gradient in the weights."""

        def program(w, a):
            return autodiff.value_and_grad(lambda w: self._inner(w, a))(w)

        value, gradient = self._run("inner", program, self._packed(0, w), self._packed(1, a))
        return _scalar(value), _flat(gradient)

    def first_gradient(self, w: np.ndarray, a: np.ndarray) -> np.ndarray:
        """The gradient of the inner objective in the weights at the start, which must be finite."""
        gradient = self.inner(w, a)[1]
        if not np.isfinite(gradient).all():
            raise ValueError("The inner objective must have a finite gradient at the start.")
        return gradient

    def outer(self, w: np.ndarray, a: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        """The outer objective and its gradients in weights and hyperparameters."""

        def program(w, a):
            return autodiff.value_and_grad(lambda both: self._outer(*both))([w, a])

        value, (in_w, in_a) = self._run("outer", program, self._packed(0, w), self._packed(1, a))
        return _scalar(value), _flat(in_w), _flat(in_a)

    def curved(self, w: np.ndarray, a: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """`(d²h/dw² v, d²h/da dw v)` for a vector of the weights."""

        def program(w, a, v):
            still = tree.map_structure(ops.zeros_like, a)
            return autodiff.hvp(lambda both: self._inner(*both), [w, a], [v, still])[1]

        parts = [self._packed(0, w), self._packed(1, a), self._packed(0, v)]
        in_w, in_a = self._run("curved", program, *parts)
        return _flat(in_w), _flat(in_a)

    def mixed(self, w: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """`d²h/dw da b` for a vector of the hyperparameters."""

        def program(w, a, b):
            still = tree.map_structure(ops.zeros_like, w)
            return autodiff.hvp(lambda both: self._inner(*both), [w, a], [still, b])[1][0]

        parts = [self._packed(0, w), self._packed(1, a), self._packed(1, b)]
        return _flat(self._run("mixed", program, *parts))

    def outer_curved(self, w: np.ndarray, a: np.ndarray, v: np.ndarray) -> np.ndarray:
        """`d²g/dw² v`."""

        def program(w, a, v):
            return autodiff.hvp(lambda w: self._outer(w, a), w, v)[1]

        parts = [self._packed(0, w), self._packed(1, a), self._packed(0, v)]
        return _flat(self._run("outer_curved", program, *parts))

    def _run(self, name, program, *arguments):
        if name not in self._programs:
            self._programs[name] = backend.compiled(program)
        return self._programs[name](*arguments)

    def _packed(self, index, vector):
        leaves, start = [], 0
        for like in tree.flatten(self._structures[index]):
            size = int(np.prod(like.shape))
            part = vector[start : start + size].reshape(tuple(like.shape))
            leaves.append(ops.convert_to_tensor(part, dtype=like.dtype))
            start += size
        return tree.pack_sequence_as(self._structures[index], leaves)


def _floating(leaf):
    value = ops.stop_gradient(ops.convert_to_tensor(getattr(leaf, "value", leaf)))
    return value if "float" in str(value.dtype) else ops.cast(value, "float32")


def _numpy(tensor):
    return ops.convert_to_numpy(ops.stop_gradient(tensor))


def _scalar(tensor):
    value = _numpy(tensor)
    if value.size != 1:
        raise ValueError(f"An objective must return a scalar. Received: shape {value.shape}")
    return float(value.reshape(()))


def _flat(structure):
    parts = [np.ravel(_numpy(leaf)).astype("float64") for leaf in tree.flatten(structure)]
    return np.concatenate(parts) if parts else np.zeros(0)
