"""Which layers of a functional model take what others give out."""

import keras
from keras import layers

from keras_regularize.utils.graphs import calls_of


class Own(keras.Model):
    """A functional model with a config of its own, as those of KerasHub."""

    def __init__(self, units):
        x = keras.Input((3,), name="x")
        super().__init__(x, layers.Dense(units, name="last")(layers.Dense(4, name="first")(x)))
        self.units = units

    def get_config(self):
        return {"units": self.units}


def test_every_call_of_a_layer_is_found():
    a, b = keras.Input((3,), name="a"), keras.Input((3,), name="b")
    shared, add = layers.Dense(3, name="shared"), layers.Add(name="add")
    shared(keras.Input((3,)))  # Not a call in the model.
    model = keras.Model([a, b], add([shared(a), shared(shared(b))]))
    found = [(layer.name, sources) for layer, sources in calls_of(model) if sources]
    assert sorted(found) == [
        ("add", ["shared", "shared"]),
        ("shared", ["a"]),
        ("shared", ["b"]),
        ("shared", ["shared"]),
    ]


def test_a_config_that_tells_nothing_leaves_the_first_calls():
    found = [(layer.name, sources) for layer, sources in calls_of(Own(2)) if sources]
    assert found == [("first", ["x"]), ("last", ["first"])]
