"""Runs the golden cases of `tests/golden/*.json`: inputs and hyperparameters → values and gradients.

A file belongs to the public name in its `api`. The numbers come from authors' own code or from an independent
float64 oracle (`oracle` says which) and are compared in float32 within the case's `rtol` and `atol`.

Names with a third part (`models.VAT.regularization_loss`) mean the deterministic core of a symbol: the
method of that name of an object made from `config` (and the network), unless `ADAPTERS` says how else the
public API gives these numbers.
"""

import functools
import inspect
import json
import pathlib

import keras
import numpy as np
from keras import ops, tree

import keras_regularize as kr
from keras_regularize import autodiff
from keras_regularize.regularizers.activity import DIVIDES
from keras_regularize.testing._common import fused, to_numpy, values_and_gradients

FOLDER = pathlib.Path(__file__).parent / "golden"


# The dialect


def load():
    """`{api: file}` of all golden files."""
    files = [json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))]
    return {file["api"]: file for file in files}


def find(api):
    """The public object of the first two parts of a name, or None."""
    namespace, name = api.split(".")[:2]
    return getattr(getattr(kr, namespace, None), name, None)


def array(value):
    """Data of a case: regular lists become int32, bool or float32 arrays; the rest keeps its structure."""
    if isinstance(value, dict):
        return {key: array(entry) for key, entry in value.items()}
    if not isinstance(value, list):
        return value
    try:
        result = np.array(value)
    except ValueError:
        return [array(entry) for entry in value]
    if result.dtype.kind in "OU":
        return [array(entry) for entry in value]
    return result.astype({"i": "int32", "b": "bool"}.get(result.dtype.kind, "float32"))


def arrays(values):
    """A list of arrays, also where they happen to have equal shapes."""
    return [np.asarray(array(value)) for value in values]


def construct(value, key=None):
    """Resolves the forms of `config` that stand for objects."""
    if isinstance(value, list):
        return [construct(entry) for entry in value]
    if not isinstance(value, dict):
        return value
    if "module" in value and "class_name" in value:
        return keras.saving.deserialize_keras_object(value)
    if "class" in value:
        return find_class(value["class"])(**construct(value.get("config", {})))
    if key in ("optimizer", "schedule"):
        ((name, config),) = value.items()
        module = keras.optimizers if key == "optimizer" else keras.optimizers.schedules
        return getattr(module, name)(**config)
    return {name: construct(entry, name) for name, entry in value.items()}


def find_class(name):
    for module in (kr.losses, kr.attacks, kr.layers, kr.models, keras.losses, keras.layers):
        if hasattr(module, name):
            return getattr(module, name)
    raise LookupError(f"no class {name!r}")


def network(layers):
    """A built dense network with given weights."""
    inputs = x = keras.Input((len(layers[0]["kernel"]),))
    for layer in layers:
        regularizer = keras.regularizers.L2(layer["kernel_l2"]) if "kernel_l2" in layer else None
        dense = keras.layers.Dense(
            len(layer["kernel"][0]),
            activation=layer["activation"],
            use_bias=layer["bias"] is not None,
            kernel_regularizer=regularizer,
        )
        x = dense(x)
        dense.set_weights(arrays(w for w in (layer["kernel"], layer["bias"]) if w is not None))
    return keras.Model(inputs, x)


def compare(actual, expected, case, what):
    """Compares nested results within the case's tolerances."""
    if isinstance(expected, dict):
        for key, entry in expected.items():
            got = actual[key] if isinstance(actual, dict) else getattr(actual, key)
            compare(got, entry, case, f"{what}.{key}")
        return
    wanted = array(expected)
    if isinstance(wanted, list):
        assert len(actual) == len(wanted), (
            f"{what}: expected {len(wanted)} parts, got {len(actual)}"
        )
        for i, (got, entry) in enumerate(zip(actual, expected)):
            compare(got, entry, case, f"{what}[{i}]")
        return
    if isinstance(actual, (list, tuple)):
        actual = [to_numpy(entry) for entry in actual]
    wanted = np.asarray(expected, "float64")
    actual = np.asarray(to_numpy(actual), "float64")
    assert actual.shape == wanted.shape, f"{what}: expected {wanted.shape}, got {actual.shape}"
    np.testing.assert_allclose(
        actual, wanted, rtol=case["rtol"], atol=case["atol"], err_msg=f"{what} ({case['note']})"
    )


