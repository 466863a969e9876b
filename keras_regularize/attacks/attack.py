"""The base of the attacks: a callable `attack(model, x, y)` with a config."""

import contextlib
import functools
from typing import Any

import keras
from keras import ops

from keras_regularize import autodiff
from keras_regularize.attacks.inputs import check_inputs
from keras_regularize.attacks.points import Point, check_input_names, ids_refused
from keras_regularize.autodiff import backend
from keras_regularize.configuration import Configured
from keras_regularize.numerics import GUARD

# Up to here a loop is unrolled: called outside of a compiled step, JAX compiles a loop anew every time, which
# takes as long as so many steps do.
UNROLLED_STEPS = 10


class Attack(Configured):
    """A search for a perturbation of a model's inputs, callable as `attack(model, x, y)`: the base of attacks.

    A subclass overrides `search(point, y)`: from the list of tensors `point.start` to those of the same shapes
    that it found, with `point.outputs(leaves)` for the model's outputs there. Layers and models of Keras are not
    a fit as a base: an attack has no weights and takes a model as its argument. Its config is read from its
    constructor.

    Args:
        layer: Layer, or its name, whose output is perturbed instead of the inputs.
        inputs: Names or positions of the inputs that are perturbed; all floating ones by default.
        from_logits: Whether the attacked model gives out logits; `None` asks its compiled loss.
        seed: Seed of the random start.

    Raises:
        ValueError: If `inputs` are no names or positions, or given together with `layer`.

    Cost: that of `search`.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr


    class Brighter(kr.attacks.Attack):
        "Adds a constant to the inputs."

        def __init__(self, shift=0.1, **kwargs):
            super().__init__(**kwargs)
            self.shift = shift

        def search(self, point, y):
            return [leaf + self.shift for leaf in point.start]


    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    Brighter(0.2)(model, np.zeros((2, 4), "float32"))  # 0.2 everywhere
    ```
    """

    #: Whether a call returns the perturbation itself instead of perturbed inputs.
    returns_perturbation = False
    #: Whether nothing but the direction of a sample's gradient matters, not its length.
    follows_direction = True
    #: What an error proposes, beside `from_logits`, where it is not known whether a model gives out logits.
    remedy = ""

    def __init__(
        self,
        layer: Any = None,
        from_logits: bool | None = None,
        seed: int | None = None,
        inputs: Any = None,
    ):
        self.layer = layer.name if isinstance(layer, keras.layers.Layer) else layer
        self.inputs = check_input_names(inputs, self.layer)
        self.from_logits = from_logits
        self.seed = seed
        #: Tracked by the models that hold the attack, so that its state is saved and threaded on JAX.
        self.seed_generator = keras.random.SeedGenerator(seed)

    def __call__(
        self, model: Any, x: Any, y: Any = None, training: bool = False, **start: Any
    ) -> Any:
        """Perturbs a batch.

        Args:
            model: A Keras model, or a callable like one (`model(x, training=…)`).
            x: Inputs, any nested structure; its floating tensors (with `inputs`, those of these parts) are
                perturbed jointly.
            y: Labels, where the attack needs them.
            training: Whether the model runs in training mode. Nothing in it changes either way.
            **start: A given start instead of a random one (see the attack).

        Returns:
            Perturbed inputs of the structure of `x`; with `layer`, the list of perturbations of the
            tensors that layer gives out. Constants: no gradient flows through the search.

        Raises:
            ValueError: If `model` cannot be called, or the inputs do not fit the attack: none is floating and no
                `layer` is given, one that `inputs` names is missing or not floating, or they lie farther than
                `epsilon` outside its bounds (where values can be read, that is not inside of a traced function).
        """
        if not callable(model):
            raise ValueError(
                f"`model` must be a Keras model or a callable like one. Received: model={model!r}"
            )
        with backend.no_recording():
            # Inside a train step the data was looked at before it.
            if isinstance(model, keras.Model) and not model.built:
                autodiff.Forward(model)(x)
            if not isinstance(model, autodiff.Forward):
                check_inputs(self, x)
            if isinstance(model, keras.Model):
                model = autodiff.Forward(model)  # Batch statistics and seeds stay as they are.
            point = Point(model, x, self.layer, training, self.inputs)
            empty = any(0 in leaf.shape for leaf in point.start)
            # `torch.compile` could not follow the look at ids, which has been taken before.
            looks = self.layer is None and not backend.is_compiling()
            with ids_refused(model, x, self.inputs) if looks else contextlib.nullcontext():
                found = point.start if empty else self.search(point, y, **start)
            return self.result(point, [ops.stop_gradient(leaf) for leaf in found])

    def search(self, point: Point, y: Any, *args: Any, **start: Any) -> list[Any]:
        """The perturbed tensors, in the place of `point.start`; an attack names the start it can be given."""
        return point.start

    def result(self, point: Point, leaves: list[Any]) -> Any:
        """What the caller gets for the tensors `search` found."""
        return point.moved(leaves if point.layer is not None else point.restored(leaves))


def ascent_direction(point, criterion, leaves):
    """Gradient of the summed criterion, which is that of every sample whatever the batch size."""
    return autodiff.grad(lambda leaves: ops.sum(criterion(point.outputs(leaves))))(leaves)


def repeat(steps, body, state):
    """`state = body(i, state)` for `i` from 0 to `steps - 1`; `state` is a tuple of fixed structure."""
    if steps > UNROLLED_STEPS:
        return ops.fori_loop(0, steps, backend.in_branch(body), state)
    for i in range(steps):
        state = body(i, state)
    return state


def per_sample_norm(leaves):
    """Joint Euclidean norm per sample, broadcastable against each leaf: a list."""
    squares = [_over_samples(ops.sum, leaf * leaf) for leaf in leaves]
    norm = ops.sqrt(functools.reduce(ops.add, squares))
    return [_like(norm, leaf) for leaf in leaves]


def unit_directions(leaves):
    """The leaves divided by their joint norm per sample; zero stays zero."""
    return [leaf / (norm + GUARD) for leaf, norm in zip(leaves, per_sample_norm(leaves))]


def per_sample_max(leaves):
    """Joint largest magnitude per sample, broadcastable against each leaf: a list."""
    largest = functools.reduce(ops.maximum, [_over_samples(ops.amax, ops.abs(x)) for x in leaves])
    return [_like(largest, leaf) for leaf in leaves]


def where_samples(condition, leaves, others):
    """`leaves` of the samples where `condition`, `(batch,)`, holds, and `others` elsewhere."""
    return [ops.where(along_samples(condition, a), a, b) for a, b in zip(leaves, others)]


def along_samples(values, leaf):
    """A value per sample, `(batch,)`, in a shape that broadcasts against a leaf."""
    return ops.reshape(values, (-1,) + (1,) * (len(leaf.shape) - 1))


def _like(values, leaf):
    return ops.cast(along_samples(values, leaf), leaf.dtype)


def _over_samples(reduction, leaf):
    axes = tuple(range(1, len(leaf.shape)))
    return reduction(leaf, axis=axes) if axes else leaf
