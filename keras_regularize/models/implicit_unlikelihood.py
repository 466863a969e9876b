"""Training of language models on their own continuations, so that they repeat themselves less."""

from typing import Any

import keras
from keras import ops

from keras_regularize.autodiff import backend
from keras_regularize.autodiff.compiled_losses import masked_sample_mean, per_sample
from keras_regularize.labels import pick
from keras_regularize.losses.text.implicit_unlikelihood import implicit_unlikelihood_loss
from keras_regularize.losses.text.sequence_unlikelihood import SequenceUnlikelihood
from keras_regularize.models.continuation import continued, inputs_of, tokens_of
from keras_regularize.models.regularized_model import RegularizedModel
from keras_regularize.numerics import mean
from keras_regularize.registration import export
from keras_regularize.scores import class_log_probabilities, gives_logits
from keras_regularize.validation import check_integer, check_number


@export
class ImplicitUnlikelihood(RegularizedModel):
    r"""Trains a language model on what it says itself, too, so that it no longer repeats itself.

    Each step is one of three, drawn at random:

    - with probability `policy_rate` a policy step: the model continues a prefix of each text greedily, and
      continuations whose n-grams are more different than those of the others are made more likely,
      `kr.generative.implicit_unlikelihood_loss`;
    - with probability `unlikelihood_rate` a sequence-unlikelihood step: of such continuations the repeats are made
      less likely, `kr.losses.SequenceUnlikelihood`;
    - else one of the compiled loss, the next tokens of the data: cross-entropy, or `kr.losses.TokenUnlikelihood`.

    It is meant for fine-tuning: a model that cannot yet predict text says nothing worth a reward. Weight and
    activity penalties act in each step. The logged loss is that of whichever step it was, so watch
    `kr.metrics.Perplexity`, and measure repeats by `kr.metrics.SequenceRepetition` of
    `kr.generative.greedy_continuation`.

    Gradients of the three differ in size; the authors clip them (`global_clipnorm=1.0` of the optimizer). Samples
    of weight 0 are in no mean. On several replicas the mean reward is that of a replica's batch.

    Args:
        model: The causal language model to train, from token ids `(batch, time)`, for any number of them, to
            scores `(batch, time, vocabulary)`; or another wrapper. The dictionaries of KerasHub's backbones,
            `"token_ids"` and `"padding_mask"`, are inputs too.
        prefix_length: Number of first tokens of a text that are continued, at least 1; texts must have as many, of
            which none is padding.
        continuation_length: Number of tokens to add, at least 1.
        ngram: Length of the runs that shall not repeat, at least 1.
        policy_rate: Share of policy steps, 0 to 1.
        unlikelihood_rate: Share of sequence-unlikelihood steps, 0 to 1; both together at most 1.
        coefficient: Weight $\lambda > 0$ of the policy step.
        seed: Integer seed of the draws, or None.
        from_logits: Whether the model gives out logits; `None` asks the compiled loss, or without one the
            last layer.
        **kwargs: `name` and other arguments of `keras.Model`.

    Raises:
        ValueError: If an argument is out of range, inputs are no token ids, or texts are shorter than the prefix.

    Cost: one forward-backward pass, and in policy and unlikelihood steps another one and `continuation_length`
    forward passes, on prefix and continuation: there is no cache of what was computed before.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    layers = [keras.layers.Embedding(6, 8), keras.layers.GRU(8, return_sequences=True), keras.layers.Dense(6)]
    net = keras.Sequential([keras.Input((None,), dtype="int32"), *layers])
    model = kr.models.ImplicitUnlikelihood(net, prefix_length=4, continuation_length=8, ngram=2)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-3, global_clipnorm=1.0), loss)
    text = np.random.default_rng(0).integers(0, 6, (16, 13))
    model.fit(text[:, :-1], text[:, 1:], verbose=0)
    ```

    Reference: Evgeny Lagutin, Daniil Gavrilov and Pavel Kalaidin, *Implicit Unlikelihood Training: Improving
    Neural Text Generation with Reinforcement Learning*, EACL 2021, arXiv:2101.04229. Differs from the authors'
    code in continuing one prefix of each text, where they cut it into as many as it has.
    """

    def __init__(
        self,
        model: keras.Model,
        prefix_length: int = 50,
        continuation_length: int = 100,
        ngram: int = 4,
        policy_rate: float = 0.25,
        unlikelihood_rate: float = 0.25,
        coefficient: float = 3.0,
        seed: int | None = None,
        from_logits: bool | None = None,
        **kwargs: Any,
    ):
        super().__init__(model, **kwargs)
        self.prefix_length = check_integer("prefix_length", prefix_length, minimum=1)
        self.continuation_length = check_integer(
            "continuation_length", continuation_length, minimum=1
        )
        self.ngram = check_integer("ngram", ngram, minimum=1)
        self.policy_rate = check_number("policy_rate", policy_rate, minimum=0, maximum=1)
        self.unlikelihood_rate = check_number(
            "unlikelihood_rate", unlikelihood_rate, minimum=0, maximum=1
        )
        if self.policy_rate + self.unlikelihood_rate > 1:
            raise ValueError(
                "`policy_rate` and `unlikelihood_rate` must be at most 1 together. "
                f"Received: policy_rate={policy_rate}, unlikelihood_rate={unlikelihood_rate}"
            )
        self.coefficient = check_number("coefficient", coefficient, above=0)
        self.seed = check_integer("seed", seed, optional=True)
        self.from_logits = None if from_logits is None else bool(from_logits)
        self.seed_generator = keras.random.SeedGenerator(seed)
        self._unlikelihood = SequenceUnlikelihood(ngram)

    def check_loss(self, model):
        super().check_loss(model)
        gives_logits(model)

    def check_data(self, x, y):
        super().check_data(x, y)
        tokens = tokens_of(x)
        if tokens.shape[1] is not None and tokens.shape[1] < self.prefix_length:
            raise ValueError(
                f"Texts must have at least `prefix_length` tokens, {self.prefix_length}. "
                f"Received: x.shape={tuple(tokens.shape)}"
            )

    def prepare(self, batch, forward):
        batch = super().prepare(batch, forward)
        draw = keras.random.uniform((), seed=self.seed_generator)
        policy = draw < self.policy_rate
        generates = draw < self.policy_rate + self.unlikelihood_rate
        prefix = tokens_of(batch.x)[:, : self.prefix_length]

        def predict(tokens):
            return forward(inputs_of(batch.x, tokens), training=False)

        tokens = ops.cond(
            generates,
            backend.in_branch(lambda: continued(predict, prefix, self.continuation_length)),
            lambda: ops.pad(prefix, ((0, 0), (0, self.continuation_length))),
        )
        return batch.add(**{self.key: (policy, generates, tokens)})

    def objective(self, batch, forward):
        policy, generates, tokens = batch.extra[self.key]
        weight = batch.loss_weight * (1.0 - ops.cast(generates, "float32"))
        loss, values = super().objective(batch.replace(loss_weight=weight), forward)

        def own():
            return ops.cast(self._of_continuations(batch, forward, policy, tokens), loss.dtype)

        none = ops.zeros((), loss.dtype)
        added = ops.cond(generates, backend.in_branch(own), lambda: none)
        return loss + ops.cast(batch.loss_weight, loss.dtype) * added, values

    def _of_continuations(self, batch, forward, policy, tokens):
        outputs = forward(inputs_of(batch.x, tokens[:, :-1]), training=True)
        scores = class_log_probabilities(outputs, gives_logits(forward))[
            :, self.prefix_length - 1 :
        ]
        ids = ops.cast(tokens[:, self.prefix_length :], "int32")
        weights, counted = batch.sample_weight, None
        if weights is not None:
            weights = per_sample(ops.convert_to_tensor(weights))
            counted = weights != 0
        implicit = implicit_unlikelihood_loss(
            pick(scores, ids), ids, self.ngram, self.coefficient, counted
        )
        repeats = mean(self._unlikelihood.call(ids, scores), axis=-1)
        return masked_sample_mean(ops.where(policy, implicit, repeats), None, weights)
