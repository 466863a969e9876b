"""Margins of a classifier, in relation to how fast its outputs can change."""

import math
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import layers, ops, tree

from keras_regularize import autodiff
from keras_regularize.analysis._objective import Objective
from keras_regularize.analysis._samples import whole
from keras_regularize.analysis.kernels._empirical_ntk import empirical_ntk
from keras_regularize.autodiff import backend
from keras_regularize.labels import label_ids
from keras_regularize.numerics import as_float
from keras_regularize.scores import known_logits, wrapped_models
from keras_regularize.utils.graphs import calls_of


class LipschitzBounds(NamedTuple):
    """What `lipschitz_bounds` finds.

    Attributes:
        lower: The largest spectral norm of the Jacobian at a sample.
        upper: The product over the layers.
    """

    lower: float
    upper: float


class MarginStatistics(NamedTuple):
    """What `margin_statistics` measures.

    Attributes:
        margin: The smallest margin of a sample, negative if one is misclassified.
        normalized_margin: The same over `lipschitz_upper`.
        lipschitz_upper: An upper bound of the network's Lipschitz constant.
        lipschitz_lower: A lower bound of it.
        ntk_min_eigenvalue: The smallest eigenvalue of the tangent kernel of all samples and outputs.
        ntk_margin_lower_bound: A margin that the linearized network reaches with weights of norm 1.
    """

    margin: float
    normalized_margin: float
    lipschitz_upper: float
    lipschitz_lower: float
    ntk_min_eigenvalue: float
    ntk_margin_lower_bound: float


def lipschitz_bounds(model: keras.Model, x: Any, batch_size: int = 32) -> LipschitzBounds:
    r"""How fast the outputs of a chain of layers can change with its input, from below and from above.

    $$\max_i \|J(x_i)\|_2 \;\le\; L \;\le\; \prod_l s_l\, \|W_l\|_2$$

    in Euclidean norms, with the Jacobian $J$ of the outputs in the input, spectral norms of the layers as linear
    maps and the largest slopes $s_l$ of activations: 1 for ReLU and tanh, 1/4 for a sigmoid, 1.13 for GELU, 1/2
    for softmax. The norm of a convolution is that of its map on images of this size, not of its kernel as a
    matrix; it and that of average pooling are found by power iteration, from below, to about six digits. The
    upper bound grows fast with depth and says little of deep networks.

    Args:
        model: A built model that is a chain of Keras' dense layers, convolutions, batch normalization, pooling,
            activations and layers that only move or drop entries, or a wrapper of one. It runs in inference
            mode and is not changed.
        x: Inputs as an array, or a dataset of batches as `fit` takes them.
        batch_size: Samples at once where `x` is an array.

    Returns:
        A named tuple of two floats, `lower` and `upper`.

    Raises:
        ValueError: If the model is not built, is no chain, a layer or activation has no known constant, or
            there is no sample.

    Cost: a backward pass per output and batch; a singular value decomposition per dense layer and some hundred
    passes through each convolution for one sample.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8, "relu"), keras.layers.Dense(3)])
    bounds = kr.analysis.lipschitz_bounds(model, np.random.normal(size=(20, 4)))
    print(bounds.lower, bounds.upper)
    ```

    Reference: Zhenyu Zhu, Fanghui Liu, Grigorios G Chrysos, Francesco Locatello and Volkan Cevher, *Benign
    Overfitting in Deep Neural Networks under Lazy Training*, ICML 2023, arXiv:2305.19377.
    """
    objective = Objective("lipschitz_bounds", model, x, loss="mse", batch_size=batch_size)
    return _bounds(objective)


