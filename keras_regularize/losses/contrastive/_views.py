"""Features of several views of each sample, or of samples with labels, read in one place."""

from typing import Any, NamedTuple

from keras import ops

from keras_regularize.autodiff import backend
from keras_regularize.losses._coupled import BatchCoupledLoss
from keras_regularize.numerics import matmul, unit_vectors, upcast
from keras_regularize.validation import compatible

#: What is added to the score of a column that is not there. Not infinite: 0 times it is 0.
FAR = -1e30


class ViewsLoss(BatchCoupledLoss):
    """A loss of features in which samples of weight 0 are not there; without labels for `fit(x)`.

    A subclass overrides `sample_values`, which sees the samples of all replicas or processes.
    """

    #: Whether the value of a sample depends on others, so that those of all replicas are to be seen.
    looks_at_others = True

    def values(self, y_true, y_pred, counted):
        z = upcast(y_pred)
        if len(z.shape) < 2:
            raise ValueError(
                "Expected features of shape (batch, dim) or (batch, views, dim). "
                f"Received: y_pred.shape={tuple(z.shape)}"
            )
        if 0 in tuple(z.shape):
            return ops.sum(z, axis=tuple(range(1, len(z.shape)))), None
        here = counted(z.shape[:1])
        if here is not None:
            here = ops.broadcast_to(here, ops.shape(z)[:1])
        y_true = None if isinstance(y_true, tuple) else y_true
        if not self.looks_at_others:
            return self.sample_values(y_true, z, here), None
        y_true, z, here, own = _of_all_replicas(y_true, z, here)
        return own(self.sample_values(y_true, z, here)), None

    def sample_values(self, y_true: Any, z: Any, here: Any) -> Any:
        """The values `(batch,)` of features in at least float32.

        `here` are bools `(batch,)`, unset where a sample does not count, or `None`; `y_true` may be `None`.
        """
        raise NotImplementedError


def _of_all_replicas(y_true, z, here):
    """What `sample_values` takes of the whole batch, and a function that takes a replica's own values of it."""
    given = [z, y_true, None if here is None else ops.cast(here, z.dtype)]
    gathered, own = backend.gather_batch([part for part in given if part is not None])
    parts = iter(gathered)
    z, y_true, here = (part if part is None else next(parts) for part in given)
    return y_true, z, None if here is None else here > 0, own


class Rows(NamedTuple):
    """Features one below the other, those of a sample's views next to each other.

    Attributes:
        features: Numbers `(rows, dim)`.
        ids: What a row belongs to, `(rows,)`; `None` if it is the sample that it is a view of.
        here: Bools `(rows,)`, or `None` if all count.
        views: Number of rows of each sample.
    """

    features: Any
    ids: Any
    here: Any
    views: int

    def per_sample(self, values: Any) -> Any:
        """The mean over the rows of each sample."""
        if self.views == 1:
            return values
        return ops.sum(ops.reshape(values, (-1, self.views)), axis=-1) / self.views


def read_rows(y_true: Any, z: Any, here: Any) -> Rows:
    """The rows of `(batch, views, dim)`, with labels or without, or of `(batch, dim)` with labels."""
    if len(z.shape) == 2:
        if y_true is None:
            raise ValueError(
                "Features (batch, dim) need labels, or ids of what they are views of, as y_true; views without "
                f"labels are (batch, views, dim). Received: y_true=None, y_pred.shape={tuple(z.shape)}"
            )
        return Rows(z, label_ids(y_true, z), here, 1)
    views = number_of_views(z, 1)
    ids = None if y_true is None else ops.repeat(label_ids(y_true, z), views, axis=0)
    here = None if here is None else ops.repeat(here, views, axis=0)
    return Rows(ops.reshape(z, (-1, z.shape[-1])), ids, here, views)


def label_ids(y_true: Any, z: Any) -> Any:
    """Labels `(batch,)` of features, in their own dtype."""
    y_true = ops.convert_to_tensor(y_true)
    given = tuple(y_true.shape)
    ids = ops.squeeze(y_true, axis=-1) if len(given) == 2 and given[-1] == 1 else y_true
    if not compatible(tuple(ids.shape), tuple(z.shape[:1])):
        raise ValueError(
            "Expected labels as ids of shape (batch,) or (batch, 1), of one-hot rows the `argmax`. "
            f"Received: y_true.shape={given} for y_pred.shape={tuple(z.shape)}"
        )
    return ids


def number_of_views(z: Any, least: int, most: int | None = None) -> int:
    """Size of the middle axis of features `(batch, views, dim)`, which must be within bounds."""
    views = z.shape[1] if len(z.shape) == 3 else None
    if views is None or views < least or (most is not None and views > most):
        wanted = f"{least}" if least == most else f"at least {least}"
        raise ValueError(
            f"Expected features (batch, views, dim) of {wanted} views. Received: y_pred.shape={tuple(z.shape)}"
        )
    return views


def two_views(z: Any) -> tuple[Any, Any]:
    """The features `(batch, dim)` of the first and of the second view."""
    number_of_views(z, 2, 2)
    return z[:, 0], z[:, 1]


def absent_columns(here: Any, dtype: Any) -> Any:
    """What to add to scores `(rows, columns)` so that columns that do not count are not there; 0 if all do."""
    return 0.0 if here is None else ops.where(here, ops.zeros((), dtype), FAR)[None, :]


def diagonal(x: Any) -> Any:
    """The unit matrix with a row for each row of `x`."""
    return ops.eye(ops.shape(x)[0], dtype=x.dtype)


def as_weights(here: Any, x: Any) -> Any:
    """1 for the rows of `x` that count, else 0."""
    return ops.ones_like(x[:, 0]) if here is None else ops.cast(here, x.dtype)


def positive_crossentropy(rows: Rows, temperature: float) -> Any:
    """`-(1 / |P_i|) Σ_{p ∈ P_i} log softmax_{j ≠ i}(cos(i, j) / T)_p` of each row; 0 where `P_i` is empty."""
    z = unit_vectors(rows.features)
    scaled = z / temperature
    scores = matmul(scaled, ops.transpose(z))
    # Added, not chosen by `where`: the gradient passes through as it is.
    columns = FAR * diagonal(z) + absent_columns(rows.here, z.dtype)
    total = ops.logsumexp(scores + columns, axis=-1)
    itself = ops.sum(scaled * z, axis=-1)
    if rows.ids is None:
        count = rows.views - 1
        together = ops.sum(ops.reshape(z, (-1, rows.views, z.shape[-1])), axis=1)
        together = ops.sum(ops.repeat(together, rows.views, axis=0) * scaled, axis=-1)
        return total - (together - itself) / count
    same = ops.cast(ops.equal(rows.ids[:, None], rows.ids[None, :]), z.dtype)
    if rows.here is not None:
        same = same * ops.cast(rows.here, z.dtype)[None, :]
        itself = itself * ops.cast(rows.here, z.dtype)
    count = ops.sum(same, axis=-1) - as_weights(rows.here, z)
    some = count > 0
    together = (ops.sum(same * scores, axis=-1) - itself) / ops.where(some, count, 1.0)
    return ops.where(some, total - together, 0.0)
