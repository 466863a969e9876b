"""Where a model is perturbed: at its floating inputs, or at the output of one of its layers."""

import contextlib
import functools
from collections.abc import Mapping

import keras
from keras import ops, tree
from keras.layers import Layer

from keras_regularize.autodiff import Forward
from keras_regularize.autodiff.taps import recorded_output, tap
from keras_regularize.numerics import upcast
from keras_regularize.scores import wrapped_models
from keras_regularize.utils.graphs import calls_of
from keras_regularize.validation import compatible


class Point:
    """The tensors an attack moves, and the model as a function of them.

    `start` is the list of floating leaves of `x` (of those of its parts that are `inputs`), or of the output of
    `layer` for models whose inputs (token ids) cannot be moved; half precision becomes float32, as steps and
    norms round away in it. `model` is a Keras model or anything called like one.
    """

    def __init__(self, model, x, layer=None, training=False, inputs=None):
        self.model, self.x, self.layer, self.training = model, x, layer, training
        self.inputs = inputs
        if layer is None:
            given = floating_leaves(x, inputs)
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
            places = movable(self.x, self.inputs)
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
            return replace_floating(self.x, leaves, self.inputs)
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


def add_floating(x, perturbation, inputs=None):
    """`x + perturbation` on the floating tensors of two equal structures, of those parts that are `inputs`."""
    moves = iter(floating_leaves(perturbation, inputs))
    leaves = [leaf + ops.cast(next(moves), leaf.dtype) for leaf in floating_leaves(x, inputs)]
    return replace_floating(x, leaves, inputs)


def is_floating(leaf):
    return keras.backend.is_float_dtype(keras.backend.standardize_dtype(leaf.dtype))


def check_input_names(inputs, layer=None):
    """The argument `inputs` of what moves inputs, a list or `None`, checked."""
    if inputs is None:
        return None
    if not isinstance(inputs, (list, tuple)) or not inputs:
        raise ValueError(
            "`inputs` must be a list of names or positions of inputs, or None. "
            f"Received: inputs={inputs!r}"
        )
    if layer is not None:
        raise ValueError(
            "With `layer` the output of that layer is perturbed and no inputs are: pass one of the two. "
            f"Received: inputs={inputs!r}, layer={layer!r}"
        )
    return list(inputs)


def input_parts(x):
    """The inputs by name (dictionary) or position (list)."""
    if isinstance(x, Mapping):
        return dict(x)
    return dict(enumerate(x if isinstance(x, (list, tuple)) else [x]))


def movable(x, inputs=None):
    """Of each leaf in `tree.flatten(x)`, whether it is floating and in a part of `x` that `inputs` names.

    These are all parts by default. Raises if one that is named is missing or has no floating leaf.
    """
    leaves = [(path[0] if path else 0, leaf) for path, leaf in tree.flatten_with_path(x)]
    floating = [leaf is not None and is_floating(leaf) for _, leaf in leaves]
    if inputs is None:
        return floating
    names = {name for (name, _), found in zip(leaves, floating) if found}
    if not set(inputs) <= names:
        raise ValueError(
            f"`inputs` must name floating inputs, which are {[n for n in input_parts(x) if n in names]}. "
            f"Received: inputs={inputs}"
        )
    return [found and name in inputs for (name, _), found in zip(leaves, floating)]


def floating_leaves(x, inputs=None):
    """Floating tensors in a nested structure of inputs, at least one; of those parts that are `inputs`."""
    x = tree.map_structure(lambda leaf: None if leaf is None else ops.convert_to_tensor(leaf), x)
    check_floating(x, inputs)
    return [leaf for leaf, moves in zip(tree.flatten(x), movable(x, inputs)) if moves]


def check_floating(x, inputs=None):
    """Raises, with the way out, if nothing in a structure of arrays, tensors or specifications is floating.

    Or if one of the parts that `inputs` names is not.
    """
    if inputs is not None:
        movable(x, inputs)
        return
    leaves = [leaf for leaf in tree.flatten(x) if leaf is not None]
    if not any(is_floating(leaf) for leaf in leaves):
        dtypes = sorted({keras.backend.standardize_dtype(leaf.dtype) for leaf in leaves})
        raise ValueError(
            'Only floating inputs can be perturbed: convert images by `x.astype("float32")` (and scale them, '
            "say by 1 / 255); for token ids pass `layer=` (a layer or its name, such as the embedding) to "
            f"perturb that layer's output. Received inputs of dtype {', '.join(dtypes)}"
        )