def margin_statistics(
    model: keras.Model, x: Any, y: Any = None, batch_size: int = 32
) -> MarginStatistics:
    r"""Margin, Lipschitz constant and tangent kernel of a classifier: what benign overfitting is made of.

    $$\gamma = \min_i \Big( f_{y_i}(x_i) - \max_{k \ne y_i} f_k(x_i) \Big)$$

    or, for a single output, $\min_i y_i f(x_i)$ with $y_i = \pm 1$; that over the upper bound of
    `kr.analysis.lipschitz_bounds`; and for the network linearized at its weights, with the kernel $K$ of
    `kr.analysis.empirical_ntk` over all samples and outputs, a margin it can have with weights of norm 1,

    $$\max_{\|u\| \le 1} \gamma_{\text{lin}}(u) \;\ge\; (t^\top K^{-1} t)^{-1/2}
      \;\ge\; \sqrt{\lambda_{\min}(K)} \,/\, \|t\|,$$

    for targets $t$ of margin 1 everywhere: $y_i$ for a single output, one-hot rows less $1 / C$ for $C$ classes. A
    wide network that is trained little beyond its start errs on new data about as often as labels are noisy if
    margins are large for its Lipschitz constant.

    Args:
        model: A built model that gives logits, as `kr.analysis.lipschitz_bounds` takes it.
        x: Inputs as an array, or a dataset of batches `(x, y)` as `fit` takes them.
        y: Class ids or one-hot rows; for a single output 0 and 1, or -1 and 1. `None` with a dataset.
        batch_size: Samples at once where `x` is an array.

    Returns:
        A named tuple of floats: `margin`, `normalized_margin`, `lipschitz_upper`, `lipschitz_lower`,
        `ntk_min_eigenvalue` and `ntk_margin_lower_bound`; the last is 0 where the kernel is singular within
        rounding, as for equal inputs.

    Raises:
        ValueError: If labels do not fit or are missing, the model gives probabilities, or for a reason of
            `lipschitz_bounds`.

    Cost: a gradient per sample and output, and an eigenvalue decomposition of a matrix `(n outputs, n outputs)`:
    for some hundred samples.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(64, "relu"), keras.layers.Dense(1)])
    x = np.random.normal(size=(20, 4))
    print(kr.analysis.margin_statistics(model, x, np.sign(x[:, 0])))
    ```

    Reference: Zhenyu Zhu, Fanghui Liu, Grigorios G Chrysos, Francesco Locatello and Volkan Cevher, *Benign
    Overfitting in Deep Neural Networks under Lazy Training*, ICML 2023, arXiv:2305.19377. The quantities of
    the paper's bound; its constants are not numbers, so that the bound itself is not computed.
    """
    if known_logits(model) is False:
        raise ValueError(
            "`margin_statistics` needs a model that gives logits. Received: one that gives probabilities."
        )
    x, y = whole(x, y)
    objective = Objective("margin_statistics", model, x, loss="mse", batch_size=batch_size)
    bounds = _bounds(objective)
    run = objective.program("outputs", lambda w, s, batch: objective.forward(w, s)(batch.x))
    outputs = np.concatenate(
        [
            np.asarray(
                ops.convert_to_numpy(run(objective.weights, objective.state, batch)), "float64"
            )[:size]
            for batch, size in objective.batches()
        ]
    )
    if outputs.ndim > 2:
        raise ValueError(
            f"The model must give one row of logits per sample. Received: outputs of shape {outputs.shape}"
        )
    if not np.isfinite(outputs).all():
        raise ValueError(
            "The model must give finite numbers. Received: outputs with NaN or infinity"
        )
    outputs = outputs.reshape(len(outputs), -1)
    margins, targets = _margins(outputs, y)
    kernel = empirical_ntk(model, x, output="full").transpose(0, 2, 1, 3)
    kernel = kernel.reshape(targets.size, targets.size)
    values, vectors = np.linalg.eigh((kernel + kernel.T) / 2)
    # Gradients have the precision of the weights.
    singular = values[0] <= len(values) * np.finfo(objective.dtype).eps * values[-1]
    along = vectors.T @ targets.ravel()
    margin = float(margins.min())
    return MarginStatistics(
        margin,
        margin / bounds.upper if bounds.upper > 0 else 0.0,
        bounds.upper,
        bounds.lower,
        float(max(values[0], 0.0)),
        0.0 if singular else float(np.sum(along**2 / values) ** -0.5),
    )


