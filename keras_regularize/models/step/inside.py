"""What the model inside a wrapper defines for itself: methods of Keras, metrics, compilation, preprocessing."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import tree

KERAS_COMPILE = frozenset(inspect.signature(keras.Model.compile).parameters)
COMPILED = ("loss", "loss_weights", "metrics", "weighted_metrics")
LABEL = "label"


def overrides(model, name):
    """Whether the class of a model has its own version of what `keras.Model` calls `name`."""
    return getattr(type(model), name) is not getattr(keras.Model, name)


def refuse_own_train_step(wrapper, model):
    """Raises `ValueError` for a model whose training is its own: two steps cannot both act."""
    if overrides(model, "train_step"):
        raise ValueError(
            f"`{wrapper}` has a train step of its own, which would replace `{type(model).__name__}.train_step` "
            "without a word. Move what that computes into `compute_loss(x, y, y_pred, sample_weight)` or "
            "`call` with `add_loss`, which act under every wrapper, or write it as the `objective` of a subclass "
            f"of `RegularizedModel`. Received: model={model!r}"
        )


def compile_inside(model, optimizer, arguments):
    """Compiles a model for the methods of its own that read what was compiled.

    `arguments` are those of `compile` by name; returns those that are left for the wrapper: not what only the
    model's own `compile` knows, and no metrics that the model itself updates.
    """
    known = inspect.signature(type(model).compile).parameters
    own = [name for name in arguments if name in known and name not in KERAS_COMPILE]
    names: Sequence[str] = COMPILED[:2]
    left = dict(arguments)
    if overrides(model, "compute_metrics"):
        names = COMPILED
        left |= {"metrics": [Unmoved()], "weighted_metrics": None}
    if overrides(model, "test_step"):
        names = [name for name in arguments if name in KERAS_COMPILE]
    elif not own and not any(
        overrides(model, name) for name in ("compute_loss", "compute_metrics")
    ):
        return arguments
    takes = {name for name in names if name in known or "kwargs" in known}
    # Another optimizer than the wrapper's: it never steps, and would be saved beside it.
    optimizer = model.optimizer if model.compiled else optimizer
    model.compile(optimizer=optimizer, **{name: arguments.get(name) for name in (*own, *takes)})
    return {name: value for name, value in left.items() if name not in own}


class Unmoved(keras.metrics.Metric):
    """In the place of metrics that the model inside updates: Keras builds them only if it has some itself."""

    NAME = "unmoved"

    def __init__(self):
        super().__init__(name=self.NAME)

    def update_state(self, y_true, y_pred, sample_weight=None):
        pass

    def result(self):
        return 0.0


def metrics_inside(model):
    """Metrics that belong to the model itself: Keras leaves those of a nested model out."""
    if overrides(model, "compute_metrics") or overrides(model, "metrics"):
        return list(model.metrics)
    # A model that was compiled before has its trackers, which are not moved here.
    compiled = [getattr(model, name, None) for name in ("_loss_tracker", "_compile_metrics")]
    compiled += getattr(getattr(model, "_compile_loss", None), "metrics", [])
    return [m for m in model.metrics if all(m is not c for c in compiled)]


def takes_label(model, loss, structure, reads_columns):
    """Whether a dictionary with the key `label` is what the model itself takes for labels.

    `structure` is the outputs (tensors or specifications) in their structure, `None` if they were not seen yet.
    """
    if overrides(model, "compute_loss"):
        return not reads_columns
    if structure is None:
        return isinstance(loss, Mapping) and LABEL in loss
    if isinstance(structure, Mapping):
        return LABEL in structure
    if isinstance(structure, (list, tuple)):
        return LABEL in (getattr(model, "output_names", None) or ())
    return False


def prepared(model, x, y=None, sample_weight=None):
    """`(x, y, sample_weight)` as a model prepares them in its own `fit`: KerasHub tasks have a preprocessor."""
    if getattr(model, "preprocessor", None) is None or not hasattr(model, "preprocess_samples"):
        return x, y, sample_weight
    prepare = model.preprocess_samples
    if hasattr(x, "element_spec"):
        return x.map(prepare), None, None
    if isinstance(x, keras.utils.PyDataset):
        return _PreparedDataset(x, prepare), None, None
    if not isinstance(x, (list, tuple, Mapping, str)) and not hasattr(x, "dtype"):
        return _prepared_batches(x, prepare), None, None
    return keras.utils.unpack_x_y_sample_weight(_on_arrays(prepare, x, y, sample_weight))


def prepared_into(model, arguments, x, y):
    """`(x, y)` as a model prepares them; sample weights into the `arguments` that they came with."""
    x, y, sample_weight = prepared(model, x, y, arguments.get("sample_weight"))
    if sample_weight is not None:
        arguments["sample_weight"] = sample_weight
    return x, y


def _on_arrays(prepare, x, y, sample_weight):
    given: tuple[Any, ...] = (x, y, sample_weight)
    while len(given) > 1 and given[-1] is None:
        given = given[:-1]
    return prepare(*given)


def _prepared_batches(batches, prepare):
    for batch in batches:
        batch = batch if isinstance(batch, (list, tuple)) else (batch,)
        yield _on_arrays(prepare, *keras.utils.unpack_x_y_sample_weight(tuple(batch)))


class _PreparedDataset(keras.utils.PyDataset):
    """The batches of another dataset, each prepared when it is asked for."""

    def __init__(self, dataset, prepare):
        super().__init__(dataset.workers, dataset.use_multiprocessing, dataset.max_queue_size)
        self._dataset, self._prepare = dataset, prepare

    def __len__(self):
        return len(self._dataset)

    @property
    def num_batches(self):
        return self._dataset.num_batches

    def __getitem__(self, index):
        batch = self._dataset[index]
        batch = batch if isinstance(batch, tuple) else (batch,)
        return _on_arrays(self._prepare, *keras.utils.unpack_x_y_sample_weight(batch))

    def on_epoch_begin(self):
        self._dataset.on_epoch_begin()

    def on_epoch_end(self):
        self._dataset.on_epoch_end()


def output_structure(model):
    """Outputs of a functional or sequential model in their structure; `None` where only a call tells."""
    if not getattr(model, "inputs", None):
        return None
    return model.outputs[0] if isinstance(model, keras.Sequential) else model.output


def without_tensors(outputs):
    """The structure of outputs alone, to be kept: a tensor of a traced call must not be."""
    return tree.map_structure(lambda _: 0, outputs)
