"""The average prediction for every training sample, which ELR and ELR+ hold their networks to."""

from keras import ops

from keras_regularize.autodiff import backend
from keras_regularize.scores import class_scores


def add_memory(model, *shape):
    """A variable of averages, one row per sample, that belongs to a model."""
    return model.add_weight(
        shape=shape,
        initializer="zeros",
        dtype="float32",
        trainable=False,
        autocast=False,
        aggregation="only_first_replica",  # Every replica has the same.
        name="memory",
    )


def memory_scores(model, outputs, from_logits):
    """Scores `(batch, num_classes)` of a network's outputs."""
    scores = class_scores(outputs, from_logits)
    if len(scores.shape) != 2 or scores.shape[-1] != model.num_classes:
        raise ValueError(
            f"`{type(model).__name__}` needs outputs for num_classes={model.num_classes} classes, "
            f"(batch, classes). Received outputs of shape {tuple(scores.shape)}"
        )
    return scores


def remember(memory, index, known, rows):
    """Writes the new averages of samples, of repeated ones the last; the same on all replicas.

    Left out are samples that are not `known`, and averages that are not finite.
    """
    index, known, rows = backend.gather_over_replicas([index, known, rows])
    # From the last on: Keras 3.13 reduces them one by one on PyTorch.
    axes = tuple(range(len(rows.shape) - 1, 0, -1))
    known = (known > 0) & ops.all(ops.isfinite(rows), axis=axes)
    # Of the samples with an index the last one that may be written, which all of them then write.
    same = (index[:, None] == index[None, :]) & known[None, :]
    position = ops.arange(1, ops.shape(index)[0] + 1, dtype="int32")
    last = ops.max(ops.where(same, position[None, :], 0), axis=1, initial=0)
    new = ops.take(rows, ops.maximum(last - 1, 0), axis=0)
    written = ops.reshape(last > 0, (-1,) + (1,) * (len(rows.shape) - 1))
    backend.write_rows(memory, index, ops.where(written, new, backend.read_rows(memory, index)))
