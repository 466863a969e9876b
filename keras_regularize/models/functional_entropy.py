"""Functional entropy regularization: a model of several inputs shall use all of them."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import ops, tree

from keras_regularize import autodiff
from keras_regularize.attacks.points import (
    check_input_names,
    check_no_ids,
    input_parts,
    is_floating,
)
from keras_regularize.autodiff.compiled_losses import masked_mean_per_sample
from keras_regularize.models._input_gradients import inner_products
from keras_regularize.models.regularized_model import RegularizedModel
from keras_regularize.models.step.data import is_floating as is_floating_specification
from keras_regularize.numerics import GUARD, maximum, mean, upcast
from keras_regularize.registration import export
from keras_regularize.scores import class_log_probabilities, class_outputs, gives_logits, one_output
from keras_regularize.validation import check_choice, check_integer, check_number


@export
class FunctionalEntropyRegularization(RegularizedModel):
    r"""Keeps a model with several inputs (modalities) from leaning on the one that is easiest to learn from.

    Every modality $k$ is moved by noise, $z_k = x_k + \sigma_k N(0, 1)$ with $\sigma_k$ the deviations of its
    features over the batch, and $f(z) = -\sum_c p_c(x) \log p_c(z)$ says how far the prediction moves. Its
    functional Fisher information with respect to a modality,

    $$I_k = \mathrm{mean}\;\frac{\|\nabla_{z_k} f(z)\|_2^2}{f(z)}$$

    bounds the functional entropy that the modality contributes (a log-Sobolev inequality); without the
    denominator, `measure="variance"`, its functional variance (Poincaré). The method adds to the compiled
    loss $L$, a classification loss of one output:

    $$L + \lambda\,\big\|(1/I_1, \dots, 1/I_K)\big\|_2$$

    An ignored modality has $I_k = 0$, hence a penalty of up to $10^{12}$: clip gradients
    (`global_clipnorm`), and start with a small `factor`. $p(x)$ is a constant, which the authors' code
    differentiates too. A single input is one modality, whose influence is raised.

    Moved inputs run in training mode and move no batch statistics. Token ids have no gradient: they are left
    as they are. To count a text as a modality, feed the model with its embeddings.

    On TensorFlow with batch normalization in training mode, the second derivatives that the step needs are wrong:
    Keras takes moments by an operation that treats the mean within the variance as a constant.

    Args:
        model: The model to train, or another wrapper, with a list or dictionary of inputs.
        factor: Weight $\lambda$ of the penalty, at least 0; or a schedule. Values between 1e-3 and 1e-1 are
            the first to try; the authors' 1e-10 belongs to a mean over the batch inside the gradient.
        samples: Number of noise draws per sample, at least 1.
        measure: `"entropy"` or `"variance"`.
        inputs: Names (dictionary) or positions (list) of the inputs that count as modalities; all floating
            ones by default.
        norm: Order of the norm over modalities, at least 1.
        seed: Seed of the noise.
        from_logits: Whether the model gives out logits; `None` asks the compiled loss, or without one the
            last layer.
        **kwargs: `name` and other arguments of `keras.Model`.

    Raises:
        ValueError: If an argument is out of range, a named input is missing or not floating, there is none, or
            the model has several outputs.

    Cost: one forward-backward pass, and on a batch `samples` times as long a forward pass with a double
    backward. `torch.compile` cannot do that: `jit_compile=True` runs eagerly on torch, with a warning.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    image, text = keras.Input((4,)), keras.Input((2,))
    net = keras.Model([image, text], keras.layers.Dense(3)(keras.layers.Concatenate()([image, text])))
    model = kr.models.FunctionalEntropyRegularization(net, factor=1e-3)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(global_clipnorm=1.0), loss)
    rng = np.random.default_rng(0)
    model.fit([rng.random((8, 4)), rng.random((8, 2))], np.arange(8) % 3, verbose=0)
    ```

    Reference: Gat, Schwartz, Schwing and Hazan, *Removing Bias in Multi-modal Classifiers: Regularization by
    Maximizing Functional Entropies*, NeurIPS 2020, arXiv:2010.10802. Differs from the authors' code in taking
    $f$ and its gradient per sample, so that the penalty does not depend on the batch size, and the norm of
    the gradient over all axes.
    """

    double_backward = True

    def __init__(
        self,
        model: keras.Model,
        factor: Any = 1e-2,
        samples: int = 3,
        measure: str = "entropy",
        inputs: Sequence[str | int] | None = None,
        norm: float = 2,
        seed: int | None = None,
        from_logits: bool | None = None,
        **kwargs: Any,
    ):
        super().__init__(model, **kwargs)
        self.factor = check_number("factor", factor, minimum=0, schedule=True)
        self.samples = check_integer("samples", samples, minimum=1)
        self.measure = check_choice("measure", measure, ("entropy", "variance"))
        self.modalities = check_input_names(inputs)
        check_number("norm", norm, minimum=1)
        self.norm = norm  # An integer stays one: its power is a product.
        self.seed = seed
        self.from_logits = None if from_logits is None else bool(from_logits)
        self.seed_generator = keras.random.SeedGenerator(seed)

    def check_loss(self, model):
        super().check_loss(model)
        gives_logits(model)

    def check_data(self, x, y):
        super().check_data(x, y)
        check_no_ids(self, x, self._names(x, is_floating_specification))

    def prepare(self, batch, forward):
        batch = super().prepare(batch, forward)
        repeated = tree.map_structure(self._repeated, batch.x)
        parts, noise = input_parts(repeated), {}
        for name in self._names(batch.x):
            values = upcast(parts[name])
            normal = keras.random.normal(
                ops.shape(values), dtype=values.dtype, seed=self.seed_generator
            )
            noise[name] = ops.std(values, axis=0, keepdims=True) * normal
        return batch.add(**{self.key: (repeated, noise)})

    def objective(self, batch, forward):
        loss, values = super().objective(batch, forward)
        target = self._log_probabilities(forward.outputs_at(batch.x), forward)
        repeated, noise = batch.extra[self.key]
        ratios = self._ratios(forward, repeated, noise, self._repeated(target), training=True)
        # Weights decide on the share of a sample in the mean, not on the size of the information.
        ones = ops.ones((ops.shape(target)[0],), dtype=target.dtype)
        share = maximum(forward.sample_mean(ones, batch), GUARD)
        information = []
        for ratio in ratios:
            ratio = mean(ops.reshape(ratio, (self.samples, -1)), axis=0)
            information.append(forward.sample_mean(ratio, batch) / share)
        factor = self.scheduled(self.factor, batch)
        return loss + ops.cast(factor * self._norm(ops.stack(information)), loss.dtype), values

    def information(self, inputs: Any, noise: Any) -> Any:
        """The information of every modality at inference, to watch it on validation data.

        Args:
            inputs: Inputs of the model.
            noise: What is added to them, in the same structure; entries that are no modality are ignored.

        Returns:
            `(modalities,)`, in the order of the inputs.
        """
        inputs = tree.map_structure(ops.convert_to_tensor, inputs)
        parts = input_parts(tree.map_structure(ops.convert_to_tensor, noise))
        target = self._log_probabilities(self.model(inputs, training=False), self)
        noise = {name: parts[name] for name in self._names(inputs)}
        ratios = self._ratios(self.model, inputs, noise, target, training=False)
        return ops.stack([mean(ratio) for ratio in ratios])

    def penalty(self, inputs: Any, noise: Any) -> Any:
        """The added term without its factor at inference, a scalar; arguments as of `information`."""
        return self._norm(self.information(inputs, noise))

    def _log_probabilities(self, outputs, model):
        return class_log_probabilities(class_outputs(outputs, model), gives_logits(model))

    def _ratios(self, model, x, noise, target, training):
        """What the information is the mean of, `(rows,)` per modality, at `x` moved by `noise`."""
        parts, names = input_parts(x), list(noise)
        target = ops.stop_gradient(ops.exp(target))

        def distance(moved):
            outputs = model(_replaced(x, dict(zip(names, moved))), training=training)
            known = model if isinstance(model, autodiff.Forward) else self
            values = -ops.sum(target * self._log_probabilities(outputs, known), axis=-1)
            values = masked_mean_per_sample(values, one_output(outputs, known))
            return ops.sum(values), values

        wide = [upcast(parts[name]) for name in names]
        moved = [part + ops.cast(noise[name], part.dtype) for name, part in zip(names, wide)]
        gradients, values = autodiff.grad(distance, has_aux=True)(moved)
        # Inputs may have dtypes of their own.
        squares = [ops.cast(inner_products([g], [g]), values.dtype) for g in gradients]
        if self.measure == "variance":
            return squares
        return [square / (values + GUARD) for square in squares]

    def _norm(self, information):
        inverse = 1.0 / (information + GUARD)
        largest = ops.stop_gradient(ops.max(inverse))  # Powers of huge numbers overflow.
        return largest * ops.sum((inverse / largest) ** self.norm) ** (1.0 / self.norm)

    def _names(self, x, floating=is_floating):
        parts = input_parts(x)
        candidates = [n for n, part in parts.items() if part is not None and floating(part)]
        chosen = candidates if self.modalities is None else self.modalities
        if not chosen or not set(chosen) <= set(candidates):
            raise ValueError(
                f"`inputs` must name floating inputs, which are {candidates}. "
                f"Received: inputs={self.modalities}"
            )
        return [name for name in parts if name in chosen]

    def _repeated(self, leaf):
        if leaf is None or self.samples == 1:
            return leaf
        return ops.concatenate([ops.convert_to_tensor(leaf)] * self.samples, axis=0)

    def get_config(self) -> dict[str, Any]:
        # `inputs` of a model are Keras' own.
        return {
            **super().get_config(),
            "factor": keras.saving.serialize_keras_object(self.factor),
            "samples": self.samples,
            "measure": self.measure,
            "inputs": self.modalities,
            "norm": self.norm,
            "seed": self.seed,
            "from_logits": self.from_logits,
        }


def _replaced(x, new):
    """`x` with some of its parts replaced."""
    if isinstance(x, Mapping):
        return {**x, **new}
    if isinstance(x, (list, tuple)):
        return type(x)(new.get(i, part) for i, part in enumerate(x))
    return new.get(0, x)
