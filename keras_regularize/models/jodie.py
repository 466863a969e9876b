"""Embeddings of users and items that move with each interaction."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_regularize.autodiff import backend
from keras_regularize.configuration import Configured
from keras_regularize.numerics import squared_distances, unit_vectors
from keras_regularize.registration import export
from keras_regularize.utils.interactions import t_batches
from keras_regularize.validation import check_choice, check_integer, check_number


@export
class JODIE(Configured, keras.Model):
    r"""Predicts the next item of a user from embeddings of both that move with every interaction.

    At an interaction of user $u$ with item $i$, a time $\Delta$ after the user's last one with item $p$, it
    predicts the embedding of the item, compares, and moves both embeddings by recurrent cells:

    $$\hat z = A\, [u \circ (1 + w \Delta),\ p] + b_u + c_p, \qquad z = [i, e_i],$$

    $$u' = \frac{\tanh(U [u, i, \Delta, f])}{\|\cdot\|}, \qquad
      i' = \frac{\tanh(V [i, u, \Delta', f])}{\|\cdot\|},$$

    with the one-hot $e_i$ of the item, its time $\Delta'$ since its last interaction and features $f$. The loss of
    a window is that of `kr.losses.TBatch` added up over its batches of `kr.utils.t_batches`, and $\mu_u
    \operatorname{mean} (u' - u)^2 + \mu_i \operatorname{mean} (i' - i)^2$ of each. The gradient goes back through
    the batches of a window.

    A sample of `fit` is a batch of interactions, as `stream` makes them: `fit(x)`. Embeddings move in `fit`,
    `evaluate` and `predict`, in the order of time; each epoch of `fit` begins at the first, and `predict` on what
    comes next goes on where `fit` ended.

    Args:
        num_users: Number of users, at least 1.
        num_items: Number of items, at least 2.
        dim: Width of embeddings, at least 1.
        mode: `"item_sum"`, `"full_sum"`, or `"mean"` as in the original method, see `kr.losses.TBatch`.
        user_factor: $\mu_u \ge 0$.
        item_factor: $\mu_i \ge 0$.
        window: Number of batches in a window, at least 1: the `batch_size` of `fit`, `evaluate` and `predict`,
            which may be smaller but not larger.
        **kwargs: `name` and other arguments of `keras.Model`.

    Input: what `stream` returns. Output: scores of all items at each interaction, `(batches, width, num_items)`,
    the largest for the one expected.

    Raises:
        ValueError: If an argument is out of range, a stream has users or items that there are not, or there are
            several TensorFlow replicas, each of which would see a part of the stream alone.

    Cost: per interaction a product of `(dim + num_items) · 2 dim` and of `num_items · dim`.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    rng = np.random.default_rng(0)
    users, items = rng.integers(0, 5, 100), rng.integers(0, 4, 100)
    model = kr.models.JODIE(num_users=5, num_items=4, dim=8)
    model.compile("adam")
    x = model.stream(users, items, np.arange(100.0))
    model.fit(x, epochs=2, verbose=0)
    scores = model.predict(x, verbose=0)
    ```

    Reference: Srijan Kumar, Xikun Zhang and Jure Leskovec, *Predicting Dynamic Embedding Trajectory in Temporal
    Interaction Networks*, KDD 2019, arXiv:1908.01207; the sums: Erfan Loghmani and MohammadAmin Fazli, *Effect of
    Choosing Loss Function when Using T-batching for Representation Learning on Dynamic Networks*, 2023,
    arXiv:2308.06862.
    """

    def __init__(
        self,
        num_users: int,
        num_items: int,
        dim: int = 32,
        mode: str = "item_sum",
        user_factor: float = 1.0,
        item_factor: float = 1.0,
        window: int = 8,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.num_users = check_integer("num_users", num_users, minimum=1)
        self.num_items = check_integer("num_items", num_items, minimum=2)
        self.dim = check_integer("dim", dim, minimum=1)
        self.mode = check_choice("mode", mode, ("item_sum", "full_sum", "mean"))
        self.user_factor = check_number("user_factor", user_factor, minimum=0)
        self.item_factor = check_number("item_factor", item_factor, minimum=0)
        self.window = check_integer("window", window, minimum=1)

    def stream(self, users: Any, items: Any, times: Any, features: Any = None) -> dict[str, Any]:
        """The interactions of a stream in batches: arrays `(batches, width, …)`, to be passed to `fit`.

        Args:
            users: Users `(n,)` from 0 on, in the order of time.
            items: Items `(n,)` from 0 on.
            times: Times `(n,)`, which do not fall; in a unit in which the usual pause is about 1.
            features: Features `(n, any)`, or `None`.
        """
        users, items = np.asarray(users), np.asarray(items)
        times = np.asarray(times, "float32")
        outside = [
            v
            for v, n in ((users, self.num_users), (items, self.num_items))
            if len(v) and not 0 <= v.min() <= v.max() < n
        ]
        if outside or times.shape != users.shape or not (np.diff(times) >= 0).all():
            raise ValueError(
                f"Expected users below {self.num_users}, items below {self.num_items} and times that do "
                f"not fall. Received: {len(users)} users, {len(items)} items up to {items.max(initial=0)}, "
                f"{len(times)} times"
            )
        count = len(users)
        features = np.zeros((count, 0)) if features is None else np.asarray(features)
        batches = t_batches(users, items)
        # Where in its batch an interaction stands.
        place = np.zeros(count, "int32")
        sizes = np.zeros(batches.max(initial=-1) + 1, "int32")
        previous, gaps = np.zeros(count, "int32"), np.zeros((count, 2), "float32")
        last_item: dict[int, int] = {}
        last_times: tuple[dict[int, float], dict[int, float]] = {}, {}
        for k, (user, item) in enumerate(zip(users.tolist(), items.tolist())):
            place[k] = sizes[batches[k]]
            sizes[batches[k]] += 1
            previous[k] = last_item.get(user, self.num_items)
            last_item[user] = item
            for column, (node, seen) in enumerate(zip((user, item), last_times)):
                gaps[k, column] = times[k] - seen.get(node, times[k])
                seen[node] = times[k]
        columns = {
            # Padding is a user and an item beyond the last.
            "user": (users, self.num_users),
            "item": (items, self.num_items),
            "previous": (previous, self.num_items),
            "gaps": (gaps, 0.0),
            "features": (features, 0.0),
        }
        shape, packed = (len(sizes), int(sizes.max(initial=0))), {}
        for name, (values, fill) in columns.items():
            dtype = "float32" if isinstance(fill, float) else "int32"
            packed[name] = np.full((*shape, *values.shape[1:]), fill, dtype)
            packed[name][batches, place] = values
        return packed

    def build(self, input_shape: Any) -> None:
        dim, width = self.dim, self.dim + self.num_items
        normal = keras.initializers.RandomNormal(stddev=1.0)
        extra = 2 * dim + 1 + input_shape["features"][-1]
        glorot = "glorot_uniform"
        self.drift = self.add_weight((dim,), "zeros", name="drift")
        self.prediction = self.add_weight((2 * dim, width), glorot, name="prediction")
        self.user_bias = self.add_weight((self.num_users + 1, width), "zeros", name="user_bias")
        self.item_bias = self.add_weight((self.num_items + 1, width), "zeros", name="item_bias")
        self.user_cell = self.add_weight((extra, dim), glorot, name="user_cell")
        self.item_cell = self.add_weight((extra, dim), glorot, name="item_cell")
        options = {"trainable": False, "autocast": False}
        for kind, count in (("users", self.num_users), ("items", self.num_items)):
            first = self.add_weight((count + 1, dim), normal, name=f"first_{kind}", **options)
            setattr(self, f"first_{kind}", first)
            setattr(self, kind, self.add_weight((count + 1, dim), "zeros", name=kind, **options))
        self.started = self.add_weight((), "zeros", name="started", **options)

    def reset(self) -> None:
        """Moves all embeddings back to where a stream begins."""
        self.started.assign(ops.zeros_like(ops.convert_to_tensor(self.started)))

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        if backend.num_replicas() > 1:
            raise ValueError(
                "`JODIE` follows a stream on one device. "
                f"Received a strategy with {backend.num_replicas()} replicas"
            )
        started = ops.convert_to_tensor(self.started) > 0
        users, items = (
            ops.where(
                started, ops.convert_to_tensor(now), unit_vectors(ops.convert_to_tensor(first))
            )
            for now, first in ((self.users, self.first_users), (self.items, self.first_items))
        )
        weights = [
            ops.convert_to_tensor(v)
            for v in (
                self.drift,
                self.prediction,
                self.user_bias,
                self.item_bias,
                self.user_cell,
                self.item_cell,
            )
        ]
        names = ("user", "item", "previous", "gaps", "features")
        empty = ops.zeros_like(users[0, 0])
        width = inputs["user"].shape[1]
        scores = ops.zeros((width, self.num_items), users.dtype) + empty

        def step(carry, given):
            _, users, items, loss = carry
            scores, users, items, added = self._interact(users, items, weights, given)
            return (scores, users, items, loss + added), (scores, users, items, loss + added)

        given = tuple(ops.convert_to_tensor(inputs[name]) for name in names)
        size = ops.shape(given[0])[0]
        if given[0].shape[0] is None:
            # TensorFlow's scan has to know how often: what is added is padding.
            given = tuple(self._filled(name, t) for name, t in zip(names, given))
        (_, users, items, loss), (scores, *_) = ops.scan(step, (scores, users, items, empty), given)
        self.users.assign(ops.stop_gradient(users))
        self.items.assign(ops.stop_gradient(items))
        self.started.assign(ops.ones_like(empty))
        self.add_loss(ops.cast(loss, keras.config.floatx()))
        return scores[:size]

    def _filled(self, name, values):
        """The batches of a window, of which there are at most `window`, and padding up to these."""
        fill = {"user": self.num_users, "item": self.num_items, "previous": self.num_items}
        shape = (self.window, *values.shape[1:])
        padding = ops.full(shape, fill.get(name, 0), dtype=values.dtype)
        size = ops.shape(values)[0]
        padding = padding[: self.window - size]  # Negative for more, which then do not fit.
        return ops.reshape(ops.concatenate([values, padding], axis=0), shape)

    def _interact(self, users, items, weights, given):
        """Scores, moved embeddings and the loss of a batch of interactions."""
        drift, prediction, user_bias, item_bias, user_cell, item_cell = weights
        user, item, previous, gaps, features = given
        u, i, p = (
            ops.take(t, k, axis=0) for t, k in ((users, user), (items, item), (items, previous))
        )
        here = ops.cast(user < self.num_users, u.dtype)
        projected = u * (1.0 + drift * gaps[:, :1])
        expected = ops.matmul(ops.concatenate([projected, p], axis=-1), prediction)
        expected = (
            expected + ops.take(user_bias, user, axis=0) + ops.take(item_bias, previous, axis=0)
        )
        places = ops.arange(self.num_items, dtype="int32")
        identity = ops.cast(item[:, None] == places[None, :], u.dtype)
        target = ops.stop_gradient(ops.concatenate([i, identity], axis=-1))
        squares = here[:, None] * ops.square(expected - target)
        count = ops.sum(here)
        some = ops.where(count > 0, count, 1.0)
        loss = ops.sum(squares)
        if self.mode != "full_sum":
            loss = loss / target.shape[1]
        if self.mode == "mean":
            loss = loss / some
        moved_user = unit_vectors(
            ops.tanh(ops.matmul(ops.concatenate([u, i, gaps[:, :1], features], -1), user_cell))
        )
        moved_item = unit_vectors(
            ops.tanh(ops.matmul(ops.concatenate([i, u, gaps[:, 1:], features], -1), item_cell))
        )
        for factor, moved, old in (
            (self.user_factor, moved_user, u),
            (self.item_factor, moved_item, i),
        ):
            change = ops.sum(here[:, None] * ops.square(moved - old)) / self.dim
            loss = loss + factor * change / some
        dynamic, static = expected[:, : self.dim], expected[:, self.dim :]
        scores = 2.0 * static - squared_distances(dynamic, items[: self.num_items])
        users = ops.scatter_update(
            users, user[:, None], ops.where(here[:, None] > 0, moved_user, u)
        )
        items = ops.scatter_update(
            items, item[:, None], ops.where(here[:, None] > 0, moved_item, i)
        )
        return ops.stop_gradient(scores), users, items, loss

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (*input_shape["user"], self.num_items)

    def fit(self, *args: Any, **kwargs: Any) -> keras.callbacks.History:
        """As `keras.Model.fit`; each epoch begins at the begin of the stream."""
        callbacks = kwargs.get("callbacks") or []
        callbacks = callbacks if isinstance(callbacks, (list, tuple)) else [callbacks]
        first = keras.callbacks.LambdaCallback(
            on_epoch_begin=lambda epoch, logs: self.reset() if self.built else None
        )
        given = {"shuffle": False, "batch_size": self.window, **kwargs}
        return super().fit(*args, **{**given, "callbacks": [first, *callbacks]})

    def evaluate(self, *args: Any, **kwargs: Any) -> Any:
        """As `keras.Model.evaluate`, window by window."""
        return super().evaluate(*args, **{"batch_size": self.window, **kwargs})

    def predict(self, *args: Any, **kwargs: Any) -> Any:
        """As `keras.Model.predict`, window by window."""
        return super().predict(*args, **{"batch_size": self.window, **kwargs})
