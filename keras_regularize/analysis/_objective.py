"""The mean loss of a model over a data set as a function of the weights, with its derivatives."""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from keras_regularize import autodiff
from keras_regularize.analysis._samples import SampleBatch, Samples
from keras_regularize.autodiff import Batch, backend
from keras_regularize.autodiff.compiled_losses import CompiledLoss, weighted_sample_losses
from keras_regularize.masks import keras_mask, with_mask
from keras_regularize.numerics import upcast


class Objective:
    """The mean loss of a model in inference mode over data, streamed over batches.

    Weights and vectors are lists of tensors in the order of `model.trainable_variables`; they are arguments of
    compiled functions, so that the model is never touched. Sums are kept in double precision on the host, those
    that are as large as the weights on the device.

    `name` is that of the public function, for messages. With `fill=False` the last batch is as small as it is.
    """

    def __init__(
        self,
        name: str,
        model: keras.Model,
        x: Any,
        y: Any = None,
        sample_weight: Any = None,
        loss: Any = None,
        batch_size: int = 32,
        include_regularization: bool = False,
        fill: bool = True,
    ):
        if not model.built:
            raise ValueError(
                f"`{name}` needs a built model, whose weights exist. Received: {model.name!r}, which is not "
                "built; call it on data or give it an `Input` first."
            )
        if not model.trainable_variables:
            raise ValueError(
                f"`{name}` needs a model with trainable weights. Received: {model.name!r}, which has none."
            )
        if loss is None and getattr(model, "loss", None) is None:
            raise ValueError(
                f"`{name}` needs a loss. Received: loss=None and a model that was not compiled with one."
            )
        self.model = model
        self.loss = loss
        self.include_regularization = include_regularization
        given = model.loss if loss is None else loss
        # Rows that fill a batch up do not count, but they are seen by penalties of activities and by losses that
        # compare the samples of a batch.
        together = include_regularization or any(hasattr(l, "values") for l in tree.flatten(given))  # noqa: E741
        self.samples = Samples(x, y, sample_weight, batch_size, fill=fill and not together)
        self.weights = autodiff.functional.read_values(model.trainable_variables)
        self.state_variables = list(model.non_trainable_variables)
        self.state = autodiff.functional.read_values(self.state_variables)
        self._programs: dict[Any, Any] = {}
        self._modes: dict[str, tuple[bool, ...]] = {}
        self._kept_products: tuple[Any, Any] | None = None

    # What is computed on a batch

    def forward(self, weights: Sequence[Any], state: Sequence[Any]) -> autodiff.Forward:
        """The model at given weights and state."""
        return autodiff.Forward(self.model, weights, list(zip(self.state_variables, state)))

    def _parts(self, outputs, batch):
        """`(losses, weights, amounts)` of the rows: amounts are what the weights are where no sample has one."""
        if batch.y is None:
            raise ValueError("Labels are missing: give `y`, or a dataset of pairs `(x, y)`.")
        forward = self.forward(self.weights, self.state)

        def parts(sample_weight):
            if self.loss is None:
                return forward.weighted_losses(
                    Batch(batch.x, batch.y, sample_weight=sample_weight), outputs
                )
            compiled = CompiledLoss(self.loss)
            return weighted_sample_losses(compiled.output_losses(batch.y, outputs, sample_weight))

        losses, weights = parts(batch.sample_weight)
        amounts = weights if batch.sample_weight is None else parts(None)[1]
        return losses, weights, amounts

    def _losses(self, outputs, batch):
        """`(losses, weights)` of the rows: the sum of their product is that over the samples of the batch."""
        losses, weights, amounts = self._parts(outputs, batch)
        # Under a mask amounts have mean 1 over the rows of the batch, here over those that count.
        counted = ops.cast(batch.counted, losses.dtype)
        total = ops.sum(amounts * counted)
        scale = ops.sum(counted) / ops.where(total != 0, total, 1.0)
        return losses, ops.stop_gradient(weights * counted * scale)

    def sum_of(self, weights, state, batch):
        """The sum of the losses of a batch at given weights and state, and the outputs."""
        forward = self.forward(weights, state)
        penalties = 0.0
        if self.include_regularization:
            outputs, penalties = forward.outputs_and_penalties(batch.x)
        else:
            outputs = forward(batch.x)
        losses, factors = self._losses(outputs, batch)
        total = ops.sum(ops.where(factors != 0, losses, 0.0) * factors)
        return total + penalties * ops.cast(ops.sum(batch.counted), total.dtype), outputs

    def program(self, name: Any, function: Callable) -> Callable:
        """`function`, compiled when it is first asked for, unless the model is to run eagerly."""
        if name not in self._programs:
            eager = self.model.compiled and self.model.run_eagerly and not backend.RUNS_ONE_BY_ONE
            self._programs[name] = function if eager else backend.compiled(function)
        return self._programs[name]

    def batches(self) -> Iterator[tuple[SampleBatch, int]]:
        """The batches as tensors, and how many samples are in each."""
        for batch in self.samples:
            yield tree.map_structure(_tensor, batch), int(batch.counted.sum())

    def _total(self, program, *arguments):
        """`(sum over the batches of the tensors that a program adds to its first argument, number of samples)`."""
        total = [ops.zeros(w.shape, dtype=upcast(w).dtype) for w in self.weights]
        count = 0
        for batch, size in self.batches():
            total = program(total, *arguments, batch)
            count += size
        return total, count

    # Over the data set

    def value(
        self, weights: Sequence[Any] | None = None, state: Sequence[Any] | None = None
    ) -> float:
        """The mean loss at given weights, by default the model's."""
        program = self.program("value", lambda w, s, batch: self.sum_of(w, s, batch)[0])
        weights = self.weights if weights is None else weights
        state = self.state if state is None else state
        sums, count = [], 0
        for batch, size in self.batches():
            sums.append(program(weights, state, batch))
            count += size
        return mean_of(sums, count)

    def gradient(self, weights: Sequence[Any] | None = None) -> np.ndarray:
        """The gradient of the mean loss, flat."""

        def add(total, weights, state, batch):
            gradient = autodiff.grad(lambda w: self.sum_of(w, state, batch)[0])(weights)
            return _added(total, gradient)

        weights = self.weights if weights is None else weights
        return flat(*self._total(self.program("gradient", add), weights, self.state))

    def move_to(self, weights: Sequence[Any]) -> None:
        """Makes other weights those at which derivatives are taken."""
        self.weights, self._kept_products = list(weights), None

    def sample_losses(self) -> np.ndarray:
        """The loss of every sample as if it were alone, weighted, in double precision."""

        def losses(weights, state, batch):
            values, factors, amounts = self._parts(self.forward(weights, state)(batch.x), batch)
            counts = ops.logical_and(factors != 0, amounts != 0)
            factors = ops.where(counts, factors / ops.where(amounts != 0, amounts, 1.0), 0.0)
            return ops.where(counts, values, 0.0) * factors

        program, found = self.program("sample_losses", losses), []
        for batch, size in self.batches():
            values = program(self.weights, self.state, batch)
            found.append(flat([values]).astype("float64")[:size])
        return np.concatenate(found)

    def batch_gradient(self, batch: SampleBatch, count: int) -> np.ndarray:
        """The gradient of the mean loss of a batch, flat and in double precision."""

        def gradient(weights, state, batch):
            return autodiff.grad(lambda w: self.sum_of(w, state, batch)[0])(weights)

        program = self.program("batch_gradient", gradient)
        return flat(program(self.weights, self.state, batch)).astype("float64") / count

    def hessian_product(self, vector: np.ndarray) -> np.ndarray:
        """The Hessian of the mean loss times a flat vector."""
        kept = self._kept()
        if kept is not None:
            products, count = kept
            return flat(products(self.unflat(vector)), count)

        def add(forward_mode, total, weights, state, vector, batch):
            def summed(w):
                return self.sum_of(w, state, batch)[0]

            if forward_mode:
                product = autodiff.jvp(autodiff.grad(summed), weights, vector)[1]
            else:
                product = autodiff.hvp(summed, weights, vector)[1]
            return _added(total, product)

        return self._product("hessian", add, vector, backend.FORWARD_OVER_REVERSE)

    def _kept(self):
        """`(products, samples)` of a single batch, whose graph is kept where that saves two passes of three."""
        if not backend.RUNS_ONE_BY_ONE or not self.samples.in_memory or len(self.samples) != 1:
            return None
        if self._kept_products is None:
            ((batch, size),) = self.batches()
            summed = lambda w: self.sum_of(w, self.state, batch)[0]  # noqa: E731
            self._kept_products = backend.hessian_products(summed, self.weights), size
        return self._kept_products

    def gauss_newton_product(self, vector: np.ndarray) -> np.ndarray:
        """The Gauss-Newton matrix of the mean loss times a flat vector."""

        def add(forward_mode, total, weights, state, vector, batch):
            seen: list[Any] = []  # Outputs with their mask, which derivatives do not hand on.

            def outputs_at(w):
                seen[:] = [self.forward(w, state)(batch.x)]
                return seen[0]

            def loss_of(outputs):
                losses, factors = self._losses(_with_masks(outputs, seen[0]), batch)
                return ops.sum(ops.where(factors != 0, losses, 0.0) * factors)

            if forward_mode:
                outputs, tangent = autodiff.jvp(outputs_at, weights, vector)
            else:
                outputs, tangent = _pushed(outputs_at, weights, vector)
            outputs = tree.map_structure(ops.stop_gradient, outputs)
            curved = autodiff.hvp(loss_of, outputs, tangent)[1]
            return _added(total, autodiff.vjp(outputs_at, weights, curved)[1])

        return self._product("gauss_newton", add, vector, not backend.RUNS_ONE_BY_ONE)

    def _product(self, name, add, vector, forward_mode):
        """The sum of what `add` gives in forward mode if it is to, or where something has none in reverse mode."""
        # Loops on TensorFlow and gradients of one's own on JAX have no forward mode.
        both = (True, False) if forward_mode else (False,)
        modes = self._modes.get(name, both)
        for forward_mode in modes:
            program = self.program((name, forward_mode), functools.partial(add, forward_mode))
            try:
                total, count = self._total(program, self.weights, self.state, self.unflat(vector))
            except Exception:
                if forward_mode is modes[-1]:
                    raise
                continue
            self._modes[name] = (forward_mode,)
            break
        return flat(total, count)

    # Flat vectors on the host

    @property
    def size(self) -> int:
        """Number of weights."""
        return sum(int(np.prod(w.shape)) for w in self.weights)

    @property
    def dtype(self) -> str:
        """Type of flat vectors."""
        types = {keras.backend.standardize_dtype(w.dtype) for w in self.weights}
        return "float64" if "float64" in types else "float32"

    def unflat(self, vector: np.ndarray, tensors: bool = True) -> list[Any]:
        """A flat vector in the shapes of the weights."""
        parts, start = [], 0
        for w in self.weights:
            part = vector[start : start + int(np.prod(w.shape))].reshape(tuple(w.shape))
            parts.append(ops.cast(_tensor(part), w.dtype) if tensors else part)
            start += part.size
        return parts

    def checked(self, name: str, vector: Any) -> np.ndarray:
        """A list of arrays in the shapes of the weights, as a flat vector."""
        shapes = [tuple(w.shape) for w in self.weights]
        given = [np.shape(part) for part in vector] if isinstance(vector, (list, tuple)) else None
        if given != shapes:
            raise ValueError(
                f"`{name}` must be a list of arrays in the shapes of `model.trainable_variables`, {shapes}. "
                f"Received: {type(vector).__name__} of shapes {given}"
            )
        return flat(vector).astype(self.dtype)