def floats(value):
    return tree.map_structure(lambda leaf: np.asarray(leaf, "float32"), value)


def tensors(value):
    return tree.map_structure(
        lambda leaf: ops.convert_to_tensor(leaf) if isinstance(leaf, np.ndarray) else leaf, value
    )


# Kinds


def run_loss(symbol, file, case):
    loss = symbol(**{"reduction": "none", **construct(case["config"])})
    call, expected = array(case["call"]), case["expect"]
    evaluate = values_and_gradients(lambda y_pred, y_true: loss(y_true, y_pred))
    value, gradient = evaluate(call["y_pred"], call["y_true"])
    compare(value, expected["value"], case, "value")
    if "grad" in expected:
        compare(gradient, expected["grad"]["y_pred"], case, "gradient")


# Files with the mean over the batch that Keras adds to the loss of a model, which divides the sum.
ADDED_BY_KERAS = {"regularizers.TotalVariation"}


def run_regularizer(symbol, file, case):
    regularizer = symbol(**construct(case["config"]))
    w = array(case["call"]["w"])
    value, gradient = values_and_gradients(lambda w: regularizer(w))(w)
    if file.get("activity") and not DIVIDES:
        value, gradient = value * len(w), gradient * len(w)
    if file["api"] in ADDED_BY_KERAS and DIVIDES:
        value, gradient = value / len(w), gradient / len(w)
    compare(value, case["expect"]["value"], case, "value")
    compare(gradient, case["expect"]["grad"]["w"], case, "gradient")


def run_constraint(symbol, file, case):
    constraint = symbol(**construct(case["config"]))
    value = constraint(ops.convert_to_tensor(array(case["call"]["w"])))
    compare(value, case["expect"]["value"], case, "value")


def run_function(symbol, file, case):
    config, call = construct(case.get("config", {})), array(case["call"])
    model = network(case["network"]) if "network" in case else None
    if "weights" in case:
        config["weights"] = case["weights"]
    if model is not None and "loss" in case:
        model.compile(loss=construct(case["loss"]))
    function = callable_of(symbol, file["api"], config, model)
    gradients = dict(case["expect"].get("grad", {}))
    of_network = gradients.pop("weights") if model is not None and "weights" in gradients else None
    expected = {k: v for k, v in case["expect"].items() if k not in ("grad", "grad_of")}
    expected = expected if len(expected) > 1 else expected["value"]

    if of_network is not None:
        variables = model.trainable_variables

        def at(weights):
            with keras.StatelessScope(state_mapping=list(zip(variables, weights))):
                result = function(**tensors(call))
            return _total(result, case), result

        run = autodiff.value_and_grad(at, has_aux=True)
        (_, result), gradient = run([v.value for v in variables])
        compare(gradient, of_network, case, "gradient.weights")
    else:
        moved = {name: floats(call.pop(name)) for name in gradients}
        data = {k: call.pop(k) for k, v in list(call.items()) if isinstance(v, np.ndarray)}

        def at(moved, data):
            result = function(**moved, **data, **call)
            return _total(result, case), result

        if gradients:
            run = fused(autodiff.value_and_grad(at, has_aux=True))
            (_, result), gradient = run(tensors(moved), tensors(data))
            compare(gradient, gradients, case, "gradient")
        elif data and model is None and file["api"] not in ADAPTERS:
            result = fused(lambda data: function(**data, **call))(tensors(data))
        else:
            result = function(**tensors(data), **call)
    compare(result, expected, case, "value")


def callable_of(symbol, api, config, model):
    """What a case's `call` is handed to."""
    before = () if model is None else (model,)
    if api in ADAPTERS:
        return functools.partial(ADAPTERS[api], config, *before)
    parts = api.split(".")
    if len(parts) == 3 and isinstance(inspect.getattr_static(symbol, parts[2]), staticmethod):
        return functools.partial(getattr(symbol, parts[2]), **config)
    if len(parts) == 3:
        return getattr(symbol(*before, **config), parts[2])
    if inspect.isclass(symbol):
        return functools.partial(symbol(**config), *before)
    return functools.partial(symbol, *before, **config)