def _margins(outputs, y):
    """Margins of samples, and targets of margin 1 in the shape of the outputs."""
    if outputs.shape[1] == 1:
        labels = np.asarray(y, "float64").reshape(-1)
        for known in ({-1.0, 1.0}, {0.0, 1.0}):
            if len(labels) == len(outputs) and set(labels.tolist()) <= known:
                break
        else:
            raise ValueError(
                "`y` must be 0 or 1, or -1 or 1, for each sample of a model with one output. "
                f"Received: shape {np.shape(y)} with values {np.unique(labels)[:5]}"
            )
        signs = np.where(labels > 0, 1.0, -1.0)[:, None]
        return signs * outputs, signs
    ids = np.asarray(ops.convert_to_numpy(label_ids(y, ops.convert_to_tensor(outputs, "float32"))))
    ids = ids.reshape(-1)
    if len(ids) != len(outputs) or not ((ids >= 0) & (ids < outputs.shape[1])).all():
        raise ValueError(
            f"`y` must be the ids of {outputs.shape[1]} classes, or one-hot rows. Received: shape {np.shape(y)} "
            f"with ids {np.unique(ids)[:5]} …"
        )
    rows = np.eye(outputs.shape[1])[ids]
    others = np.where(rows > 0, -np.inf, outputs).max(axis=1)
    return (rows * outputs).sum(axis=1) - others, rows - 1 / outputs.shape[1]


def _bounds(objective):
    upper, shape = 1.0, None
    chain = list(_chain(wrapped_models(objective.model)[-1]))
    lower = 0.0
    program = objective.program("jacobian", lambda w, s, x, c: _rows(objective.forward(w, s), x, c))
    for batch, size in objective.batches():
        if shape is None:
            leaves = tree.flatten(batch.x)
            if len(leaves) != 1:
                raise ValueError(f"The model must have one input. Received: {len(leaves)} of them")
            shape = (1, *leaves[0].shape[1:])
            for layer in chain:
                upper *= _constant(layer, shape)
                shape = tuple(layer.compute_output_shape(shape))
            shape = (1, *shape[1:])
        inputs = tree.map_structure(as_float, batch.x)
        rows = []
        for k in range(math.prod(shape)):
            unit = np.zeros(shape, "float32")
            unit.flat[k] = 1
            arguments = objective.weights, objective.state, inputs, ops.convert_to_tensor(unit)
            rows.append(ops.convert_to_numpy(program(*arguments)))
        jacobians = np.stack(rows, axis=1).astype("float64")[:size]
        lower = max(lower, float(np.linalg.norm(jacobians, 2, axis=(1, 2)).max()))
    return LipschitzBounds(lower, float(upper))


def _rows(forward, x, cotangent):
    """The gradient of `<output, cotangent>` of each sample in its input, flat."""

    def along(x):
        outputs = forward(x)
        return ops.sum(outputs * ops.cast(cotangent, outputs.dtype))

    (gradient,) = tree.flatten(autodiff.grad(along)(x))
    return ops.reshape(gradient, (gradient.shape[0], -1))


def _chain(model):
    """The layers of a model, each of which takes what the one before gives."""
    if isinstance(model, keras.Sequential):
        found = model.layers
    elif hasattr(model, "output_names"):
        found, before = [], None
        for layer, sources in calls_of(model):
            if isinstance(layer, layers.InputLayer):
                continue
            if len(sources) != 1 or before not in (None, *sources) or len(model.outputs) != 1:
                raise ValueError(
                    f"The layers of the model must be a chain. Received: {model.name!r}, where {layer.name!r} "
                    f"takes the outputs of {sources}"
                )
            found.append(layer)
            before = layer.name
    else:
        raise ValueError(
            f"The model must be sequential or functional. Received: {model.name!r}, a "
            f"{type(model).__name__}"
        )
    for layer in found:
        if isinstance(layer, keras.Model):
            yield from _chain(layer)
        else:
            yield layer


