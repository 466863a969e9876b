"""Checks of constructor arguments, with messages in Keras' manner. They return the argument as a plain value."""

import numbers
import operator

import keras

_BOUNDS = {
    "at least": operator.ge,
    "above": operator.gt,
    "at most": operator.le,
    "below": operator.lt,
}


def check_number(
    name,
    value,
    minimum=None,
    maximum=None,
    *,
    above=None,
    below=None,
    schedule=False,
    optional=False,
):
    """`value` as a float, which must be within bounds, open ones for `above` and `below`.

    With `schedule` a learning-rate schedule is allowed as well, with `optional` `None`.
    """
    if schedule and isinstance(value, keras.optimizers.schedules.LearningRateSchedule):
        return value
    if optional and value is None:
        return None
    bounds = {"at least": minimum, "above": above, "at most": maximum, "below": below}
    number = not isinstance(value, bool) and isinstance(value, numbers.Real) and value == value
    if not number or not _within(value, bounds):
        others = f"{' or a schedule' if schedule else ''}{' or None' if optional else ''}"
        raise ValueError(
            f"`{name}` must be a number{_words(bounds)}{others}. Received: {name}={value!r}"
        )
    return float(value)


def check_numbers(name, value, **bounds):
    """`value` as `check_number` has it, or a list of at least one such number."""
    if isinstance(value, (list, tuple)) or getattr(value, "ndim", 0) == 1:
        if not len(value):
            raise ValueError(f"`{name}` must not be empty. Received: {name}={value!r}")
        return [check_number(name, entry, **bounds) for entry in value]
    return check_number(name, value, **bounds)


def check_integer(name, value, minimum=None, maximum=None, *, optional=False):
    """`value` as an integer, which must be within bounds; with `optional` `None` is allowed as well."""
    if optional and value is None:
        return None
    bounds = {"at least": minimum, "at most": maximum}
    integer = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not integer or not _within(value, bounds):
        words = _words(bounds)
        kind = f"an integer{words and ' of'}{words}{' or None' if optional else ''}"
        raise ValueError(f"`{name}` must be {kind}. Received: {name}={value!r}")
    return int(value)


def check_choice(name, value, choices):
    """`value`, which must be one of `choices`."""
    if value not in choices:
        allowed = ", ".join(repr(choice) for choice in choices)
        raise ValueError(f"`{name}` must be one of {allowed}. Received: {name}={value!r}")
    return value


def _within(value, bounds):
    return all(_BOUNDS[word](value, bound) for word, bound in bounds.items() if bound is not None)


def _words(bounds):
    """` at least 0 and below 1`."""
    given = [f" {word} {bound}" for word, bound in bounds.items() if bound is not None]
    return " and".join(given)


def compatible(shape, reference):
    """Whether two static shapes may be equal, as far as they are known."""
    return len(shape) == len(reference) and all(
        a is None or b is None or a == b for a, b in zip(shape, reference)
    )