def _total(result, case):
    """The scalar that the gradient of a case is taken of."""
    value = result["value"] if isinstance(result, dict) else result
    rule = case["expect"].get("grad_of")
    if "cotangent" in case:
        return ops.sum(value * ops.convert_to_tensor(array(case["cotangent"])))
    if rule == "sum(linspace(0.5, 1.5, size).reshape(shape) * value)":
        shape = tuple(value.shape)
        weights = np.linspace(0.5, 1.5, int(np.prod(shape))).reshape(shape)
        return ops.sum(value * ops.convert_to_tensor(weights.astype("float32")))
    assert rule is None, f"unknown rule {rule!r}"
    return ops.sum(value)


def run_layer(symbol, file, case):
    layer = symbol(**construct(case["config"]))
    inputs = tensors(array(case["call"]["inputs"]))
    options = {k: v for k, v in case["call"].items() if k != "inputs"}
    value = layer(inputs)
    if case.get("weights") is not None:
        layer.set_weights(arrays(case["weights"]))
    variables = layer.trainable_variables

    def at(weights):
        with keras.StatelessScope(state_mapping=list(zip(variables, weights))):
            value = layer(inputs, **options)
        return ops.sum(value), value

    if "grad" in case["expect"]:
        run = autodiff.value_and_grad(at, has_aux=True)
        (_, value), gradient = run([v.value for v in variables])
        compare(gradient, case["expect"]["grad"]["weights"], case, "gradient.weights")
    else:
        value = layer(inputs, **options)
    compare(value, case["expect"]["value"], case, "value")


def run_metric(symbol, file, case):
    metric = symbol(**construct(case["config"]))

    def result(state, data):
        data = {"y_true": None, **data}  # Some metrics have no use for it.
        return metric.stateless_result(metric.stateless_update_state(state, **data))

    data = tensors(array(case["call"]))
    value = fused(result)([v.value for v in metric.variables], data)
    compare(value, case["expect"]["value"], case, "result")


def run_optimizer(symbol, file, case):
    optimizer = symbol(**construct(case["config"]))
    variables = [
        keras.Variable(w, name=f"w{i}") for i, w in enumerate(arrays(case["call"]["variables"]))
    ]
    for gradients in case["call"]["gradients"]:
        optimizer.apply(tensors(arrays(gradients)), variables)
    compare(variables, case["expect"]["variables"], case, "variables")


def run_model(symbol, file, case):
    if file["api"] == "models.FactoredSphericalClassifier":
        return run_factored_classifier(symbol, case)
    wrapped = net = network(case["network"])
    for inner in reversed(case.get("inner", [])):
        wrapped = find(inner["api"])(wrapped, **construct(inner["config"]))
    model = symbol(wrapped, **construct(case["config"]))
    # JAX compiles a step faster than it runs one operation by operation.
    model.compile(
        construct(case["optimizer"], "optimizer"),
        construct(case["loss"]),
        run_eagerly=keras.backend.backend() != "jax",
    )
    for step in case["steps"]:
        x, y = array(step["x"]), array(step["y"])
        if "index" in step:
            y = {"label": y, "index": array(step["index"])}
        model.train_on_batch(x, y)
    for name, expected in case["expect"].items():
        got = net.weights if name == "weights" else getattr(model, name)
        compare(got, expected, case, name)


def run_gan(symbol, file, case):
    networks = {name: network(case[name]) for name in ("generator", "discriminator")}
    model = symbol(**networks, **construct(case["config"]))
    model.compile(
        *(construct(case[f"{name}_optimizer"], "optimizer") for name in networks),
        run_eagerly=keras.backend.backend() != "jax",
    )
    for step in case["steps"]:
        model.train_on_batch(array(step["x"]), array(step["y"]))
    for name, net in networks.items():
        compare(net.weights, case["expect"][f"{name}_weights"], case, name)


def run_factored_classifier(symbol, case):
    """The last layer of the network is the output kernel; the loss is an argument of the model."""
    *layers, output = case["network"]
    net = network(layers)
    model = symbol(net, len(output["kernel"][0]), **construct(case["config"]))
    model.compile(construct(case["optimizer"], "optimizer"))
    model.set_output_kernel(array(output["kernel"]))
    for step in case["steps"]:
        model.train_on_batch(array(step["x"]), array(step["y"]))
    weights = [*net.weights, model.output_kernel()]
    compare(weights, case["expect"]["weights"], case, "weights")


