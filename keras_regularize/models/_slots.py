"""State as large as the weights: a variable beside every weight that a method remembers something about."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_regularize.autodiff import Batch
from keras_regularize.models.regularized_model import RegularizedModel
from keras_regularize.models.step.objective import Aux
from keras_regularize.utils.variables import weight_like


class Slots(keras.layers.Layer):
    """A variable, zero at first, beside each weight of a model that is or has been trainable.

    A layer of its own, because it gets its variables later than in the wrapper's `__init__`: when the weights
    exist and what is frozen is known, and more of them when weights are unfrozen for a second phase of training.
    Values are stored by the position of their weight in the model, so that they find their place again where
    other weights are frozen. All replicas must assign the same values.
    """

    def __init__(self, model: keras.Model, name: str):
        super().__init__(name=name, dtype="float32")
        # Behind a function, so that Keras does not take the model for a part of this layer.
        self._model = lambda: model
        self._positions: list[int] = []
        self._ids: list[int] = []
        self._slots: list[keras.Variable] = []
        self.made = False
        # Not by `build`, which locks a layer.
        self.built = True

    def extend(self) -> None:
        """Makes the variables that weights which are trainable now still lack."""
        self.made = True
        trainable = {id(v) for v in self._model().trainable_variables} - set(self._ids)
        for position, variable in enumerate(self._model().weights):
            if id(variable) in trainable:
                slot = weight_like(
                    self,
                    variable,
                    # In a call under a mixed policy a variable says that it is of the compute dtype.
                    dtype=keras.backend.result_type(variable.dtype, self._model().variable_dtype),
                    trainable=False,
                    autocast=False,
                    aggregation="only_first_replica",
                    # As optimizers name theirs.
                    name=f"{variable.path}_{self.name}".replace("/", "_"),
                )
                self._positions.append(position)
                self._ids.append(id(variable))
                self._slots.append(slot)

    def read(self, variables: Sequence[keras.Variable]) -> list[Any]:
        """The values beside `variables`; zeros beside those that belong to a wrapper further out."""
        slots = dict(zip(self._ids, self._slots))
        return [
            slots[id(v)].value if id(v) in slots else ops.zeros(v.shape, v.dtype) for v in variables
        ]

    def assign(self, variables: Sequence[keras.Variable], values: Sequence[Any]) -> None:
        """Stores `values` beside `variables`."""
        slots = dict(zip(self._ids, self._slots))
        for variable, value in zip(variables, values):
            if id(variable) in slots:
                slot = slots[id(variable)]
                slot.assign(ops.cast(value, slot.dtype))

    def save_own_variables(self, store: Any) -> None:
        for position, slot in zip(self._positions, self._slots):
            store[str(position)] = slot.numpy()

    def load_own_variables(self, store: Any) -> None:
        stored = set(store.keys())
        for position, slot in zip(self._positions, self._slots):
            known = str(position) in stored
            slot.assign(store[str(position)] if known else ops.zeros(slot.shape, slot.dtype))


class SlottedModel(RegularizedModel):
    """A wrapper with `slots`, which are made along with its weights."""

    #: What the slots are called, in saved files too.
    slots_name = "slots"

    def __init__(self, model: keras.Model, **kwargs: Any):
        super().__init__(model, **kwargs)
        self.slots = Slots(model, name=self.slots_name)

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        outputs = super().call(inputs, training, mask)
        if not self.slots.made:  # Now the weights exist.
            self.slots.extend()
        return outputs

    def build_parts(self):
        if not self.slots.made:
            self.slots.extend()

    def compile(self, *args: Any, **kwargs: Any) -> None:
        super().compile(*args, **kwargs)
        self._extend_slots()

    def check_data(self, x: Any, y: Any) -> None:
        super().check_data(x, y)
        self._extend_slots()

    def _extend_slots(self):
        if self.slots.made:
            self.slots.extend()

    def kept(self, aux: Aux, values: Sequence[Any]) -> Aux:
        """`aux` with what the slots will hold, the weights of this step in order, when it has been taken."""
        return aux._replace(states={**aux.states, self.key: list(values)})

    def after_update(self, batch: Batch, aux: Aux, gradients: list[Any]) -> None:
        super().after_update(batch, aux, gradients)
        self.slots.assign(batch.variables, aux.states[self.key])
