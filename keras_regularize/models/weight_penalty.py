"""Penalties on many weights at once."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_regularize.models.regularized_model import RegularizedModel
from keras_regularize.registration import export
from keras_regularize.utils.variables import check_where, chooser, everything, weight_like
from keras_regularize.validation import check_choice, check_number


@export
class WeightPenalty(RegularizedModel):
    r"""Adds a penalty on all chosen weights jointly to the loss.

    $$L + \lambda\,P(\{w_v\})$$

    Keras calls a regularizer once per variable and fixes it when the layer is made. This wrapper is for
    penalties that look at several variables together, for layers without a `*_regularizer` argument, and for
    a weight $\lambda$ that changes over training.

    With `anchors` the penalty gets the differences $w_v - w^\ast_v$ to remembered weights in place of the
    weights: those at construction, until `set_anchors` takes others. They are variables of this model, saved
    with its weights and not in its config, so large models can be held near a pretrained state, or driven
    away from one. With `"weighted"` each difference is multiplied by the root of an importance, so that
    `keras.regularizers.L2(0.5)` is elastic weight consolidation with `kr.analysis.fisher_diagonal`.

    Args:
        model: The model to train, or another wrapper.
        penalty: Function of the list of chosen weights (tensors) that returns a scalar, for example
            `lambda kernels: sum(map(regularizer, kernels))`. A `keras.regularizers.Regularizer` is applied
            to each weight and summed. Saving needs an object or function registered with Keras.
        factor: Weight $\lambda$, a number; or a schedule.
        where: Which variables are penalized: the name of a variable, a list of names of variables or of layers
            on their path, or a function of the variable such as `kr.utils.AllBut`; `None` for all trainable
            ones.
        anchors: `None`; or `"plain"` or `"weighted"`, which need a model that is built and take one or two
            further arrays per chosen weight.
        **kwargs: `name` and other arguments of `keras.Model`.

    Raises:
        ValueError: If `penalty` is not callable, or no variable is chosen; with `anchors` also if a chosen
            variable became trainable after construction.

    Cost: the penalty's own forward and backward pass at every gradient query.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    net = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3), keras.layers.Dense(1)])
    model = kr.models.WeightPenalty(net, keras.regularizers.L2(1.0), factor=0.01)
    model.compile("sgd", "mse")
    model.fit(np.ones((8, 4)), np.zeros((8, 1)), verbose=0)

    # Held near the present weights instead of near zero:
    near = kr.models.WeightPenalty(net, keras.regularizers.L2(1.0), factor=0.01, anchors="plain")
    ```

    Reference: None; the mechanism for penalties over whole models.
    """

    def __init__(
        self,
        model: keras.Model,
        penalty: Callable[[list[Any]], Any],
        factor: Any = 1.0,
        where: str | Sequence[str] | Callable[[keras.Variable], bool] | None = "kernel",
        anchors: str | None = None,
        **kwargs: Any,
    ):
        if not callable(penalty):
            raise ValueError(
                "`penalty` must be a function of a list of weights, or a regularizer. "
                f"Received: penalty={penalty!r}"
            )
        check_number("factor", factor, schedule=True)
        check_choice("anchors", anchors, (None, "plain", "weighted"))
        super().__init__(model, **kwargs)
        self.penalty = penalty
        self.factor = factor
        self.where = check_where(where)
        self.anchors = anchors
        # Not the variables themselves: as attributes they would be saved twice.
        self._anchored_ids = []
        if anchors is not None:
            chosen = self._choose(model.trainable_variables)
            self._anchored_ids = [id(v) for v in chosen]
            self._anchor_values = [
                self._like(v, "zeros", f"anchor_{i}") for i, v in enumerate(chosen)
            ]
            if anchors == "weighted":
                self._anchor_roots = [
                    self._like(v, "ones", f"root_{i}") for i, v in enumerate(chosen)
                ]
            self.set_anchors()

    def set_anchors(
        self, weights: Sequence[Any] | None = None, importance: Sequence[Any] | None = None
    ) -> None:
        """Remembers weights that the penalty measures differences to, with their importance.

        Args:
            weights: An array per variable of `trainable_variables`; by default their present values.
            importance: The same for the importance, at least 0, of `anchors="weighted"`; by default it stays
                as it is, which is 1 at first. What is not chosen by `where` is ignored.

        Raises:
            ValueError: If the model has no anchors, or arrays are missing, of the wrong shape or negative.
        """
        if self.anchors is None or (importance is not None and self.anchors != "weighted"):
            needed = "weighted" if importance is not None else "plain"
            raise ValueError(
                f'`set_anchors` needs `anchors="{needed}"` at construction. '
                f"Received: anchors={self.anchors!r}"
            )
        weights = self._arrays("weights", weights)
        if importance is not None:
            importance = self._arrays("importance", importance)
            if any((entry < 0).any() for entry in importance):
                raise ValueError("`importance` must not be negative. Received: negative entries")
            for variable, entry in zip(self._anchor_roots, importance):
                variable.assign(np.sqrt(entry))
        for variable, entry in zip(self._anchor_values, weights):
            variable.assign(entry)

    def objective(self, batch, forward):
        loss, values = super().objective(batch, forward)
        chosen = self._choose(batch.variables)
        weights = [forward.weight(v) for v in chosen]
        if self.anchors is not None:
            weights = [self._difference(v, weight) for v, weight in zip(chosen, weights)]
        if isinstance(self.penalty, keras.regularizers.Regularizer):
            penalty = sum(self.penalty(w) for w in weights)
        else:
            penalty = self.penalty(weights)
        return loss + self.scheduled(self.factor, batch) * ops.cast(penalty, loss.dtype), values

    def _choose(self, variables):
        chosen = list(filter(chooser(self.where, everything), variables))
        if not chosen:
            raise ValueError(
                f"No trainable variable matches `where={self.where!r}`. "
                f"The model has {sorted({v.name for v in variables})}"
            )
        return chosen

    def _like(self, variable, initializer, name):
        return weight_like(
            self,
            variable,
            initializer,
            dtype=variable.dtype,
            trainable=False,
            autocast=False,
            aggregation="only_first_replica",  # Every replica has the same.
            name=name,
        )

    def _arrays(self, name, given):
        """The arrays of the anchored variables, out of those of all trainable ones."""
        variables = self.trainable_variables
        given = variables if given is None else given
        given = [entry if hasattr(entry, "shape") else np.asarray(entry) for entry in given]
        shapes = [tuple(entry.shape) for entry in given]
        expected = [tuple(v.shape) for v in variables]
        if shapes != expected:
            raise ValueError(
                f"`{name}` must have an array for each of `trainable_variables`, of shapes {expected}. "
                f"Received: {name} of shapes {shapes}"
            )
        found = {id(v): entry for v, entry in zip(variables, given)}
        missing = set(self._anchored_ids) - set(found)
        if missing:
            raise ValueError(
                "Variables with anchors must be trainable while `set_anchors` runs. Received "
                f"{len(missing)} that are not"
            )
        return [ops.convert_to_numpy(found[i]) for i in self._anchored_ids]

    def _difference(self, variable, weight):
        if id(variable) not in self._anchored_ids:
            raise ValueError(
                f"`{variable.path}` has no anchor, as it was not trainable when `WeightPenalty` was made. "
                "Set `trainable` before."
            )
        position = self._anchored_ids.index(id(variable))
        moved = weight - ops.cast(self._anchor_values[position].value, weight.dtype)
        if self.anchors == "weighted":
            moved = moved * ops.cast(self._anchor_roots[position].value, weight.dtype)
        return moved
