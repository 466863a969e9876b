"""Prospect: a spectral risk of all training samples, of which a step sees only a few."""

import math
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from keras_regularize import autodiff
from keras_regularize.autodiff import Batch, backend
from keras_regularize.autodiff.functional import read_state, read_values
from keras_regularize.losses.risk.spectra import check_spectrum, spectral_weights
from keras_regularize.models._index import check_index, find_rows
from keras_regularize.models._samples import weighted_losses
from keras_regularize.models.regularized_model import RegularizedModel
from keras_regularize.models.step.objective import Objective
from keras_regularize.registration import export
from keras_regularize.validation import check_integer


@export
class Prospect(RegularizedModel):
    r"""Minimizes a spectral risk of the whole training set, by remembering every sample's last loss.

    $$\max_{q \in P(\sigma)}\ \sum_{i=1}^n q_i\, \ell_i(w) - \nu\, D(q \,\|\, \tfrac1n \mathbb 1)$$

    with the weights of `kr.losses.spectral_weights`. `kr.losses.SpectralRisk` finds the worst samples within a
    batch, which is biased; here $q$ comes from a table of the losses of all $n$ samples, and a step on the batch
    $B$ of indices uses

    $$v = \frac1{|B|} \sum_{i \in B} n\,(q_i\, g_i - \rho_i\, G_i) + \sum_{j=1}^n \rho_j\, G_j,$$

    $g_i = \nabla \ell_i(w)$ being the sample's gradient now, $G_i$ and $\rho_i$ its gradient and weight when it
    was seen last. Both sums agree on average, so the table of gradients only takes out variance, down to 0 at the
    solution: with a constant learning rate SGD stays on a floor of noise and Prospect converges linearly, if
    $\nu > 0$ and the objective is strongly convex. The paper steps with one sample, `batch_size=1`.

    Penalties (weight regularizers, `add_loss`) are part of every step with their exact gradient. Samples are told
    apart by the column `index` of `y`: use `kr.utils.with_index(y)`. Sample weights multiply the losses, in the
    tables too. The logged loss is the mean of $n q_i \ell_i$ in the batches, an estimate of $\sum_i q_i \ell_i$.

    A sample not yet seen counts as loss 0; `fill_tables(x, y)` before `fit` is the paper's start. Without
    `gradient_table` the memory is one number per sample and any model will do: the risk is unbiased then up to the
    age of the table, the variance that of SGD. Under gradient rules (`SAM(Prospect(model))`) and around attacks
    the table's gradients are those of the compiled loss on clean inputs at the unperturbed weights: no longer the
    best ones to subtract, but right on average. On several devices they share one table.

    Args:
        model: The model to train, or another wrapper; for the gradient table a small one that is built.
        num_samples: Number $n$ of training samples.
        spectrum: `"cvar"`, `"extremile"`, `"esrm"` or `"uniform"`.
        parameter: Parameter of the spectrum, as in `kr.losses.spectral_weights`.
        shift_cost: Price $\nu \ge 0$ of weights that are not uniform, in units of the loss.
        penalty: $D$: `"chi2"` or `"kl"`.
        gradient_table: Whether the last gradient of every sample is kept, `num_samples` × number of weights.
        **kwargs: `name` and other arguments of `keras.Model`.

    Attributes:
        table_losses: Variable `(num_samples,)`, the losses; saved with the model, like the next two.
        table_weights: With `gradient_table`, variable `(num_samples,)` of the $\rho_i$.
        table_gradients: With `gradient_table`, variable `(num_samples, weights)` of the $G_i$.

    Raises:
        ValueError: If an argument is out of range; if the model is not built or its trainable variables have
            changed, with a gradient table; if the column `index` is missing; if an array of indices holds one
            outside $0 \dots n-1$. A `tf.data.Dataset` is not read for that check: there, a sample with such an
            index has weight 0 and is not remembered.

    Cost: one forward-backward pass per step, and with `gradient_table` one more per sample of the batch, alone. A
    sort of the loss table; with a shift cost arrays of `num_samples` × `num_samples`, so a few thousand samples
    at most.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    x = np.random.default_rng(0).normal(size=(8, 3))
    y = x[:, :1]
    net = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, kernel_regularizer="l2")])
    model = kr.models.Prospect(net, num_samples=8, spectrum="extremile", parameter=2.0)
    model.compile(keras.optimizers.SGD(0.01), "mse")
    model.fill_tables(x, y)
    model.fit(x, kr.utils.with_index(y), batch_size=1, verbose=0)
    ```

    Reference: Mehta, Roulet, Pillutla and Harchaoui, *Distributionally Robust Optimization with Bias and
    Variance Reduction*, ICLR 2024, arXiv:2310.13863. Their code takes L2 penalties by a proximal step; batches
    of several samples, and the variant without gradients, are this package's own.
    """

    reads_columns = ("index",)

    def __init__(
        self,
        model: keras.Model,
        num_samples: int,
        spectrum: str = "cvar",
        parameter: float = 0.5,
        shift_cost: float = 1.0,
        penalty: str = "chi2",
        gradient_table: bool = True,
        **kwargs: Any,
    ):
        super().__init__(model, **kwargs)
        self.num_samples = check_integer("num_samples", num_samples, minimum=1)
        self.spectrum, self.parameter, self.shift_cost, self.penalty = check_spectrum(
            spectrum, parameter, shift_cost, penalty
        )
        self.gradient_table = bool(gradient_table)
        self.table_losses = self._table("table_losses")
        if self.gradient_table:
            if not model.built:
                raise ValueError(
                    "The table of gradients needs a built model, whose weights exist: give the model an "
                    f"`Input`, or use `gradient_table=False`. Received: {model.name!r}, which is not built"
                )
            width = sum(math.prod(v.shape) for v in model.trainable_variables)
            self.table_weights = self._table("table_weights")
            self.table_gradients = self._table("table_gradients", width)

    def _table(self, name, *width):
        return self.add_weight(
            shape=(self.num_samples, *width),
            initializer="zeros",
            dtype="float32",
            trainable=False,
            autocast=False,
            aggregation="only_first_replica",  # Every replica has the same.
            name=name,
        )

    def check_columns(self, columns):
        super().check_columns(columns)
        check_index(columns, self.num_samples, "Prospect")

    def objective(self, batch, forward):
        index, known = self._find(batch.columns)
        q = known * ops.take(self._weights_of_table(), index, axis=0)

        reweighted = batch.reweight(lambda outputs: self.num_samples * q)
        loss, values = super().objective(reweighted, forward)
        losses, weights = weighted_losses(batch, forward, forward.outputs)
        seen = {"index": index, "known": known, "q": q, "losses": weights * losses}
        return loss, {**values, self.key: {**seen, "weights": weights}}

    def gradients(self, objective, weights, batch):
        loss, aux, gradients = super().gradients(objective, weights, batch)
        if not self.gradient_table:
            return loss, aux, gradients
        seen = aux.values[self.key]
        own = ops.cast(seen["weights"], "float32")
        rows = own[:, None] * self._gradients_of_samples(objective, weights)
        old = self.table_weights.value[:, None] * self.table_gradients.value
        known_rows = seen["known"][:, None] * ops.take(old, seen["index"], axis=0)
        (known_mean,) = backend.reduce_mean_over_replicas([ops.mean(known_rows, axis=0)])
        correction = ops.sum(old, axis=0) - self.num_samples * known_mean
        aux = aux._replace(values={**aux.values, self.key: {**seen, "gradients": rows}})
        return loss, aux, [g + c for g, c in zip(gradients, _unflatten(correction, gradients))]

    def after_update(self, batch, aux, gradients):
        super().after_update(batch, aux, gradients)
        seen = aux.values[self.key]
        self._store(self.table_losses, seen, seen["losses"])
        if self.gradient_table:
            self._store(self.table_weights, seen, seen["q"])
            self._store(self.table_gradients, seen, seen["gradients"])

    def fill_tables(self, x: Any, y: Any, sample_weight: Any = None) -> None:
        """Fills the tables at the present weights, as the paper does before the first step.

        Args:
            x: Inputs of all samples.
            y: Labels in the order of the indices, or with a column `index`.
            sample_weight: Weights per sample, or `None`.

        Cost: a forward pass over the data, and with `gradient_table` one forward-backward pass per sample.
        """
        if not self.compiled:
            raise ValueError("`fill_tables` needs the loss: call `compile` first.")
        self.ensure_built()
        label, columns = self.split_columns(y)
        columns = {"index": np.arange(len(tree.flatten(x)[0])), **columns}
        self.check_columns(columns)
        x, label, columns = tree.map_structure(ops.convert_to_tensor, (x, label, columns))
        batch = Batch(x, label, sample_weight, columns)
        objective = Objective(self, batch, read_state(self))
        weights = read_values(self.trainable_variables)
        index, known = self._find(columns)
        seen = {"index": index, "known": known}
        with backend.no_recording():
            forward = objective.forward(weights)
            outputs = forward(self.training_inputs(batch), training=True)
            losses, own = weighted_losses(batch, forward, outputs)
            self._store(self.table_losses, seen, own * losses)
            if self.gradient_table:
                own = ops.cast(own, "float32")
                rows = own[:, None] * self._gradients_of_samples(objective, weights)
                self._store(self.table_gradients, seen, rows)
                self.table_weights.assign(self._weights_of_table())

    def _weights_of_table(self):
        return spectral_weights(
            self.table_losses.value, self.spectrum, self.parameter, self.shift_cost, self.penalty
        )

    def _find(self, columns):
        return find_rows(columns, self.num_samples, "Prospect")

    def _gradients_of_samples(self, objective, weights):
        """Gradient of the compiled loss of each sample of the batch, `(batch, weights)`."""
        sizes = sum(math.prod(w.shape) for w in weights)
        if sizes != self.table_gradients.shape[1]:
            raise ValueError(
                "The trainable variables must stay those the table of gradients was made for, "
                f"{self.table_gradients.shape[1]} numbers. Received {sizes}"
            )
        batch = objective.batch

        def of_one(sample):
            x, y = tree.map_structure(
                lambda t: ops.expand_dims(t, 0), tree.pack_sequence_as((batch.x, batch.y), sample)
            )
            one = batch.replace(x=x, y=y)

            def loss(weights):
                forward = objective.forward(weights)
                outputs = forward(objective.model.training_inputs(one), training=True)
                return ops.sum(forward.sample_losses(y, outputs))

            gradient = autodiff.grad(loss)(weights)
            return ops.concatenate([ops.cast(ops.reshape(g, (-1,)), "float32") for g in gradient])

        return ops.map(backend.in_branch(of_one), tree.flatten((batch.x, batch.y)))

    def _store(self, table, seen, rows):
        """Writes what was seen of the samples, on all replicas the same; repeated samples are averaged."""
        known, index = seen["known"], seen["index"]
        count = ops.segment_sum(known, index, num_segments=self.num_samples)
        known = ops.reshape(known, (-1,) + (1,) * (len(table.shape) - 1))
        rows = known * ops.cast(rows, "float32")
        total = ops.segment_sum(rows, index, num_segments=self.num_samples)
        count, total = backend.reduce_mean_over_replicas([count, total])
        count = ops.reshape(count, (-1,) + (1,) * (len(table.shape) - 1))
        table.assign(ops.where(count > 0, total / ops.where(count > 0, count, 1.0), table.value))


def _unflatten(vector, like):
    """Parts of a vector in the shapes and dtypes of a list of tensors."""
    parts, start = [], 0
    for tensor in like:
        size = math.prod(tensor.shape)
        part = ops.reshape(vector[start : start + size], tensor.shape)
        parts.append(ops.cast(part, tensor.dtype))
        start += size
    return parts
