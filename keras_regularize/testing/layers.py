"""The contract of a layer."""

import inspect
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from keras_regularize.testing._common import (
    assert_close,
    assert_config_round_trip,
    assert_finite,
    assert_gradient_matches_finite_differences,
    clone,
    compiled,
    dtype_of,
    quiet,
    run_checks,
    save_and_load,
    show,
    to_numpy,
    values_and_gradients,
    why_not_compiled,
)


def check_layer(
    layer: keras.layers.Layer,
    inputs: Any = None,
    *,
    identity_at_inference: bool = False,
    extremes: Sequence[Any] | None = None,
    skip: Sequence[str] = (),
) -> dict[str, str]:
    """Checks that a layer keeps the contract of Keras layers.

    | check | what must hold |
    |---|---|
    | `config` | config → JSON → object with every argument |
    | `symbolic` | with an unknown batch size it gives the shape and dtype of an eager call |
    | `inference` | `training=False` is deterministic, and the identity if `identity_at_inference` |
    | `independence` | at inference a sample does not depend on the others; batch of one, empty batch |
    | `randomness` | if random in training: new noise per call and per sample, repeatable with the seed |
    | `mask` | a layer that keeps the shape hands the mask on |
    | `gradient` | at inference the gradient matches finite differences |
    | `finite` | value and gradients are finite at `extremes`, in inference and in training |
    | `half precision` | finite and of the announced dtype under `mixed_float16` and `mixed_bfloat16` |
    | `saving` | after training, weights and outputs survive `.keras` in safe mode |
    | `jit` | compiled equals eager at inference; compiled training draws new noise every step |

    Args:
        layer: The layer to check; it is not built or changed, only its config is used.
        inputs: Array, or list of arrays if the layer takes a list; default: random `(4, 3)`.
        identity_at_inference: Whether the layer must do nothing outside training.
        extremes: Inputs; default: zeros, and floating inputs of ±1e4 and with equal rows.
        skip: Names of checks that do not apply, e.g. `("gradient",)` for straight-through layers.

    Returns:
        What became of each check: "passed", "skipped", or "not applicable: " and why.

    Raises:
        AssertionError: If a check fails; names the check, the input, and expected and received values.
        ValueError: If `skip` names no check.

    Cost: about thirty calls and two compiled steps.

    Example:

    ```python
    import keras
    import keras_regularize as kr

    kr.testing.check_layer(keras.layers.GaussianNoise(0.1), identity_at_inference=True)
    ```
    """
    if inputs is None:
        inputs = np.random.default_rng(0).normal(size=(4, 3))
    inputs = tree.map_structure(
        lambda a: np.asarray(a).astype("int32" if np.asarray(a).dtype.kind in "iub" else "float32"),
        inputs,
    )
    if extremes is None:
        extremes = [
            _floating(lambda a: 0.0 * a, inputs),
            _floating(lambda a: 1e4 * np.sign(a), inputs),
            _floating(lambda a: np.broadcast_to(a[:1], a.shape), inputs),
        ]
    case = SimpleNamespace(layer=layer, inputs=inputs, identity=identity_at_inference)
    case.extremes = extremes
    case.built = clone(layer)
    _seed(layer)
    case.outputs = tree.map_structure(to_numpy, _call(case.built, inputs, training=False))
    return run_checks("check_layer", layer, CHECKS, case, skip)


def _floating(fn, inputs):
    return tree.map_structure(lambda a: fn(a).astype(a.dtype) if a.dtype.kind == "f" else a, inputs)


def _seed(layer):
    # Equal weights in every clone; random layers without a seed of their own repeat as well.
    keras.utils.set_random_seed(1)


def _call(layer, inputs, **kwargs):
    return layer(tree.map_structure(ops.convert_to_tensor, inputs), **kwargs)


def _total(outputs):
    return sum(ops.sum(ops.cast(leaf, "float32")) for leaf in tree.flatten(outputs))


def _config(case):
    # Keras writes an activity regularizer only if there is one.
    assert_config_round_trip(case.layer, ignore=("activity_regularizer",))