def run_bilevel(symbol, file, case):
    call = array(case["call"])
    inner, outer = BILEVEL_PROBLEMS[call["problem"].pop("name")](**tensors(call.pop("problem")))
    if inspect.isclass(symbol):
        result = symbol(inner, outer, **case["config"]).minimize(**call)
    else:
        result = symbol(inner, outer, **call, **case["config"])
    compare(result, case["expect"]["value"], case, "value")


def l2_logistic(x_train, y_train, x_val, y_val):
    """Sums over the samples; a penalty for all weights or one for each."""

    def loss(w, x, y):
        return ops.sum(ops.softplus(-y * ops.matmul(x, w)))

    def inner(w, a):
        return loss(w, x_train, y_train) + 0.5 * ops.sum(ops.exp(a) * w * w)

    return inner, lambda w, a: loss(w, x_val, y_val)


def quadratic(A1, b1, A2, A3, b2):
    def inner(w, a):
        return 0.5 * ops.sum((ops.matmul(A2, w) + ops.matmul(A3, a) - b2) ** 2)

    return inner, lambda w, a: 0.5 * ops.sum((ops.matmul(A1, w) - b1) ** 2)


BILEVEL_PROBLEMS = {"l2_logistic": l2_logistic, "quadratic": quadratic}


RUNNERS = {
    "bilevel": run_bilevel,
    "gan": run_gan,
    "loss": run_loss,
    "regularizer": run_regularizer,
    "constraint": run_constraint,
    "activation": run_function,
    "function": run_function,
    "network_function": run_function,
    "layer": run_layer,
    "metric": run_metric,
    "optimizer": run_optimizer,
    "model": run_model,
}


# Other ways to the numbers: `{api: function(config, [network], **call)}`


def chambolle_pock(config, y, matrix, **call):
    """The minimizer."""
    return kr.inverse.chambolle_pock(y, matrix, **call, **config, iterations=1000)


def evaluate_prior(config, x):
    """Of a layer with the weights of the case."""
    weights = arrays(config.pop("weights"))
    layer = kr.layers.LearnedProximal(**config)
    layer.build(x.shape)
    layer.set_weights(weights)
    return kr.inverse.evaluate_prior(layer, x)


def functional_entropy(config, model, inputs, noise):
    """The network of a case sees the modalities concatenated."""
    parts = [keras.Input(np.shape(part)[1:]) for part in inputs]
    joined = keras.Model(parts, model(keras.layers.Concatenate()(parts)))
    wrapper = kr.models.FunctionalEntropyRegularization(joined, **config)
    return {
        "value": wrapper.penalty(inputs, noise),
        "information": wrapper.information(inputs, noise),
    }


def group_dro_update(config, steps):
    """Group weights and contributions over several batches of losses."""
    model = kr.models.GroupDRO(keras.Sequential([keras.Input((1,))]), **config)
    results = []
    for step in steps:
        losses, groups = (ops.convert_to_tensor(step[key]) for key in ("losses", "groups"))
        batch = kr.autodiff.Batch(None, columns={"group": groups})
        q, weights = model._reweight(batch, losses, ops.ones_like(losses))
        model.group_weights.assign(q)
        results.append({"group_weights": q, "contributions": weights * losses})
    return results


def prospect_linear_regression(config, x, y, indices, l2, learning_rate, **spectrum):
    """Weights after steps on single samples, each followed by the proximal map of the L2 penalty."""
    x, y, indices = map(to_numpy, (x, y, indices))
    dense = keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")
    net = keras.Sequential([keras.Input((x.shape[1],)), dense])
    model = kr.models.Prospect(net, len(x), **spectrum, **config)
    model.compile(
        keras.optimizers.SGD(learning_rate),
        lambda y_true, y_pred: 0.5 * ops.square(y_pred - y_true),
        run_eagerly=keras.backend.backend() != "jax",
    )
    model.fill_tables(x, y[:, None])
    for i in indices:
        model.train_on_batch(
            x[i : i + 1], {"label": y[i : i + 1, None], "index": indices[:1] * 0 + i}
        )
        dense.kernel.assign(dense.kernel / (1.0 + learning_rate * l2 / len(x)))
    return dense.kernel[:, 0]


