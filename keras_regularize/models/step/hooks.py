"""What a method may change of the one train step, and how wrappers pass it on."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import keras
from keras import tree

from keras_regularize.autodiff import Batch, Forward
from keras_regularize.configuration import Configured
from keras_regularize.models.step.objective import Aux, Objective


class Plain:
    """What the hooks of a model without any method do: the place of a wrapper inside the innermost one."""

    checks_values = False
    updates_per_batch = 1

    def prepare(self, batch, forward):
        return batch

    def objective(self, batch, forward):
        return forward.loss(batch), {}

    def gradients(self, objective, weights, batch):
        return objective.value_and_grad(weights)

    def after_update(self, batch, aux, gradients):
        pass

    def training_inputs(self, batch):
        return batch.x

    def check_loss(self, model):
        pass

    def check_data(self, x, y):
        pass

    def check_columns(self, columns):
        pass


PLAIN = Plain()

if TYPE_CHECKING:
    from keras import Model as _Model
else:  # `RegularizedModel` puts the model last, after all parts of the step.
    _Model = object


class Hooks(Configured, _Model):
    """The hooks of a step, each of which is by default that of the wrapper inside: `SAM(VAT(model))`.

    | hook | called | does |
    |---|---|---|
    | `prepare(batch, forward)` | once a step, undifferentiated | adds what the objective needs to the batch |
    | `objective(batch, forward)` | at every gradient query | the differentiable scalar; pure |
    | `gradients(objective, weights, batch)` | once a step | queries gradients, also at other weights |
    | `after_update(batch, aux, gradients)` | once a step, after the optimizer | stores what was learnt |

    The other methods say what the step is fed with, and what it cannot be used on.
    """

    #: Whether integer labels of -1 mark unlabelled rows.
    semi_supervised = False
    #: Whether the step differentiates through a gradient.
    double_backward = False
    #: What `evaluate` measures beside the compiled metrics: an object with a `metric`, `check_data` and `update`.
    evaluation: Any = None
    #: Whether predictions are the method's own, so that a `test_step` or `predict_step` of the model cannot act.
    predicts_itself = False
    #: Names of the columns of `y` that the method reads.
    reads_columns: tuple[str, ...] = ()

    # The step

    def prepare(self, batch: Batch, forward: Forward) -> Batch:
        """Adds to the batch what the objective needs, once a step at the unperturbed weights."""
        return self.inside.prepare(batch, forward)

    def objective(self, batch: Batch, forward: Forward) -> tuple[Any, dict[str, Any]]:
        """`(loss, values)`: any differentiable scalar, and tensors for `after_update`. Assigns nothing."""
        return self.inside.objective(batch, forward)

    def gradients(
        self, objective: Objective, weights: list[Any], batch: Batch
    ) -> tuple[Any, Aux, list[Any]]:
        """`(loss, aux, gradients)`; call it with other `weights` for the gradient there."""
        return self.inside.gradients(objective, weights, batch)

    def after_update(self, batch: Batch, aux: Aux, gradients: list[Any]) -> None:
        """Stores what the step learnt; `aux.values` is what the objective returned beside the loss.

        The place to assign state: not called where a scaled loss overflowed and the optimizer skips the step.
        """
        self.inside.after_update(batch, aux, gradients)

    def scheduled(self, value: Any, batch: Batch) -> Any:
        """A hyperparameter at the batch's step: the number itself, or the schedule's value there."""
        if isinstance(value, keras.optimizers.schedules.LearningRateSchedule):
            return value(batch.step)
        return value

    # What it is fed with

    def training_inputs(self, batch: Batch) -> Any:
        """What the wrapped model is called on in training: `batch.x` unless a wrapper feeds it more."""
        return self.inside.training_inputs(batch)

    @property
    def updates_per_batch(self) -> int:
        """How often in a row a batch is prepared, queried and followed by an optimizer step."""
        return self.inside.updates_per_batch

    def check_loss(self, model: keras.Model) -> None:
        """Raises `ValueError` for a compiled loss the step cannot use, before Keras traces it.

        Gets the outermost wrapper, which was compiled.
        """
        self.inside.check_loss(model)

    def check_data(self, x: Any, y: Any) -> None:
        """Raises `ValueError` for data the step cannot use, before Keras traces it.

        Gets arrays, or the specification of a `tf.data.Dataset`, or if `checks_values` the first batch of any
        dataset; `y` is the label alone.
        """
        self.inside.check_data(x, y)

    @property
    def checks_values(self) -> bool:
        """Whether `check_data` looks at values, so that it gets the first batch of a dataset."""
        return self.inside.checks_values

    def check_columns(self, columns: Mapping[str, Any]) -> None:
        """Raises `ValueError` for extra columns of `y` the step cannot use, before Keras traces it.

        Gets what `check_data` gets: arrays, or the specifications of a `tf.data.Dataset`.
        """
        self.inside.check_columns(columns)

    def training_callbacks(self) -> list[keras.callbacks.Callback]:
        """Callbacks of `fit` by which the method acts between epochs, wherever it is in a nest of wrappers."""
        return []

    # Wrapping

    @property
    def inside(self) -> Any:
        """The wrapper inside, or in the innermost one what stands for none."""
        return self.model if isinstance(self.model, Hooks) else PLAIN

    def wrappers(self) -> Iterator["Hooks"]:
        """This wrapper and those inside, outermost first."""
        wrapper = self
        while isinstance(wrapper, Hooks):
            yield wrapper
            wrapper = wrapper.model

    @property
    def innermost(self) -> keras.Model:
        """The model inside all wrappers."""
        return list(self.wrappers())[-1].model

    def is_semi_supervised(self) -> bool:
        """Whether this wrapper or one inside takes rows without labels."""
        return any(wrapper.semi_supervised for wrapper in self.wrappers())

    def symbolic_inputs(self) -> Any:
        """New symbolic inputs like those that this wrapper is called on; the innermost model has fixed ones."""
        model = self.model
        if isinstance(model, Hooks):
            return model.symbolic_inputs()
        inputs = model.inputs[0] if isinstance(model, keras.Sequential) else model.input
        return tree.map_structure(
            lambda t: keras.Input(batch_shape=t.shape, dtype=t.dtype, name=t.name), inputs
        )

    def build_parts(self) -> None:
        """Creates variables that need the weights of the model inside; else Keras traces a call to do so."""

    def ensure_built(self) -> None:
        """Builds the wrappers where the innermost model has fixed inputs and is built."""
        # A symbolic call, not `build`: that locks the state before a subclass has made its variables.
        if self.built or not (self.innermost.built and getattr(self.innermost, "inputs", None)):
            return
        # From the inside out: with a part that is not built, Keras traces the whole as one call.
        for wrapper in reversed(list(self.wrappers())):
            wrapper.build_parts()
            if not wrapper.built:
                wrapper(wrapper.symbolic_inputs())
                # A functional model around it counts the calls when it is loaded; this one is none of its own.
                wrapper._inbound_nodes.pop()