def check_no_ids(model, x, keys=None):
    """Raises where floating inputs are read as ids by an embedding, which has no gradient in them.

    Of inputs in a list or dictionary, `keys` are those that are meant.
    """
    parts = input_parts(x)
    if isinstance(x, Mapping):
        parts = {key: parts[key] for key in sorted(parts)}  # As Keras flattens them.
    for position, (key, leaf) in enumerate(parts.items()):
        meant = keys is None or key in keys
        if meant and hasattr(leaf, "dtype") and is_floating(leaf):
            found = feeds_embedding(model, position)
            if found is not None:
                raise ValueError(
                    f"The floating input {key!r} is read as ids by the embedding {found.name!r}, which has no "
                    "gradient in them: pass ids as integers, which stay as they are, and name the embedding as "
                    "`layer=` to perturb its output"
                )


def feeds_embedding(model, position=0):
    """The `Embedding` that reads an input of a built functional or Sequential model directly, or `None`."""
    model = wrapped_models(model)[-1]
    if not isinstance(model, keras.Model) or not getattr(model, "inputs", None):
        return None
    if isinstance(model, keras.Sequential):
        first = model.layers[0]
        return first if isinstance(first, keras.layers.Embedding) else feeds_embedding(first)
    if position >= len(model.inputs):
        return None
    if any(isinstance(layer, keras.layers.Embedding) for layer in model.layers):
        given = model.inputs[position]
        (name,) = [part.name for part in model.layers if _is_input(part) and part.output is given]
        for layer, sources in calls_of(model):
            if isinstance(layer, keras.layers.Embedding) and name in sources:
                return layer
    return None


def _is_input(layer):
    return isinstance(layer, keras.layers.InputLayer)


def replace_floating(x, leaves, inputs=None):
    """`x` with its floating tensors replaced in order; of those parts that are `inputs`."""
    leaves = iter(leaves)
    given = [leaf if leaf is None else ops.convert_to_tensor(leaf) for leaf in tree.flatten(x)]
    new = [next(leaves) if moves else leaf for leaf, moves in zip(given, movable(x, inputs))]
    return tree.pack_sequence_as(x, new)


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
def ids_refused(model, x, inputs=None):
    """Context of passes in which floating inputs are perturbed: raises where they serve as ids.

    Those that `inputs` does not name are not perturbed and may be ids.
    """
    model = model.model if isinstance(model, Forward) else model
    moved, symbols = movable(x, inputs), _symbols(model, x)
    _check_integer_inputs(x, symbols, moved)
    if any(
        leaf is not None and not moves and is_floating(leaf if symbol is None else symbol)
        for leaf, symbol, moves in zip(tree.flatten(x), symbols, moved)
    ):
        # What is floating when it reaches an embedding may then be rightly so.
        check_no_ids(model, x, inputs)
        yield
        return
    with contextlib.ExitStack() as taps:
        for layer in _layers(model, True, {}):
            if isinstance(layer, keras.layers.Embedding):
                taps.enter_context(tap(layer, functools.partial(_refuse_floating, layer)))
        yield


def _refuse_floating(layer, outputs, inputs, *modes, **keywords):
    # With further arguments it may map features back to scores, as tied weights of language models do.
    if not modes and not keywords.get("reverse") and is_floating(inputs):
        raise _ids(f"the embedding `{layer.name}`", inputs)
    return outputs


def _symbols(model, x):
    """For each leaf of `x` the symbolic input of a functional model, to whose dtype it is cast; or `None`."""
    while hasattr(model, "training_inputs"):  # A wrapper of this package.
        model = model.model
    expected, given = list(getattr(model, "inputs", None) or ()), tree.flatten(x)
    return expected if len(expected) == len(given) else [None] * len(given)


def _check_integer_inputs(x, symbols, moved):
    for symbol, leaf, moves in zip(symbols, tree.flatten(x), moved):
        if moves and symbol is not None and not is_floating(symbol):
            raise _ids(f"the integer input `{symbol.name}`", leaf)


def _ids(place, leaf):
    return ValueError(
        f"Ids cannot be perturbed, and {place} takes a floating input for ids. Pass integers "
        '(`x.astype("int32")`), beside other inputs or with `layer=` (the embedding, say) to perturb what that '
        f"layer gives out. Received ids of dtype {keras.backend.standardize_dtype(leaf.dtype)}"
    )


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
