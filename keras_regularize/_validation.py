"""Checks of constructor arguments, with messages in Keras' manner."""

import numbers

import keras


def check_number(name, value, minimum=None, maximum=None, schedule=False):
    """Raises unless `value` is a number within bounds, or a learning-rate schedule where that is allowed."""
    if schedule and isinstance(value, keras.optimizers.schedules.LearningRateSchedule):
        return
    number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if (
        not number
        or value != value
        or (minimum is not None and value < minimum)
        or (maximum is not None and value > maximum)
    ):
        bounds = [
            f"at least {minimum}" if minimum is not None else "",
            f"at most {maximum}" if maximum is not None else "",
        ]
        kind = " and ".join(["a number", *filter(None, bounds)]).replace("number and", "number", 1)
        raise ValueError(
            f"`{name}` must be {kind}{' or a schedule' if schedule else ''}. "
            f"Received: {name}={value!r}"
        )


def check_integer(name, value, minimum=None):
    """Raises unless `value` is an integer of at least `minimum`."""
    integer = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not integer or (minimum is not None and value < minimum):
        bound = f" of at least {minimum}" if minimum is not None else ""
        raise ValueError(f"`{name}` must be an integer{bound}. Received: {name}={value!r}")


def check_choice(name, value, choices):
    """Raises unless `value` is one of `choices`."""
    if value not in choices:
        allowed = ", ".join(repr(choice) for choice in choices)
        raise ValueError(f"`{name}` must be one of {allowed}. Received: {name}={value!r}")


def compatible(shape, reference):
    """Whether two static shapes may be equal, as far as they are known."""
    return len(shape) == len(reference) and all(
        a is None or b is None or a == b for a, b in zip(shape, reference)
    )
