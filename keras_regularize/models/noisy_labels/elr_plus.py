"""ELR+: early-learning regularization with two networks, averaged weights and mixed samples."""

from typing import Any

import keras
from keras import ops, tree

from keras_regularize.autodiff import Forward, backend
from keras_regularize.autodiff.functional import read_values, without_samples
from keras_regularize.losses import early_learning_penalty
from keras_regularize.models._index import check_index, find_rows
from keras_regularize.models._slots import Slots
from keras_regularize.models.noisy_labels._memory import (
    add_memory,
    memory_scores,
    remember,
)
from keras_regularize.models.noisy_labels._two_networks import (
    TwoNetworks,
    labels_and_weights,
    outputs_of_both,
)
from keras_regularize.models.step.data import is_floating
from keras_regularize.numerics import mean, upcast
from keras_regularize.registration import export
from keras_regularize.scores import gives_logits
from keras_regularize.validation import check_integer, check_number


@export
class ELRPlus(TwoNetworks):
    r"""`ELR` with two networks, each held to what the weight average of the other predicted for a sample.

    A network that remembers its own predictions confirms its own errors. Here the memory $t_i$ of each network is
    an average over time of the predictions $\bar p_i$ of the **other** one, at a moving average $\bar w$ of its
    weights, which errs less:

    $$t_i \leftarrow \beta\, t_i + (1 - \beta)\, \bar p_i, \qquad
    \bar w \leftarrow \gamma_s \bar w + (1 - \gamma_s)\, w, \qquad
    \gamma_s = \gamma\, e^{-5 (1 - \min(s / S, 1))^2}$$

    after $s$ steps. Both are trained on a mixture of the batch with itself in another order $\pi$, which makes
    labels harder to memorize,
    $\tilde x_i = \mu x_i + (1 - \mu) x_{\pi(i)}$, labels and memories being mixed alike:

    $$\frac1{|B|} \sum_{i \in B} \mu\, \ell(y_i, \tilde p_i) + (1 - \mu)\, \ell(y_{\pi(i)}, \tilde p_i)
    + \lambda \log\big(1 - \langle \mu t_i + (1 - \mu) t_{\pi(i)}, \tilde p_i \rangle\big),
    \qquad \mu \sim \mathcal U(\tfrac12, 1),$$

    in the sum over both networks, $\ell$ being the compiled loss. The model predicts the mean of both outputs, at
    the weights themselves; metrics in training see that of the mixtures.

    Samples are told apart by the column `index` of `y`, as in `ELR`: use `kr.utils.with_index(y)`. `evaluate` and
    `predict` need none. Sample weights multiply the losses, not the term; unlabelled rows have a term alone.

    The more labels are wrong, the larger `factor` may be; the authors let it rise over the first epochs where it
    is large, which a schedule does. **Shorten $S$** where training has fewer steps: half way to it $\gamma_s$ is
    only $0.29\, \gamma$, and what is averaged is hardly more than one step.

    Gradient rules and added terms go around it: `SAM(ELRPlus(a, b, …))`, `VAT(ELRPlus(a, b, …))`. Several devices
    share one memory, each mixes its share of the batch.

    Args:
        model_a: The first classifier, with one output `(batch, num_classes)`, or `(batch, 1)` for two classes.
        model_b: The second one, of the same inputs and outputs and with other initial weights; often of the same
            architecture.
        num_samples: Number of training samples.
        num_classes: Number of classes.
        momentum: $0 \le \beta < 1$ of the memory.
        factor: Weight $\lambda \ge 0$ of the term; or a schedule.
        ema_momentum: $0 \le \gamma \le 1$ of the average of the weights.
        ema_warmup_steps: $S \ge 1$, the steps in which it rises; 1 for none.
        from_logits: Whether the networks give out logits; `None` asks the compiled loss.
        seed: Integer seed of the mixing, or None.
        **kwargs: `name` and other arguments of `keras.Model`.

    Attributes:
        model: The first network.
        model_b: The second one.
        memory: The variable `(num_samples, 2, num_classes)` of what each network is held to; saved with the model.
            The largest entries are the labels that the networks would give each other.
        averages: The averages of the weights; saved with the model.

    Raises:
        ValueError: If an argument is out of range; if a model is not a `keras.Model`, both are the same, or one is
            a wrapper, which belongs around; if the outputs are not of `num_classes`; if inputs are integers, which
            cannot be mixed; if `fit` gets no labels or the column `index` is missing or holds one outside
            `0 … num_samples - 1`. A `tf.data.Dataset` is not read for that check: there, a sample with such an
            index counts as one that was never seen.

    Cost: one forward-backward pass and one more forward pass of each network per step; beside the averages of the
    weights, two numbers of memory per sample and class.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr


    def network():
        return keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])


    model = kr.models.ELRPlus(network(), network(), num_samples=8, num_classes=3, ema_warmup_steps=100)
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(np.random.default_rng(0).random((8, 4)), kr.utils.with_index(np.arange(8) % 3), verbose=0)
    ```

    Reference: Sheng Liu, Jonathan Niles-Weed, Narges Razavian and Carlos Fernandez-Granda, *Early-Learning
    Regularization Prevents Memorization of Noisy Labels*, NeurIPS 2020, arXiv:2007.00151. Their code trains the
    two networks in turn, an epoch each, with optimizers and mixtures of their own; here a step trains both, on one
    mixture. As there, the averaged networks run in training mode, with the statistics of the batch; what their
    code does to the labels of CIFAR-100 besides is left out.
    """

    reads_columns = ("index",)

    def __init__(
        self,
        model_a: keras.Model,
        model_b: keras.Model,
        num_samples: int,
        num_classes: int,
        momentum: float = 0.7,
        factor: Any = 3.0,
        ema_momentum: float = 0.997,
        ema_warmup_steps: int = 40000,
        from_logits: bool | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(model_a, model_b, **kwargs)
        self.num_samples = check_integer("num_samples", num_samples, minimum=1)
        self.num_classes = check_integer("num_classes", num_classes, minimum=2)
        self.momentum = check_number("momentum", momentum, minimum=0, below=1)
        self.factor = check_number("factor", factor, minimum=0, schedule=True)
        self.ema_momentum = check_number("ema_momentum", ema_momentum, minimum=0, maximum=1)
        self.ema_warmup_steps = check_integer("ema_warmup_steps", ema_warmup_steps, minimum=1)
        self.from_logits = None if from_logits is None else bool(from_logits)
        self.seed = check_integer("seed", seed, optional=True)
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.memory = add_memory(self, self.num_samples, 2, self.num_classes)
        self.averages = Slots(self, "averages")

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        outputs = super().call(inputs, training, mask)
        if not self.averages.made:  # Now the weights exist.
            self.averages.extend()
        return outputs

    def compile(self, *args, **kwargs):
        super().compile(*args, **kwargs)
        self._extend_averages()

    def _extend_averages(self):
        if self.averages.made:
            self.averages.extend()

    def check_data(self, x, y):
        super().check_data(x, y)
        dtypes = [
            str(leaf.dtype)
            for leaf in tree.flatten(x)
            if leaf is not None and not is_floating(leaf)
        ]
        if dtypes:
            raise ValueError(
                "`ELRPlus` mixes inputs, which must be floating: convert images by "
                f'`x.astype("float32")`. Received dtypes {dtypes}'
            )
        self._extend_averages()

    def check_loss(self, model):
        super().check_loss(model)
        gives_logits(model)

    def check_columns(self, columns):
        super().check_columns(columns)
        check_index(columns, self.num_samples, "ELRPlus")

    def prepare(self, batch, forward):
        batch = super().prepare(batch, forward)
        index, known = find_rows(batch.columns, self.num_samples, "ELRPlus")
        averages = self._moved_averages(batch)
        with outputs_of_both() as seen:
            Forward(forward.model, averages)(batch.x, training=True)
        from_logits = gives_logits(forward)
        scores = [memory_scores(self, outputs, from_logits) for outputs in seen[0]]
        p = [ops.softmax(ops.cast(z, "float32")) for z in scores]
        rows = backend.read_rows(self.memory, index)
        rows = self.momentum * rows + (1.0 - self.momentum) * ops.stack(p[::-1], axis=1)
        found = {
            "index": index,
            "known": known,
            "rows": rows,
            "averages": averages,
            "share": keras.random.uniform((), 0.5, 1.0, seed=self.seed_generator),
            "partners": keras.random.shuffle(
                ops.arange(ops.shape(index)[0]), seed=self.seed_generator
            ),
        }
        return batch.add(**{self.key: found})

    def objective(self, batch, forward):
        found = batch.extra[self.key]
        share, partners = found["share"], found["partners"]

        def mixed(own, other):
            own = ops.convert_to_tensor(own)
            return ops.cast(share, own.dtype) * own + ops.cast(1.0 - share, own.dtype) * other

        def of_partners(t):
            return ops.take(t, partners, axis=0)

        x = tree.map_structure(lambda t: None if t is None else mixed(t, of_partners(t)), batch.x)
        with outputs_of_both() as seen:
            loss, values = super().objective(without_samples(batch.replace(x=x)), forward)
        y, weights = labels_and_weights(batch, forward, forward.outputs, rescale=True)
        y_of_partners, weights_of_partners = tree.map_structure(of_partners, (y, weights))
        memories = found["known"][:, None, None] * found["rows"]
        memories = mixed(memories, of_partners(memories))
        from_logits = gives_logits(forward)
        factor = self.scheduled(self.factor, batch)
        for i, outputs in enumerate(seen[0]):
            own = upcast(forward.sample_losses(y, outputs))
            other = upcast(forward.sample_losses(y_of_partners, outputs))
            own, other = (
                ops.cast(w, losses.dtype) * losses
                for w, losses in ((weights, own), (weights_of_partners, other))
            )
            scores = memory_scores(self, outputs, from_logits)
            penalty = factor * early_learning_penalty(memories[:, i], scores)
            term = mixed(own, other) + ops.cast(penalty, own.dtype)
            loss = loss + ops.cast(mean(term), loss.dtype)
        return loss, values

    def after_update(self, batch, aux, gradients):
        super().after_update(batch, aux, gradients)
        found = batch.extra[self.key]
        self.averages.assign(batch.variables, found["averages"])
        remember(self.memory, found["index"], found["known"], found["rows"])

    def _moved_averages(self, batch):
        """Averages of the weights with those that the last step led to; at the first step these."""
        step = ops.cast(batch.step, "float32")
        left = 1.0 - ops.minimum(step / self.ema_warmup_steps, 1.0)
        keep = ops.where(step > 0, self.ema_momentum * ops.exp(-5.0 * left * left), 0.0)
        averages = self.averages.read(batch.variables)
        return [
            ops.cast(a + ops.cast(1.0 - keep, a.dtype) * (ops.cast(w, a.dtype) - a), w.dtype)
            for a, w in zip(averages, read_values(batch.variables))
        ]