#: Largest slopes.
_SLOPES = {
    **{name: 1.0 for name in ("linear", "relu", "relu6", "leaky_relu", "elu", "celu", "tanh")},
    **{name: 1.0 for name in ("hard_tanh", "softplus", "softsign", "log_sigmoid")},
    "sigmoid": 0.25,
    "hard_sigmoid": 1 / 6,
    "softmax": 0.5,
    "gelu": 1.1290,
    "silu": 1.0999,
    "selu": 1.7581,
}
_KEEPING = (
    *(layers.InputLayer, layers.Dropout, layers.GaussianNoise, layers.GaussianDropout),
    *(layers.SpatialDropout1D, layers.SpatialDropout2D, layers.SpatialDropout3D),
    *(layers.ActivityRegularization, layers.Identity),
    *(layers.Flatten, layers.Reshape, layers.Permute),
    *(layers.ZeroPadding1D, layers.ZeroPadding2D, layers.ZeroPadding3D),
    *(layers.Cropping1D, layers.Cropping2D, layers.Cropping3D),
    *(layers.GlobalMaxPooling1D, layers.GlobalMaxPooling2D, layers.GlobalMaxPooling3D),
)
_CONVOLUTIONS = (layers.Conv1D, layers.Conv2D, layers.Conv3D)
_MEANS = (
    *(layers.AveragePooling1D, layers.AveragePooling2D, layers.AveragePooling3D),
    *(layers.GlobalAveragePooling1D, layers.GlobalAveragePooling2D),
    layers.GlobalAveragePooling3D,
)
_MAXIMA = (layers.MaxPooling1D, layers.MaxPooling2D, layers.MaxPooling3D)


def _constant(layer, shape):
    """The Lipschitz constant of a layer at inputs of a shape; of no subclass, which may compute something else."""
    kind = type(layer)
    if kind in _KEEPING:
        return 1.0
    if getattr(layer, "quantization_mode", None) is None:
        if kind is layers.Dense:
            kernel = np.asarray(ops.convert_to_numpy(layer.kernel), "float64")
            return float(np.linalg.norm(kernel, 2)) * _slope(layer)
        if kind in _CONVOLUTIONS:
            kernel = ops.convert_to_tensor(layer.kernel)
            return _map_norm(lambda v: layer.convolution_op(v, kernel), shape) * _slope(layer)
    if kind in _MEANS:
        return _map_norm(layer, shape)
    if kind in _MAXIMA:  # An entry is in so many windows.
        windows = zip(tuple(np.atleast_1d(layer.pool_size)), tuple(np.atleast_1d(layer.strides)))
        return math.sqrt(math.prod(-(-int(size) // int(step)) for size, step in windows))
    if kind is layers.BatchNormalization:
        variance = np.asarray(ops.convert_to_numpy(layer.moving_variance), "float64")
        scale = np.asarray(ops.convert_to_numpy(layer.gamma)) if layer.scale else 1.0
        return float(np.max(np.abs(scale) / np.sqrt(variance + layer.epsilon)))
    if kind is layers.Activation:
        return _slope(layer)
    if kind is layers.ReLU and layer.threshold == 0:
        return max(1.0, abs(float(layer.negative_slope)))
    if kind is layers.LeakyReLU:
        return max(1.0, abs(float(layer.negative_slope)))
    if kind is layers.Softmax:
        return _SLOPES["softmax"]
    if kind is layers.Rescaling:
        return float(np.max(np.abs(np.asarray(layer.scale, "float64"))))
    raise ValueError(
        f"No Lipschitz constant is known of a layer. Received: {layer.name!r}, a {kind.__name__}"
    )


def _slope(layer):
    for name, slope in _SLOPES.items():
        if layer.activation is getattr(keras.activations, name, None):
            return slope
    raise ValueError(
        "No Lipschitz constant is known of an activation. Received: "
        f"{layer.activation!r} of {layer.name!r}"
    )


def _map_norm(fn, shape, tolerance=1e-7, iterations=1000):
    """The largest singular value of a linear map, by power iteration."""

    @backend.compiled
    def step(v):
        image = ops.stop_gradient(fn(v))
        _, back = autodiff.vjp(fn, v, image)
        return image, back

    v = np.random.default_rng(0).normal(size=shape)
    value = 0.0
    for _ in range(iterations):
        v = v / max(np.linalg.norm(v), 1e-30)
        image, back = step(ops.convert_to_tensor(v.astype("float32")))
        before = value
        value = float(np.linalg.norm(np.asarray(ops.convert_to_numpy(image), "float64")))
        v = np.asarray(ops.convert_to_numpy(back), "float64")
        if abs(value - before) <= tolerance * value:
            break
    return value
