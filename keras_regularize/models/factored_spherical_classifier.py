"""A classifier whose training step does not grow with the number of classes."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import keras
from keras import ops

from keras_regularize import autodiff
from keras_regularize.autodiff import backend
from keras_regularize.models.regularized_model import RegularizedModel
from keras_regularize.numerics import GUARD
from keras_regularize.registration import export
from keras_regularize.validation import check_choice, check_integer, check_number


@export
class FactoredSphericalClassifier(RegularizedModel):
    r"""Puts an output layer of any number of classes on a model, and trains it at a cost without that number.

    With features $h \in \mathbb R^d$, logits $o = W h$ of $D$ classes and label $y$, a loss of the *spherical
    family* depends on $o$ only through

    $$a = o_y, \qquad q = \|o\|_2^2 = h^\top Q h, \qquad s = \textstyle\sum_k o_k = \bar w^\top h,$$

    where $Q = W^\top W$ and $\bar w = W^\top 1$ are kept up to date instead of recomputed. The kernel is held
    as $W = V U + 1 \omega^\top$: a step of gradient descent changes the small $U$ and $\omega$, and of the tall
    $V$ the rows of the labels alone. It equals the dense step exactly. The logits never exist in training.

    | `loss` | per sample |
    |---|---|
    | `"z"` | $\mathrm{softplus}(\alpha(\beta - \zeta))/\alpha$ with $\zeta = (a - s/D) / \sqrt{q/D - (s/D)^2}$ |
    | `"mse"` | $q - 2a + 1$, the squared distance to the one-hot row |
    | `"spherical"` | $\log(q + D\epsilon) - \log(a^2 + \epsilon)$, $\epsilon = 10^{-7}$ |
    | `"taylor"` | $\log(D + s + q/2) - \log(1 + a + a^2/2)$ |

    The output layer learns by plain gradient descent with its own `learning_rate` (momentum would make the step
    dense again), the backbone with the compiled optimizer. `compile` takes no loss. In training only the loss
    is logged, since metrics need the logits; `evaluate` reports them, and `predict` gives logits. Their softmax
    is not calibrated: rank by them. A bias is a feature that is constant.

    It is a model with a head rather than a method around one, and so the outermost wrapper: others query a loss
    of outputs at weights they choose, and here are no outputs to have a loss, nor is the kernel among the weights
    they could move. Wrappers inside act on the backbone's features and penalties.

    Tips: for `"z"`, a `shift` of up to $\sqrt{D - 1}$ asks for a larger margin. A `learning_rate` too large makes
    $U$ singular and the loss infinite.

    Args:
        model: The backbone, with one output `(batch, features)`.
        num_classes: Number of classes $D$, at least 2.
        learning_rate: Step of the output layer, at least 0; or a schedule.
        loss: `"z"`, `"mse"`, `"spherical"` or `"taylor"`.
        scale: $\alpha$ of the Z-loss, above 0.
        shift: $\beta$ of the Z-loss.
        stabilize_every: Number of steps after which $V U + 1\omega^\top$ is multiplied out and $Q$, $\bar w$ are
            summed anew, against rounding and an ill-conditioned $U$; at least 1.
        **kwargs: `name` and other arguments of `keras.Model`.

    Shapes: labels are class ids `(batch,)` or `(batch, 1)` below `num_classes`.

    Raises:
        ValueError: If an argument is out of range, `model` is not a `keras.Model`, labels are missing or no ids,
            a loss is compiled, on several TensorFlow replicas, or within another wrapper.

    Cost: one forward-backward pass of the backbone, and $O(B d^2 + B^2 d + B^3)$ for the output layer; every
    `stabilize_every` steps $O(D d^2)$. Memory: the kernel, once.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    backbone = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8, activation="tanh")])
    model = kr.models.FactoredSphericalClassifier(backbone, num_classes=10_000, learning_rate=0.1)
    model.compile("adam", metrics=[keras.metrics.SparseTopKCategoricalAccuracy(10)])
    x = np.random.default_rng(0).random((32, 4))
    model.fit(x, np.arange(32) * 7, verbose=0)
    model.evaluate(x, np.arange(32) * 7, verbose=0)
    ```

    Reference: Vincent, de Brébisson and Bouthillier, *Efficient Exact Gradient Update for Training Deep
    Networks with Very Large Sparse Targets*, NeurIPS 2015, arXiv:1412.7091. The Z-loss: de Brébisson and
    Vincent, *The Z-loss: a Shift and Scale Invariant Classification Loss Belonging to the Spherical Family*,
    2016, arXiv:1604.08859. Differs from the authors' code in averaging the loss over the batch, and in
    multiplying out $V U$ instead of mending single singular values of $U$.
    """

    predicts_itself = True

    def __init__(
        self,
        model: keras.Model,
        num_classes: int,
        learning_rate: Any = 0.01,
        loss: str = "z",
        scale: float = 1.0,
        shift: float = 0.0,
        stabilize_every: int = 100,
        **kwargs: Any,
    ):
        check_number("learning_rate", learning_rate, minimum=0, schedule=True)
        check_choice("loss", loss, ("z", "mse", "spherical", "taylor"))
        if scale == 0:
            raise ValueError("`scale` must be positive. Received: scale=0")
        super().__init__(model, **kwargs)
        self.num_classes = check_integer("num_classes", num_classes, minimum=2)
        self.learning_rate = learning_rate
        self.loss_name = loss
        self.scale = check_number("scale", scale, minimum=0)
        self.shift = check_number("shift", shift)
        self.stabilize_every = check_integer("stabilize_every", stabilize_every, minimum=1)

    def build(self, input_shape):
        if not self.model.built:
            self.model.build(input_shape)
        shape = self.model.compute_output_shape(input_shape)
        if len(shape) != 2 or shape[-1] is None:
            raise ValueError(
                "The backbone must give one output of shape (batch, features). "
                f"Received a backbone of output shape {shape}"
            )
        size = shape[-1]
        dtype = "float64" if self.variable_dtype == "float64" else "float32"

        def weight(name, shape, initializer):
            return self.add_weight(
                name=name, shape=shape, initializer=initializer, dtype=dtype, trainable=False
            )

        self.tall = weight("tall", (self.num_classes, size), "glorot_uniform")
        self.small = weight("small", (size, size), keras.initializers.Identity())
        self.small_inverse = weight("small_inverse", (size, size), keras.initializers.Identity())
        self.offset = weight("offset", (size,), "zeros")
        # Summed up in the first step.
        self.gram = weight("gram", (size, size), "zeros")
        self.total = weight("total", (size,), "zeros")
        self.age = self.add_weight(
            name="age", shape=(), initializer="zeros", dtype="int32", trainable=False
        )
        super().build(input_shape)

    # Prediction

    def call(self, inputs, training=None, mask=None):
        features = self.model(inputs, training=training)
        if training:
            return {"features": features}
        features = ops.cast(features, self.tall.dtype)
        small = ops.matmul(features, ops.transpose(self.small))
        logits = ops.matmul(small, ops.transpose(self.tall))
        return logits + ops.matmul(features, self.offset[:, None])

    def output_kernel(self) -> Any:
        """The kernel of the output layer, `(features, classes)`, as that of a `Dense` without bias."""
        kernel = ops.matmul(ops.convert_to_tensor(self.tall), self.small) + self.offset
        return ops.transpose(kernel)

    def set_output_kernel(self, kernel: Any) -> None:
        """Starts from a kernel `(features, classes)`, such as that of a trained `Dense`."""
        self.ensure_built()
        self.tall.assign(ops.transpose(ops.convert_to_tensor(kernel, self.tall.dtype)))
        self._forget_factors()
        self.age.assign(0)

    # Training

    def prepare(self, batch, forward):
        batch = super().prepare(batch, forward)
        backend.run_if(self.age % self.stabilize_every == 0, self._refresh, self._factors())
        ids = _ids(batch.y)
        factors = _Factors(
            rows=backend.read_rows(self.tall, ids),
            small=ops.convert_to_tensor(self.small),
            offset=ops.convert_to_tensor(self.offset),
            gram=ops.convert_to_tensor(self.gram),
            total=ops.convert_to_tensor(self.total),
        )
        return batch.add(**{self.key: (ids, factors)})

    def objective(self, batch, forward):
        if forward.model is not self:
            raise ValueError(
                f"`{type(self).__name__}` updates its output layer by itself and must be the outermost "
                f"wrapper. Received it within `{type(forward.model).__name__}`"
            )
        penalties = forward.loss(batch)
        features = ops.cast(forward.outputs["features"], self.tall.dtype)
        _, factors = batch.extra[self.key]
        products = factors.products(features)
        loss = self._mean_loss(products.statistics(features), batch.sample_weight)
        return loss + ops.cast(penalties, loss.dtype), {self.key: (features, products)}

    def after_update(self, batch, aux, gradients):
        super().after_update(batch, aux, gradients)
        self._descend(batch, *aux.values[self.key])

    def _loss_values(self, a, q, s):
        """The loss per sample of the label's logit, the squared length and the sum of the logits."""
        count = self.num_classes
        if self.loss_name == "z":
            mean = s / count
            variance = ops.maximum(q / count - mean * mean, GUARD)
            zeta = (a - mean) / ops.sqrt(variance)
            return ops.softplus(self.scale * (self.shift - zeta)) / self.scale
        if self.loss_name == "mse":
            return q - 2.0 * a + 1.0
        if self.loss_name == "spherical":
            return ops.log(q + count * 1e-7) - ops.log(a * a + 1e-7)
        return ops.log(count + s + 0.5 * q) - ops.log(1.0 + a + 0.5 * a * a)

    def _mean_loss(self, statistics, sample_weight):
        losses = self._loss_values(*statistics)
        if sample_weight is not None:
            losses = losses * ops.cast(ops.reshape(sample_weight, (-1,)), losses.dtype)
        return ops.mean(losses)

    def _descend(self, batch, h, products):
        """One step of gradient descent on the kernel, in terms of its factors."""
        ids, old = batch.extra[self.key]
        rate = ops.cast(self.scheduled(self.learning_rate, batch), h.dtype)
        slopes = autodiff.grad(lambda t: self._mean_loss(t, batch.sample_weight))
        ga, gq, gs = slopes(products.statistics(h))
        z = ga[:, None] * products.label_rows + gs[:, None] * old.total
        b = 2.0 * gq[:, None] * h
        transposed = ops.transpose(h)

        # U (I - rate hᵀb), and its inverse by Woodbury's identity in the size of the batch.
        small = old.small - rate * ops.matmul(ops.matmul(old.small, transposed), b)
        inverse = ops.convert_to_tensor(self.small_inverse)
        middle = ops.eye(ops.shape(h)[0], dtype=h.dtype) - rate * ops.matmul(b, transposed)
        correction = ops.matmul(ops.matmul(inverse, transposed), ops.solve(middle, b))
        inverse = inverse + rate * correction

        # A label that stands several times in the batch gets the sum, wherever it is written from.
        same = ops.cast(ids[:, None] == ids[None, :], h.dtype)
        steps = ops.matmul(h, ops.transpose(inverse)) * ga[:, None]
        rows = old.rows - rate * ops.matmul(same, steps)

        count = float(self.num_classes)
        b_total = ops.matmul(b, old.total[:, None])[:, 0]
        b_offset = ops.matmul(b, old.offset[:, None])[:, 0]
        change = ops.matmul(transposed, ops.stack([b_total + count * gs + ga, b_offset + gs], 1))

        # The new gram matrix, from old values alone: W changes by -rate (W hᵀb + …).
        bz = ops.matmul(b, ops.transpose(z))
        cross = gs[:, None] * ga[None, :]
        inner = ops.matmul(ops.matmul(b, old.gram), ops.transpose(b)) + bz + ops.transpose(bz)
        inner = inner + count * gs[:, None] * gs[None, :] + cross + ops.transpose(cross)
        inner = inner + same * ga[:, None] * ga[None, :]
        slope = ops.matmul(ops.transpose(2.0 * gq[:, None] * products.gram + z), h)
        gram = old.gram - rate * (slope + ops.transpose(slope))
        gram = gram + rate * rate * ops.matmul(ops.matmul(transposed, inner), h)

        backend.write_rows(self.tall, ids, rows)
        self.small.assign(small)
        self.small_inverse.assign(inverse)
        self.offset.assign(old.offset - rate * change[:, 1])
        self.gram.assign(gram)
        self.total.assign(old.total - rate * change[:, 0])
        self.age.assign(self.age + 1)

    def _refresh(self):
        """Multiplies the factors out and sums up what is kept of them; the kernel stays what it is."""
        kernel = ops.matmul(ops.convert_to_tensor(self.tall), self.small) + self.offset
        self.tall.assign(kernel)
        self._forget_factors()
        self.gram.assign(ops.matmul(ops.transpose(kernel), kernel))
        self.total.assign(ops.sum(kernel, axis=0))

    def _forget_factors(self):
        for variable in (self.small, self.small_inverse):
            variable.assign(ops.eye(variable.shape[0], dtype=variable.dtype))
        self.offset.assign(ops.zeros(self.offset.shape, self.offset.dtype))

    def _factors(self):
        return [self.tall, self.small, self.small_inverse, self.offset, self.gram, self.total]

    # Keras

    def compile(
        self, optimizer: Any = "rmsprop", loss: Any = None, *args: Any, **kwargs: Any
    ) -> None:
        """As `keras.Model.compile`, without a loss: that is an argument of the classifier."""
        if loss is not None:
            raise ValueError(
                f"`{type(self).__name__}` has its loss as an argument (`loss='z'`), `compile` takes none. "
                f"Received: loss={loss!r}"
            )
        if backend.num_replicas() > 1:
            raise ValueError(
                f"`{type(self).__name__}` trains on one device. "
                f"Received a strategy with {backend.num_replicas()} replicas"
            )
        super().compile(optimizer, None, *args, **kwargs)

    def check_data(self, x, y):
        super().check_data(x, y)
        if y is None:
            raise ValueError(f"`{type(self).__name__}` needs labels `y`. Received: y=None")
        if len(y.shape) > 2 or (len(y.shape) == 2 and y.shape[-1] != 1):
            raise ValueError(
                "Labels must be class ids of shape (batch,) or (batch, 1). "
                f"Received labels of shape {tuple(y.shape)}"
            )

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        penalties = sum(
            (ops.cast(loss, "float32") for loss in self.losses), ops.zeros((), "float32")
        )
        if isinstance(y_pred, Mapping):
            return penalties
        label = ops.take_along_axis(y_pred, _ids(y)[:, None], axis=-1)[:, 0]
        statistics = label, ops.sum(y_pred * y_pred, axis=-1), ops.sum(y_pred, axis=-1)
        loss = self._mean_loss(statistics, sample_weight)
        return loss + ops.cast(penalties, loss.dtype)

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        if isinstance(y_pred, Mapping):
            return {"loss": self.metrics[0].result()}
        return super().compute_metrics(x, y, y_pred, sample_weight)

    def get_metrics_result(self):
        # Keras builds compiled metrics when they first see logits, which may be never.
        if all(getattr(metric, "built", True) for metric in self.metrics):
            return super().get_metrics_result()
        return {"loss": self.metrics[0].result()}

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_classes": self.num_classes,
            "learning_rate": keras.saving.serialize_keras_object(self.learning_rate),
            "loss": self.loss_name,
            "scale": self.scale,
            "shift": self.shift,
            "stabilize_every": self.stabilize_every,
        }


class _Factors(NamedTuple):
    """What a step reads of the kernel: the rows of the labels, and everything small."""

    rows: Any
    small: Any
    offset: Any
    gram: Any
    total: Any

    def products(self, h):
        """What the loss of features `(batch, features)` and its derivatives are made of."""
        return _Products(
            label_rows=ops.matmul(self.rows, self.small) + self.offset,
            gram=ops.matmul(h, self.gram),
            total=ops.matmul(h, self.total[:, None])[:, 0],
        )


class _Products(NamedTuple):
    """The kernel's rows of the labels, and the features times the gram matrix and times the sum of the rows."""

    label_rows: Any
    gram: Any
    total: Any

    def statistics(self, h):
        """`(a, q, s)` of features `(batch, features)`: see `_loss_values`."""
        return ops.sum(self.label_rows * h, axis=-1), ops.sum(self.gram * h, axis=-1), self.total


def _ids(y):
    return ops.cast(ops.reshape(y, (-1,)), "int32")