def _symbolic(case):
    layer = clone(case.layer)
    symbols = tree.map_structure(
        lambda a: keras.Input(a.shape[1:], dtype=str(a.dtype)), case.inputs
    )
    outputs = layer(symbols)
    eager = _call(case.built, case.inputs, training=False)
    for symbol, tensor in zip(tree.flatten(outputs), tree.flatten(eager)):
        expected = ((None, *tuple(tensor.shape)[1:]), dtype_of(tensor))
        got = (tuple(symbol.shape), keras.backend.standardize_dtype(symbol.dtype))
        if got != expected:
            raise AssertionError(f"symbolic output: expected {expected}, got {got}")


def _inference(case):
    again = tree.map_structure(to_numpy, _call(case.built, case.inputs, training=False))
    for first, second in zip(tree.flatten(case.outputs), tree.flatten(again)):
        assert_close(second, first, "a second call with training=False", rtol=0, atol=0)
    if case.identity:
        assert_close(case.outputs, case.inputs, "output with training=False", rtol=0, atol=0)


def _independence(case):
    alone = tree.map_structure(lambda a: a[:1], case.inputs)
    for whole, one in zip(
        tree.flatten(case.outputs), tree.flatten(_call(case.built, alone, training=False))
    ):
        assert_close(one, whole[:1], "output for the first sample in a batch of one")
    empty = tree.map_structure(lambda a: a[:0], case.inputs)
    for whole, none in zip(
        tree.flatten(case.outputs), tree.flatten(_call(case.built, empty, training=False))
    ):
        if tuple(none.shape) != whole[:0].shape:
            raise AssertionError(
                f"empty batch: expected shape {whole[:0].shape}, got {tuple(none.shape)}"
            )


def _randomness(case):
    rows = tree.map_structure(lambda a: np.broadcast_to(a[:1], a.shape), case.inputs)
    if not _is_random(case, rows):
        return "nothing is random in training"
    outputs = []
    for _ in range(2):
        _seed(case.layer)
        layer = clone(case.layer)
        outputs.append([to_numpy(tree.flatten(_call(layer, rows, training=True))[0])])
        outputs[-1].append(to_numpy(tree.flatten(_call(layer, rows, training=True))[0]))
    assert_close(outputs[1], outputs[0], "training=True again with the same seed")
    if np.array_equal(outputs[0][0], outputs[0][1]):
        raise AssertionError(
            "expected new noise in the second call with training=True, got the same"
        )
    drawn = outputs[0][0]
    if len(drawn) > 1 and all(np.array_equal(drawn[0], row) for row in drawn[1:]):
        raise AssertionError(f"expected noise of its own for every sample, got {show(drawn)}")


def _is_random(case, inputs):
    """Whether two fresh layers with equal weights disagree in training."""
    draws = []
    for seed in (1, 2):
        _seed(case.layer)
        layer = clone(case.layer)
        _call(layer, inputs, training=False)  # Builds: equal weights.
        keras.utils.set_random_seed(seed)
        first = to_numpy(tree.flatten(_call(layer, inputs, training=True))[0])
        second = to_numpy(tree.flatten(_call(layer, inputs, training=True))[0])
        draws += [first, second]
    has_seed = any(isinstance(v, keras.random.SeedGenerator) for v in vars(case.layer).values())
    return has_seed or not all(np.array_equal(draws[0], draw) for draw in draws)


def _mask(case):
    if isinstance(case.inputs, (list, tuple, dict)) or case.inputs.ndim > 3:
        return "the inputs are no sequences"
    x = np.array(case.inputs)
    if x.ndim == 2:
        x = np.stack([x, 2.0 * x], axis=1).astype(x.dtype)
    if x.dtype.kind != "f" or x.ndim != 3:
        return "the inputs are no sequences of numbers"
    try:
        outputs = clone(case.layer)(ops.convert_to_tensor(x), training=False)
    except ValueError:
        return "sequences are refused"
    if tree.is_nested(outputs) or tuple(outputs.shape) != x.shape:
        return "the shape is not kept"
    layer = clone(case.layer)
    mask = np.ones(x.shape[:2], bool)
    mask[0, 1] = False
    kept = layer.compute_mask(ops.convert_to_tensor(x), ops.convert_to_tensor(mask))
    if not layer.supports_masking or kept is None:
        raise AssertionError(
            "expected the mask of a sequence to be handed on, got None: set `self.supports_masking = True`"
        )
    assert_close(ops.cast(kept, "float32"), mask.astype("float32"), "mask")