def rationale_invariance(config, **call):
    """The two results by name."""
    return dict(zip(("value", "bank"), kr.losses.rationale_invariance(**call)))


def data_emphasized_elbo(config, **call):
    """The loss, whose gradient is meant, beside the variances."""
    result = kr.hyper.data_emphasized_elbo(**call, **config)
    return {"value": result.loss, **result._asdict()}


def on_arrays(function):
    """A function of NumPy arrays, which are not to be traced."""

    def run(config, **call):
        call = {k: to_numpy(v) if ops.is_tensor(v) else v for k, v in call.items()}
        return function(**config, **call)

    return run


def fit_power_law(config, sizes, losses):
    """NumPy, hence not inside a compiled program."""
    return kr.analysis.fit_power_law(to_numpy(sizes), to_numpy(losses), **config)


def of_network(function):
    """A function of a model whose weights are in the call."""

    def run(config, **call):
        return function(network(call.pop("network")), **config, **call)

    return run


ADAPTERS = {
    "analysis.autoencoder_log_density_difference": of_network(
        kr.analysis.autoencoder_log_density_difference
    ),
    "analysis.autoencoder_score": of_network(kr.analysis.autoencoder_score),
    "analysis.folding_measure": on_arrays(kr.analysis.folding_measure),
    "analysis.space_folding": of_network(kr.analysis.space_folding),
    "analysis.jacobian_nuclear_norm": of_network(kr.analysis.jacobian_nuclear_norm),
    "analysis.sign_autoencoder_risk": on_arrays(kr.analysis.sign_autoencoder_risk),
    "analysis.brier_decomposition": on_arrays(kr.analysis.brier_decomposition),
    "analysis.minimax_linear_regret": on_arrays(kr.analysis.minimax_linear_regret),
    "analysis.fit_temperature": on_arrays(kr.analysis.fit_temperature),
    "analysis.out_of_distribution_scores": on_arrays(kr.analysis.out_of_distribution_scores),
    "analysis.kernel_self_distillation": on_arrays(kr.analysis.kernel_self_distillation),
    "analysis.factorization_representers": on_arrays(kr.analysis.factorization_representers),
    "analysis.hilbert_kernel_predict": on_arrays(kr.analysis.hilbert_kernel_predict),
    "analysis.deep_random_features_error": on_arrays(kr.analysis.deep_random_features_error),
    "analysis.linearized_feature_covariance": on_arrays(kr.analysis.linearized_feature_covariance),
    "analysis.infinite_width_kernels": on_arrays(kr.analysis.infinite_width_kernels),
    "analysis.l1_representers": on_arrays(kr.analysis.l1_representers),
    "analysis.loss_difference_curve": on_arrays(kr.analysis.loss_difference_curve),
    "analysis.magnitude_reduced_losses": on_arrays(kr.analysis.magnitude_reduced_losses),
    "analysis.ridge_test_error": on_arrays(kr.analysis.ridge_test_error),
    "analysis.naive_bayes_head": on_arrays(kr.analysis.naive_bayes_head),
    "analysis.off_policy_bound": on_arrays(kr.analysis.off_policy_bound),
    "analysis.optimal_distillation_weight": on_arrays(kr.analysis.optimal_distillation_weight),
    "analysis.smoothed_density": on_arrays(kr.analysis.smoothed_density),
    "analysis.split_conformal_quantile": on_arrays(kr.analysis.split_conformal_quantile),
    "analysis.target_shift_weights": on_arrays(kr.analysis.target_shift_weights),
    "generative.black_box_cross_entropy": on_arrays(kr.generative.black_box_cross_entropy),
    "generative.black_box_square_loss": on_arrays(kr.generative.black_box_square_loss),
    "inverse.chambolle_pock": chambolle_pock,
    "inverse.evaluate_prior": evaluate_prior,
    "utils.t_batches": on_arrays(kr.utils.t_batches),
    "hyper.data_emphasized_elbo": data_emphasized_elbo,
    "losses.rationale_invariance": rationale_invariance,
    "analysis.fit_power_law": fit_power_law,
    "models.FunctionalEntropyRegularization.penalty": functional_entropy,
    "models.GroupDRO.update": group_dro_update,
    "models.Prospect.linear_regression": prospect_linear_regression,
}
