"""Samples of an epoch that a metric keeps, where sums are not enough."""

from keras import ops


class Reservoir:
    """Up to `capacity` rows: all of them while they fit, then a uniform random subset (Vitter's algorithm R).

    The variables are those of the metric. With `tf.distribute` they are those of the first replica: replicas see
    different samples, which cannot be added up.
    """

    def __init__(self, metric, capacity, columns):
        self.capacity = capacity
        # The last row takes what is not kept.
        self._kept = metric.add_variable(
            (capacity + 1, columns), "zeros", "float32", "only_first_replica", "kept"
        )
        self._seen = metric.add_variable((), "zeros", "int32", "only_first_replica", "seen")

    def add(self, columns, counted):
        """Adds rows, given as columns `(n,)` or `(n, k)`, where they are counted, bools `(n,)`.

        Row number `i` takes place `i` while there is one, then a random one up to `i`, if any. The random number
        is a hash of `i`, because a random generator of a metric would not advance in a compiled step.
        """
        counts = ops.cast(counted, "int32")
        number = self._seen.value + ops.cumsum(counts) - 1
        drawn = ops.cast(_uniform_hash(number) * ops.cast(number + 1, "float32"), "int32")
        place = ops.where(number < self.capacity, number, drawn)
        place = ops.where(counts > 0, ops.minimum(place, self.capacity), self.capacity)
        columns = [ops.cast(column, "float32") for column in columns]
        columns = [x[:, None] if len(x.shape) == 1 else x for x in columns]
        rows = ops.concatenate(columns, axis=-1)
        self._kept.assign(ops.scatter_update(self._kept.value, place[:, None], rows))
        self._seen.assign_add(ops.sum(counts))

    def rows(self):
        """All places `(capacity, columns)`; those from `count()` on are empty, and 0."""
        return self._kept.value[:-1]

    def count(self):
        """How many rows there are."""
        return ops.minimum(self._seen.value, self.capacity)


def _uniform_hash(number):
    """Pseudo-random numbers in `[0, 1)` from integers."""
    for multiplier, shift in ((-1640531535, 15), (-2048144777, 13), (-1028477379, 16)):
        number = number * multiplier
        number = ops.bitwise_xor(number, ops.right_shift(number, shift))
    # 24 bits, which float32 holds exactly.
    return ops.cast(ops.bitwise_and(number, 0xFFFFFF), "float32") / 2.0**24
