"""Where a model is perturbed: at its floating inputs, or at the output of one of its layers."""

import contextlib

import keras
from keras import ops, tree
from keras.layers import Layer

from keras_regularize._validation import compatible
from keras_regularize.autodiff import Forward
from keras_regularize.autodiff.taps import tap
from keras_regularize.numerics import upcast


class Point:
    """The tensors an attack moves, and the model as a function of them.

    `start` is the list of floating leaves of `x`, or of the output of `layer` for models whose inputs
    (token ids) cannot be moved; half precision becomes float32, as steps and norms round away in it.
    `model` is a Keras model or anything called like one.
    """

    def __init__(self, model, x, layer=None, training=False):
        self.model, self.x, self.layer, self.training = model, x, layer, training
        if layer is None:
            given = floating_leaves(x)
        else:
            self.layer = find_layer(model, layer)
            given = self._layer_outputs()
        self.dtypes = [leaf.dtype for leaf in given]
        self.start = [ops.stop_gradient(upcast(leaf)) for leaf in given]

    def outputs(self, leaves):
        """The model's outputs with `leaves` in the place of `start`."""
        return attacked_outputs(
            self.model, self.x, self.moved(leaves), self.layer, training=self.training
        )

    def _layer_outputs(self):
        with recorded_output(self.layer) as record:
            self.model(self.x, training=self.training)
        if len(record) != 1:
            raise ValueError(
                "`layer` must be a layer that the model calls once. Received "
                f"`{self.layer.name}`, which it calls {len(record)} times."
            )
        return floating_leaves(record[0])

    def aligned(self, given):
        """The leaves of `given`, of the structure of what the caller gets, that belong to `start`."""
        given = tree.flatten(given)
        if self.layer is None:
            places = [leaf is not None and is_floating(leaf) for leaf in tree.flatten(self.x)]
            if len(places) == len(given):
                given = [leaf for leaf, place in zip(given, places) if place]
        shapes = [tuple(leaf.shape) for leaf in given if leaf is not None]
        expected = [tuple(leaf.shape) for leaf in self.start]
        same = len(shapes) == len(given) == len(expected)
        if not same or not all(map(compatible, shapes, expected)):
            raise ValueError(
                "A given start must have the structure of what is perturbed. "
                f"Expected tensors of shapes {expected}, received {shapes}"
            )
        return [ops.cast(leaf, start.dtype) for leaf, start in zip(given, self.start)]

    def moved(self, leaves):
        """What stands for `leaves` outside: inputs like `x`, or the perturbation of the layer's output."""
        if self.layer is None:
            return replace_floating(self.x, leaves)
        return [leaf - start for leaf, start in zip(leaves, self.start)]

    def restored(self, leaves):
        """`leaves` in the precision of what is perturbed."""
        return [ops.cast(leaf, dtype) for leaf, dtype in zip(leaves, self.dtypes)]


def attacked_outputs(model, x, moved, layer=None, training=False):
    """Outputs for what `Point.moved` returned: inputs like `x`, or perturbations of a layer's output."""
    if layer is None:
        return model(moved, training=training)
    with perturbed_output(find_layer(model, layer), moved):
        return model(x, training=training)


def add_floating(x, perturbation):
    """`x + perturbation` on the floating tensors of two equal structures."""
    moves = iter([p for p in tree.flatten(perturbation) if p is not None and is_floating(p)])
    leaves = [leaf + ops.cast(next(moves), leaf.dtype) for leaf in floating_leaves(x)]
    return replace_floating(x, leaves)


def is_floating(leaf):
    return keras.backend.is_float_dtype(keras.backend.standardize_dtype(leaf.dtype))


def floating_leaves(x):
    """Floating tensors in a nested structure of inputs, at least one."""
    leaves = [ops.convert_to_tensor(leaf) for leaf in tree.flatten(x) if leaf is not None]
    check_floating(leaves)
    return [leaf for leaf in leaves if is_floating(leaf)]


def check_floating(x):
    """Raises, with the way out, if nothing in a structure of arrays, tensors or specifications is floating."""
    leaves = [leaf for leaf in tree.flatten(x) if leaf is not None]
    if not any(is_floating(leaf) for leaf in leaves):
        dtypes = sorted({keras.backend.standardize_dtype(leaf.dtype) for leaf in leaves})
        raise ValueError(
            'Only floating inputs can be perturbed: convert images by `x.astype("float32")` (and scale them, '
            "say by 1 / 255); for token ids pass `layer=` (a layer or its name, such as the embedding) to "
            f"perturb that layer's output. Received inputs of dtype {', '.join(dtypes)}"
        )


def replace_floating(x, leaves):
    """`x` with its floating tensors replaced in order."""
    leaves = iter(leaves)

    def pick(leaf):
        if leaf is None:
            return None
        leaf = ops.convert_to_tensor(leaf)
        return next(leaves) if is_floating(leaf) else leaf

    return tree.map_structure(pick, x)


def find_layer(model, layer):
    """A layer of a model (or of that behind a `Forward`), by itself or by name, however deeply nested."""
    model = model.model if isinstance(model, Forward) else model
    for parts in (False, True):  # Layers that other layers are made of come last.
        candidates = list(_layers(model, parts, {}))
        found = [c for c in candidates if c is layer or c.name == layer]
        if len(found) == 1:
            return found[0]
        if found:
            break
    raise ValueError(
        "`layer` must be a layer of the model or its name, unique among "
        f"{[c.name for c in candidates]}. Received: layer={layer!r}"
    )


def _layers(parent, parts, seen):
    held = getattr(parent, "layers", ())
    if parts and not isinstance(parent, keras.Model):
        attributes = [v for v in vars(parent).values() if isinstance(v, (Layer, list, tuple))]
        held = [v for v in tree.flatten(attributes) if isinstance(v, Layer)]
    for layer in held:
        if layer is getattr(parent, "teacher", None):
            continue  # A copy of the network, as a rule, with layers of the same names.
        if id(layer) not in seen:
            seen[id(layer)] = layer
            _layers(layer, parts, seen)
    return seen.values()


@contextlib.contextmanager
def recorded_output(layer):
    """Context that yields a list to which every call of `layer` appends its output."""
    record = []

    def note(outputs, *_, **__):
        record.append(outputs)
        return outputs

    with tap(layer, note):
        yield record


def perturbed_output(layer, perturbation):
    """Context in which a list of tensors is added to the floating tensors that `layer` gives out."""

    def add(outputs, *_, **__):
        given = floating_leaves(outputs)
        shapes = [[tuple(leaf.shape) for leaf in leaves] for leaves in (given, perturbation)]
        if len(given) != len(perturbation) or not all(map(compatible, *shapes)):
            raise ValueError(
                f"A perturbation of the output of `{layer.name}` must have its shapes. "
                f"Expected {shapes[0]}, received {shapes[1]}"
            )
        moved = [a + ops.cast(b, a.dtype) for a, b in zip(given, perturbation)]
        return replace_floating(outputs, moved)

    return tap(layer, add)
