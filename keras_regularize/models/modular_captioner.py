"""Captions of images by modules for parts of speech, between which a controller chooses."""

from typing import Any

import keras
import numpy as np
from keras import layers, ops, tree

from keras_regularize.autodiff import backend
from keras_regularize.autodiff.functional import read_values
from keras_regularize.configuration import Configured
from keras_regularize.layers import ModuleController
from keras_regularize.losses import PartOfSpeechLoss
from keras_regularize.models.step.standalone import OwnLoss, mean_loss
from keras_regularize.numerics import log_probabilities
from keras_regularize.registration import export
from keras_regularize.validation import check_integer, check_number, compatible

_MODULES = 4
_NEVER = -1e30  # A log-probability whose sums stay finite.


@export
class ModularCaptioner(Configured, OwnLoss):
    r"""Describes images word by word, with a module for each part of speech and a controller that weighs them.

    At step $t$ each of four modules attends to the regions of the image by projections of its own, and a
    `kr.layers.ModuleController` weighs what they found, for a decoder of two LSTMs:

    $$h_t = \mathrm{LSTM}_1(x_t), \qquad x_t = [g_{t-1}, \bar v, w_{t-1}], \qquad
      a_t^k = \sum_r \operatorname{softmax}_r\big(b_k^\top \tanh(U_k v_r^k + W_k h_t)\big)\, v_r^k,$$

    $$c_t = \operatorname{softmax}(\mathrm{controller}(x_1, \dots, x_t)), \qquad
      g_t = \mathrm{LSTM}_2\big([c_t^0 a_t^0, \dots, c_t^3 a_t^3, h_t]\big), \qquad
      \text{next word} \sim \operatorname{softmax}(C g_t),$$

    with the features $v_r^k$ of region $r$ for module $k$, an image vector $\bar v$ of their means and the
    embedding $w_{t-1}$ of the word before. It minimizes the mean cross-entropy of the words and of the end, plus
    `syntax_weight` times `kr.losses.PartOfSpeechLoss` of the controller at the words, the latter in the first
    `syntax_epochs` epochs alone: it shows the controller which module a word belongs to. `fit` counts the epochs,
    with `initial_epoch` too, and a saved model remembers the last one. `evaluate` measures the captions alone, so
    that its loss does not jump.

    `fit({"features": …, "tokens": …}, part_of_speech)` with a class of each word, `(batch, time)`: 0 for function
    words, 1 for nouns, 2 for verbs, 3 for adjectives, -1 for words that shall not count; those of padding do not.
    With `syntax_weight=0`, and in `evaluate`, it may be left out. Sample weights `(batch,)` are those of captions.
    Compiled metrics are given the parts of speech.

    Args:
        vocabulary_size: Number of token ids, at least 2. Id 0 begins, ends and pads captions.
        units: Size of states, modules and embeddings, divisible by `num_heads`.
        num_heads: Heads of the controller, at least 1.
        syntax_weight: Factor of the syntax loss, at least 0.
        syntax_epochs: Number of epochs with the syntax loss, at least 0.
        **kwargs: `name` and other arguments of `keras.Model`.

    Input: a dictionary of `"features"`, `(batch, regions, features)`, such as those of a detector, and captions
    `"tokens"`, ids `(batch, time)` padded by 0. On TensorFlow `time` must be known, or the model compiled with
    `jit_compile=False`.

    Output: a dictionary of logits, `"tokens"` `(batch, time + 1, vocabulary_size)` for each word in view of those
    before it and for the end of the longest captions, and `"part_of_speech"` `(batch, time, 4)`.

    Raises:
        ValueError: If an argument is out of range, inputs or labels have other shapes, or the parts of speech are
            missing. An id that is no token or module raises where values can be read, and gives NaN elsewhere.

    Cost: per step two LSTM cells, four attentions over the regions and one over the steps before, step by step.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    rng = np.random.default_rng(0)
    images = rng.normal(size=(8, 3, 5)).astype("float32")  # Three regions each.
    captions = rng.integers(1, 9, (8, 4))
    model = kr.models.ModularCaptioner(vocabulary_size=9, units=8, num_heads=2)
    model.compile(keras.optimizers.Adam(0.01))
    model.fit({"features": images, "tokens": captions}, captions % 4, verbose=0)
    model.generate(images, max_length=4, beam_size=2)  # Ids (8, 4).
    ```

    Reference: Xu Yang, Hanwang Zhang, Chongyang Gao and Jianfei Cai, *Learning to Collocate Visual-Linguistic
    Neural Modules for Image Captioning*, IJCV 2022, arXiv:2210.01338. More compact than the authors' network, of
    whose code the model was read: there the module of function words sees the language state in place of the
    regions, each other module has a detector's features of its own, those of relations after self-attention, a
    memory adds to the decoder, and rewards train on after the cross-entropy.
    """

    def __init__(
        self,
        vocabulary_size: int,
        units: int,
        num_heads: int = 8,
        syntax_weight: float = 0.1,
        syntax_epochs: int = 10,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.autocast = False  # Ids stay exact.
        self.vocabulary_size = check_integer("vocabulary_size", vocabulary_size, minimum=2)
        self.units = check_integer("units", units, minimum=1)
        self.num_heads = check_integer("num_heads", num_heads, minimum=1)
        self.syntax_weight = check_number("syntax_weight", syntax_weight, minimum=0)
        self.syntax_epochs = check_integer("syntax_epochs", syntax_epochs, minimum=0)
        options = {"dtype": self.dtype_policy}
        side = _MODULES * units
        self.controller = ModuleController(units, _MODULES, num_heads, name="controller", **options)
        self._embedding = layers.Embedding(vocabulary_size, units, **options)
        self._regions = layers.Dense(side, activation="relu", **options)
        self._image = layers.Dense(units, activation="relu", **options)
        self._keys = layers.EinsumDense(
            "brku,kuh->brkh", (None, _MODULES, units), bias_axes="kh", **options
        )
        self._query = layers.Dense(side, use_bias=False, **options)
        self._scores = layers.EinsumDense("brkh,kh->brk", (None, _MODULES), **options)
        self._first, self._second = (layers.LSTMCell(units, **options) for _ in range(2))
        self._words = layers.Dense(vocabulary_size, **options)
        self._cross_entropy = PartOfSpeechLoss(ignore_index=-1)
        self._programs: dict[tuple[int, int], Any] = {}
        self.epoch = self.add_weight(
            shape=(),
            initializer="zeros",
            trainable=False,
            dtype="float32",
            autocast=False,
            aggregation="only_first_replica",
            name="epoch",
        )

    def build(self, input_shape: Any) -> None:
        if not isinstance(input_shape, dict) or not {"features", "tokens"} <= set(input_shape):
            raise ValueError(
                'Expected inputs {"features": …, "tokens": …}. '
                f"Received: inputs of the shapes {input_shape}"
            )
        features, tokens = (tuple(input_shape[name]) for name in ("features", "tokens"))
        if len(features) != 3 or features[-1] is None or len(tokens) != 2:
            raise ValueError(
                'Expected "features" (batch, regions, features), of a known number, and "tokens" (batch, time). '
                f"Received: shapes {features} and {tokens}"
            )
        units, regions = self.units, (None, features[1], _MODULES, self.units)
        self._embedding.build((None,))
        self._regions.build(features)
        self._image.build((None, _MODULES * units))
        self._keys.build(regions)
        self._query.build((None, units))
        self._scores.build(regions)
        self._first.build((None, 3 * units))
        self._second.build((None, (_MODULES + 1) * units))
        self.controller.build((None, None, 3 * units))
        self._words.build((None, units))

    def call(self, inputs: Any) -> dict[str, Any]:
        tokens, outside = self._ids(inputs["tokens"])
        batch, time = ops.shape(tokens)
        image, state = self._begin(inputs["features"], time + 1)

        def step(carry, ids):
            _, state, t = carry
            state, choice = self._step(ids[0], t, state, image)
            output = ops.concatenate([state[2], choice], axis=-1)
            return (output, state, t + 1), output

        nothing = ops.zeros((batch, self.units + _MODULES), state[0].dtype)
        given = ops.transpose(ops.pad(tokens, ((0, 0), (1, 0))))
        start = (nothing, state, ops.zeros((), "int32"))
        outputs = ops.moveaxis(backend.scan_with_gradient(step, start, (given,)), 0, 1)
        # TensorFlow forgets sizes in a loop of unknown length, and in a slice up to a tensor.
        outputs = ops.reshape(outputs, (batch, time + 1, self.units + _MODULES))
        if outside is not None:
            outputs = ops.where(ops.any(outside, axis=1)[:, None, None], np.nan, outputs)
        return {
            "tokens": self._words(outputs[:, :, : self.units]),
            "part_of_speech": outputs[:, :-1, self.units :],
        }

    def compute_output_shape(self, input_shape: Any) -> dict[str, Any]:
        batch, time = input_shape["tokens"]
        return {
            "tokens": (batch, time and time + 1, self.vocabulary_size),
            "part_of_speech": (batch, time, _MODULES),
        }

    def generate(self, features: Any, max_length: int, beam_size: int = 1) -> np.ndarray:
        """Describes images, by the best word each time or by beam search.

        Args:
            features: Features of regions, `(batch, regions, features)`.
            max_length: Most words of a caption, at least 1.
            beam_size: Number of beginnings that are kept at each step, at least 1: with 1, the search is greedy.
                Of the captions left at last, that of the largest total log-probability is taken.

        Returns:
            Token ids, an array `(batch, max_length)`, with 0 after the end.
        """
        check_integer("max_length", max_length, minimum=1)
        check_integer("beam_size", beam_size, minimum=1)
        features = ops.convert_to_tensor(features)
        if len(features.shape) != 3:
            raise ValueError(
                f"Expected features (batch, regions, features). Received: shape {tuple(features.shape)}"
            )
        if not self.built:
            raise ValueError("`generate` needs a built model: fit it, or call it on data, first.")
        key = (max_length, beam_size)
        if key not in self._programs:

            def run(values, features):
                with keras.StatelessScope(state_mapping=list(zip(self.variables, values))):
                    return self._search(features, *key)

            self._programs[key] = backend.compiled(run)
        found = self._programs[key](read_values(self.variables), features)
        return np.asarray(ops.convert_to_numpy(found))

    def _ids(self, tokens):
        """Tokens as ids, and which are none of the vocabulary; `None` where that could be looked at."""
        known = backend.peek(tokens)
        if known is None:
            ids = ops.cast(tokens, "int32")
            outside = ops.logical_or(ids < 0, ids >= self.vocabulary_size)
            outside = ops.logical_or(outside, ops.not_equal(ops.cast(ids, tokens.dtype), tokens))
            return ops.where(outside, 0, ids), outside
        known = np.asarray(known, "float64")
        wrong = np.unique(known[(known < 0) | (known >= self.vocabulary_size) | (known % 1 != 0)])
        if wrong.size:
            raise ValueError(
                f"Expected token ids from 0 to {self.vocabulary_size - 1}. Received: {wrong[:5]}"
            )
        return ops.cast(tokens, "int32"), None

    def _begin(self, features, steps):
        """What stays of an image, and the state before so many steps."""
        shape = ops.shape(features)
        features = ops.cast(features, self.compute_dtype)
        regions = ops.reshape(self._regions(features), (*shape[:2], _MODULES, self.units))
        means = ops.reshape(ops.mean(regions, axis=1), (shape[0], _MODULES * self.units))
        zeros = ops.zeros((shape[0], self.units), regions.dtype)
        history = ops.zeros((shape[0], steps, self.units), regions.dtype)
        return (regions, self._keys(regions), self._image(means)), (zeros,) * 4 + (history,)

    def _step(self, ids, t, state, image):
        """The state after step `t`, in view of the word before it, and the logits of the modules."""
        regions, keys, whole = image
        h, h_memory, g, g_memory, history = state
        x = ops.concatenate([g, whole, ops.relu(self._embedding(ids))], axis=-1)
        _, (h, h_memory) = self._first(x, [h, h_memory])
        query = ops.reshape(self._query(h), (-1, 1, _MODULES, self.units))
        attention = ops.softmax(self._scores(ops.tanh(keys + query)), axis=1)
        found = ops.einsum("brk,brku->bku", attention, regions)
        places = ops.arange(ops.shape(history)[1], dtype="int32")
        choice, combination = self.controller.step(x, history, places <= t)
        history = ops.where((places == t + 1)[None, :, None], combination[:, None], history)
        found = ops.reshape(
            ops.softmax(choice, axis=-1)[:, :, None] * found, (-1, _MODULES * self.units)
        )
        _, (g, g_memory) = self._second(ops.concatenate([found, h], axis=-1), [g, g_memory])
        return (h, h_memory, g, g_memory, history), choice

    def _search(self, features, length, beams):
        """The best captions `(batch, length)` that a beam search finds, all images at once."""
        batch, words = ops.shape(features)[0], self.vocabulary_size
        image, state = self._begin(ops.repeat(features, beams, axis=0), length)
        dtype = "float64" if self.compute_dtype == "float64" else "float32"
        # All beams begin alike, so but one of them counts. The first token is that of the begin.
        alone = ops.where(ops.arange(beams) == 0, 0.0, _NEVER)
        totals = ops.zeros((batch, beams), dtype) + ops.cast(alone, dtype)
        tokens = ops.zeros((batch, beams, length + 1), "int32")
        places = ops.arange(length + 1, dtype="int32")
        first = ops.arange(batch, dtype="int32")[:, None] * beams
        stay = ops.cast(ops.where(ops.arange(words) == 0, 0.0, _NEVER), dtype)

        def body(t, carry):
            tokens, totals, state = carry
            last = ops.take(tokens, t, axis=2)
            state, _ = self._step(ops.reshape(last, (-1,)), t, state, image)
            scores = log_probabilities(self._words(state[2]), from_logits=True)
            ended = ops.logical_and(last == 0, t > 0)[:, :, None]
            scores = ops.where(ended, stay, ops.reshape(scores, (batch, beams, words)))
            joint = ops.reshape(totals[:, :, None] + scores, (batch, beams * words))
            totals, best = ops.top_k(joint, beams)
            best = ops.cast(best, "int32")
            rows = first + best // words
            tokens = ops.take(ops.reshape(tokens, (-1, length + 1)), rows, axis=0)
            tokens = ops.where(places == t + 1, (best % words)[:, :, None], tokens)
            rows = ops.reshape(rows, (-1,))
            return tokens, totals, tree.map_structure(lambda s: ops.take(s, rows, axis=0), state)

        tokens, _, _ = ops.fori_loop(0, length, body, (tokens, totals, state))
        return tokens[:, 0, 1:]  # Sorted by `top_k`.

    # Training

    def fit(self, *args: Any, **kwargs: Any) -> keras.callbacks.History:
        """As `keras.Model.fit`, see above, without `class_weight`."""
        # Keras would take a line for scores of one class.
        if kwargs.get("class_weight") is not None:
            raise ValueError("`ModularCaptioner` takes no `class_weight`: captions have no class.")
        return super().fit(*args, **kwargs)

    def training_callbacks(self) -> list[keras.callbacks.Callback]:
        """The callback that tells the model the epoch."""
        begins = keras.callbacks.LambdaCallback(
            on_epoch_begin=lambda epoch, logs: self.epoch.assign(epoch)
        )
        return [begins]

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        if sample_weight is not None and len(sample_weight.shape) != 1:
            raise ValueError(
                "Expected sample weights of captions, (batch,). "
                f"Received: shape {tuple(sample_weight.shape)}"
            )
        tokens = ops.cast(x["tokens"], "int32")
        words = ops.cumprod(ops.cast(tokens != 0, "int32"), axis=1)
        # The end is a word, too.
        shown = ops.pad(words, ((0, 0), (1, 0)), constant_values=1)
        target = ops.where(shown > 0, ops.pad(tokens, ((0, 0), (0, 1))), -1)
        loss = mean_loss(self._cross_entropy, target, y_pred["tokens"], sample_weight)
        if training and self.syntax_weight and self.syntax_epochs:
            classes = self._part_of_speech(y, tokens)
            classes = ops.where(words > 0, classes, ops.full_like(words, -1))  # uint8 has no -1.
            syntax = mean_loss(
                self._cross_entropy, classes, y_pred["part_of_speech"], sample_weight
            )
            on = ops.convert_to_tensor(self.epoch) < self.syntax_epochs
            loss = loss + ops.where(on, self.syntax_weight * syntax, ops.zeros_like(syntax))
        return self.with_penalties(loss)

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        return super().compute_metrics(x, y, y_pred["part_of_speech"], sample_weight)

    def _part_of_speech(self, y, tokens):
        shape = getattr(y, "shape", None)
        if shape is None or len(shape) != 2 or not compatible(shape, tokens.shape):
            received = "None" if y is None else f"{type(y).__name__} of shape {shape}"
            raise ValueError(
                "Expected a part of speech of each word, (batch, time), as labels `y`, or `syntax_weight=0`. "
                f"Received: {received}, with tokens of shape {tuple(tokens.shape)}"
            )
        return ops.convert_to_tensor(y)