def flat(tensors: Sequence[Any], divisor: float = 1) -> np.ndarray:
    """Tensors as one vector on the host, divided by a number."""
    parts = [np.ravel(_on_host(tensor)) for tensor in tensors]
    result = np.concatenate(parts) if parts else np.zeros(0, "float32")
    return result / result.dtype.type(divisor) if divisor != 1 else result


def _on_host(tensor):
    array = backend.peek(tensor)
    if array is None:
        array = ops.convert_to_numpy(ops.stop_gradient(upcast(ops.convert_to_tensor(tensor))))
    return array.astype("float32") if array.dtype.itemsize < 4 else array


def mean_of(sums: Sequence[Any], count: int) -> float:
    """The sum of scalar tensors over a number, in double precision."""
    total = np.sum([float(ops.convert_to_numpy(ops.stop_gradient(s))) for s in sums])
    return float(total / count)


def _added(total, parts):
    return [t + ops.cast(p, t.dtype) for t, p in zip(total, parts)]


def _tensor(leaf):
    return None if leaf is None else ops.convert_to_tensor(leaf)


def _pushed(fn, x, vector):
    """Outputs of `fn` and their tangent: the derivative of the vector-Jacobian product, which is linear."""
    outputs = fn(x)

    def along(cotangent):
        product = autodiff.vjp(fn, x, cotangent)[1]
        return sum(ops.sum(p * v) for p, v in zip(product, vector))

    return outputs, autodiff.grad(along)(tree.map_structure(ops.zeros_like, outputs))


def _with_masks(outputs, reference):
    def masked(tensor, given):
        mask = keras_mask(given)
        return tensor if mask is None else with_mask(tensor, mask)

    return tree.map_structure(masked, outputs, reference)