def _gradient(case):
    leaves = tree.flatten(case.inputs)
    floating = [a for a in leaves if a.dtype.kind == "f"]

    def fn(moved):
        moved = iter(moved)
        given = [next(moved) if a.dtype.kind == "f" else ops.convert_to_tensor(a) for a in leaves]
        outputs = case.built(tree.pack_sequence_as(case.inputs, given), training=False)
        parts = [ops.reshape(leaf, (-1,)) for leaf in tree.flatten(outputs)]
        return ops.concatenate(parts)

    assert_gradient_matches_finite_differences(fn, floating, what="the layer")


def _finite(case):
    weights = [v.value for v in case.built.trainable_variables]
    for training in (False, True):
        frozen = [v.value for v in case.built.non_trainable_variables]

        def fn(moved, inputs, training=training, frozen=frozen):
            options = _options(case.built, training)
            return _total(case.built.stateless_call(moved, frozen, inputs, **options)[0])

        evaluate = values_and_gradients(fn)
        for extreme in case.extremes:
            given = tree.map_structure(ops.convert_to_tensor, extreme)
            what = ", ".join(show(a) for a in tree.flatten(extreme))
            value, gradient = evaluate(weights, given)
            assert_finite(value, f"output at {what} with training={training}")
            assert_finite(gradient, f"weight gradient at {what} with training={training}")


def _options(layer, training):
    parameters = inspect.signature(layer.call).parameters
    return {"training": training} if "training" in parameters else {}


def _half_precision(case):
    if "dtype" not in case.layer.get_config():
        return "there is no argument `dtype`"
    for policy in ("mixed_float16", "mixed_bfloat16"):
        layer = clone(case.layer, dtype=policy)
        outputs = _call(layer, case.inputs, training=True)
        symbols = tree.map_structure(
            lambda a: keras.Input(a.shape[1:], dtype=str(a.dtype)), case.inputs
        )
        for got, symbol in zip(tree.flatten(outputs), tree.flatten(layer(symbols))):
            expected = keras.backend.standardize_dtype(symbol.dtype)
            if dtype_of(got) != expected:
                raise AssertionError(
                    f"under {policy}: expected {expected} as announced, got {dtype_of(got)}"
                )
            assert_finite(got, f"output under {policy}")


def _model(case, **options):
    symbols = tree.map_structure(
        lambda a: keras.Input(a.shape[1:], dtype=str(a.dtype)), case.inputs
    )
    _seed(case.layer)
    outputs = clone(case.layer)(symbols)
    model = keras.Model(symbols, tree.flatten(outputs)[0])
    model.compile(keras.optimizers.SGD(0.01), "mse", **options)
    return model


def _target(case):
    return np.zeros_like(tree.flatten(case.outputs)[0])


def _saving(case):
    model = _model(case, run_eagerly=True)
    with quiet("any trainable weights"):
        model.train_on_batch(case.inputs, _target(case))
    expected = to_numpy(model(case.inputs, training=False))
    restored = save_and_load(model)
    before, after = model.weights, restored.weights
    if len(before) != len(after):
        raise AssertionError(f"expected {len(before)} weights after loading, got {len(after)}")
    for one, other in zip(before, after):
        assert_close(other, one, f"weight `{one.path}` after loading", rtol=0, atol=0)
    got = restored(case.inputs, training=False)
    assert_close(got, expected, "output after loading", rtol=1e-6, atol=1e-6)


def _jit(case):
    model = _model(case, **compiled())
    got = model.predict_on_batch(case.inputs)
    assert_close(got, model(case.inputs, training=False), "compiled predict", rtol=1e-4, atol=1e-5)
    model.optimizer.learning_rate = 0.0
    rows = tree.map_structure(lambda a: np.broadcast_to(a[:1], a.shape), case.inputs)
    with quiet("any trainable weights"):
        losses = [float(to_numpy(model.train_on_batch(rows, _target(case)))) for _ in range(4)]
    assert_finite(np.array(losses), "losses of compiled training steps")
    if _is_random(case, rows) and losses[1] == losses[2] == losses[3]:
        raise AssertionError(f"expected new noise in every training step, got the losses {losses}")
    return why_not_compiled()


CHECKS = {
    "config": _config,
    "symbolic": _symbolic,
    "inference": _inference,
    "independence": _independence,
    "randomness": _randomness,
    "mask": _mask,
    "gradient": _gradient,
    "finite": _finite,
    "half precision": _half_precision,
    "saving": _saving,
    "jit": _jit,
}
