"""ELR: what a network predicted early in training keeps it from memorizing wrong labels."""

from typing import Any

import keras
from keras import ops

from keras_regularize.autodiff import backend
from keras_regularize.losses import early_learning_penalty
from keras_regularize.models._index import check_index, find_rows
from keras_regularize.models.noisy_labels._memory import (
    add_memory,
    memory_scores,
    remember,
)
from keras_regularize.models.regularized_model import RegularizedModel
from keras_regularize.registration import export
from keras_regularize.scores import gives_logits, one_output
from keras_regularize.validation import check_integer, check_number


@export
class ELR(RegularizedModel):
    r"""Early-learning regularization: holds a classifier to its own earlier predictions, not to wrong labels.

    A network learns from the correct labels first and memorizes the wrong ones later. ELR keeps for every
    training sample $i$ a moving average $t_i$ of its predictions and adds to the compiled loss a term that is
    minimal where the present prediction agrees with it:

    $$L + \lambda\, \frac1{|B|} \sum_{i \in B} \log\big(1 - \langle t_i, p_i \rangle\big), \qquad
    t_i \leftarrow \beta\, t_i + (1 - \beta)\, \frac{p_i}{\|p_i\|_1},$$

    $p_i$ being the softmax clipped to $[10^{-4}, 1 - 10^{-4}]$. The average is moved once a step, before it is
    used, and gets no gradient; it begins at 0. Once a sample's average is sure of a class, the gradient of the
    term outweighs that of the cross-entropy to another label.

    Samples are told apart by the column `index` of `y`: use `kr.utils.with_index(y)`. `evaluate` and `predict`
    need none. Every sample of a batch counts alike in the term, whatever its weight and also without a label. An
    index that occurs twice in a batch is remembered by its last occurrence, a prediction that is not finite not
    at all.

    The more labels are wrong, the larger `factor` may be; where the noise depends on the class (a cat is labelled
    as a dog) the authors take a longer average and less of the term, 0.9 and 1, and for 100 classes 0.9 and 7. The
    loss can become negative, as the term is.

    It composes: `SAM(ELR(model))`, `ELR(VAT(model))`, `ELR(AdversarialTraining(model, attack))`, which remembers
    the predictions on clean inputs at the price of a pass. Under gradient rules every query starts from the
    stored average; stored is that of the first query, at the unperturbed weights. Several devices share
    one memory.

    Args:
        model: The classifier to train, or another wrapper; with one output `(batch, num_classes)`, or
            `(batch, 1)` for two classes.
        num_samples: Number of training samples.
        num_classes: Number of classes.
        momentum: $0 \le \beta < 1$ of the average.
        factor: Weight $\lambda \ge 0$ of the term; or a schedule.
        from_logits: Whether the model gives out logits; `None` asks the compiled loss.
        **kwargs: `name` and other arguments of `keras.Model`.

    Attributes:
        memory: The variable `(num_samples, num_classes)` of the averages; saved with the model. Its largest
            entries are the labels that the model would give: where they differ from the data's, have a look.

    Raises:
        ValueError: If an argument is out of range; if the outputs are not of `num_classes`; if the column `index`
            is missing; if an array of indices holds one outside `0 … num_samples - 1`. A `tf.data.Dataset` is not
            read for that check: there, a sample with such an index gets no term and is not remembered.

    Cost: one forward-backward pass per step, and a read and a write of the batch's rows of the memory.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    x = np.random.default_rng(0).random((8, 4))
    net = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    model = kr.models.ELR(net, num_samples=8, num_classes=3)
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(x, kr.utils.with_index(np.arange(8) % 3), verbose=0)
    doubtful = model.memory.numpy().argmax(axis=-1) != np.arange(8) % 3
    ```

    Reference: Sheng Liu, Jonathan Niles-Weed, Narges Razavian and Carlos Fernandez-Granda, *Early-Learning
    Regularization Prevents Memorization of Noisy Labels*, NeurIPS 2020, arXiv:2007.00151. The clip is that of
    their code.
    """

    reads_columns = ("index",)

    def __init__(
        self,
        model: keras.Model,
        num_samples: int,
        num_classes: int,
        momentum: float = 0.7,
        factor: Any = 3.0,
        from_logits: bool | None = None,
        **kwargs: Any,
    ):
        super().__init__(model, **kwargs)
        self.num_samples = check_integer("num_samples", num_samples, minimum=1)
        self.num_classes = check_integer("num_classes", num_classes, minimum=2)
        self.momentum = check_number("momentum", momentum, minimum=0, below=1)
        self.factor = check_number("factor", factor, minimum=0, schedule=True)
        self.from_logits = None if from_logits is None else bool(from_logits)
        self.memory = add_memory(self, self.num_samples, self.num_classes)

    def check_loss(self, model):
        super().check_loss(model)
        gives_logits(model)

    def check_columns(self, columns):
        super().check_columns(columns)
        check_index(columns, self.num_samples, "ELR")

    def objective(self, batch, forward):
        loss, values = super().objective(batch, forward)
        from_logits = gives_logits(forward)
        outputs = one_output(forward.outputs_at(batch.x), forward)
        scores = memory_scores(self, outputs, from_logits)
        index, known = find_rows(batch.columns, self.num_samples, "ELR")
        rows = self._moved(backend.read_rows(self.memory, index), scores)
        penalty = ops.mean(early_learning_penalty(known[:, None] * rows, scores))
        loss = loss + ops.cast(self.scheduled(self.factor, batch) * penalty, loss.dtype)
        return loss, {**values, self.key: {"index": index, "known": known, "rows": rows}}

    def after_update(self, batch, aux, gradients):
        super().after_update(batch, aux, gradients)
        seen = aux.values[self.key]
        remember(self.memory, seen["index"], seen["known"], seen["rows"])

    def _moved(self, rows, scores):
        """The averages of samples after their new predictions."""
        p = ops.softmax(ops.stop_gradient(ops.cast(scores, "float32")), axis=-1)
        p = ops.clip(p, 1e-4, 1.0 - 1e-4)
        p = p / ops.sum(p, axis=-1, keepdims=True)
        return self.momentum * rows + (1.0 - self.momentum) * p
