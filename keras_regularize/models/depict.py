"""Deep clustering with an autoencoder, from pixels to clusters in three phases."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_regularize.configuration import Configured
from keras_regularize.losses import cluster_target_distribution
from keras_regularize.numerics import mean
from keras_regularize.registration import export
from keras_regularize.validation import check_integer, check_number


@export
class DEPICT(Configured, keras.Model):
    r"""Clusters data by a network that learns features and clusters together.

    Encoder $E$, decoder $D$ and softmax clusters $p = \operatorname{softmax}(\Theta E(x))$ minimize

    $$\lambda\, \frac1n \sum_{ik} -q_{ik} \log \tilde p_{ik}
      + \rho\, \Big( \mathrm{mse}(D(\tilde E(x)), x) + \beta \sum_l \mathrm{mse}(\tilde d_l, h_l) \Big),$$

    where the tilde is the noisy path, with the dropout of encoder and decoder, $q$ targets made of the clean $p$
    of all data by `kr.losses.cluster_target_distribution`, and the last sum compares hidden outputs of the decoder
    with the clean ones of the encoder that they mirror. `fit_clusters` runs the three phases:

    1. the autoencoder alone, until its loss on held-out data stands still;
    2. k-means of the codes: its unit centres are the first $\Theta$, its clusters labels, trained on until the
       predicted clusters no longer come closer to them;
    3. clusters from their own targets, which are renewed after each epoch, until they stand still.

    `model(x)` and `predict` give the cluster probabilities.

    Args:
        encoder: A built functional or sequential model with codes `(batch, dim)`; with dropout, its noise.
        decoder: A built model from codes to inputs.
        num_clusters: Number of clusters, at least 2.
        clustering_factor: $\lambda \ge 0$.
        reconstruction_factor: $\rho \ge 0$.
        hidden_factor: $\beta \ge 0$. If above 0, the layers with weights of the decoder must mirror those of the
            encoder, shape by shape.
        power: Of the targets, above 0: 2 as in the authors' code, 1 as in the paper.
        **kwargs: `name` and other arguments of `keras.Model`.

    Raises:
        ValueError: If an argument is out of range, or encoder and decoder do not fit.

    Cost: two passes of the encoder and one of the decoder per step, and one `predict` per epoch of the last phase.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    layers = keras.layers
    encoder = keras.Sequential(
        [keras.Input((8,)), layers.Dropout(0.1), layers.Dense(16, "leaky_relu"), layers.Dense(2, "tanh")]
    )
    decoder = keras.Sequential([keras.Input((2,)), layers.Dense(16, "leaky_relu"), layers.Dense(8)])
    model = kr.models.DEPICT(encoder, decoder, num_clusters=3)
    model.compile(keras.optimizers.Adam(1e-3))
    x = np.random.normal(size=(64, 8)) + 4 * np.eye(8)[np.arange(64) % 3]
    model.fit_clusters(x, epochs=(2, 2, 2), verbose=0)
    clusters = model.predict(x, verbose=0).argmax(axis=-1)
    ```

    Reference: Kamran Ghasedi Dizaji, Amirhossein Herandi, Cheng Deng, Weidong Cai and Heng Huang, *Deep Clustering
    via Joint Convolutional Autoencoder Embedding and Relative Entropy Minimization*, ICCV 2017, arXiv:1704.06327.
    """

    def __init__(
        self,
        encoder: keras.Model,
        decoder: keras.Model,
        num_clusters: int,
        clustering_factor: float = 1.0,
        reconstruction_factor: float = 1.0,
        hidden_factor: float = 0.1,
        power: float = 2.0,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.num_clusters = check_integer("num_clusters", num_clusters, minimum=2)
        self.clustering_factor = check_number("clustering_factor", clustering_factor, minimum=0)
        self.reconstruction_factor = check_number(
            "reconstruction_factor", reconstruction_factor, minimum=0
        )
        self.hidden_factor = check_number("hidden_factor", hidden_factor, minimum=0)
        self.power = check_number("power", power, above=0)
        for name, part in {"encoder": encoder, "decoder": decoder}.items():
            if not isinstance(part, keras.Model) or not getattr(part, "inputs", None):
                raise ValueError(
                    f"`{name}` must be a built functional or sequential `keras.Model`. Received: {part!r}"
                )
        self.encoder, self.decoder = encoder, decoder
        codes, shape = encoder.outputs[0].shape, decoder.outputs[0].shape
        if len(codes) != 2 or tuple(decoder.inputs[0].shape) != tuple(codes):
            raise ValueError(
                "The encoder must give codes `(batch, dim)`, which the decoder takes. Received: an encoder to "
                f"{tuple(codes)}, a decoder from {tuple(decoder.inputs[0].shape)}"
            )
        if tuple(shape) != tuple(encoder.inputs[0].shape):
            raise ValueError(
                "The decoder must give what the encoder takes. Received: an encoder from "
                f"{tuple(encoder.inputs[0].shape)}, a decoder to {tuple(shape)}"
            )
        self.clusters = keras.layers.Dense(num_clusters, name="clusters")
        self.clusters.build(tuple(codes))
        # Behind functions, so that Keras does not track layers twice.
        encoded, decoded = _hidden(encoder), _hidden(decoder)
        if self.hidden_factor == 0:
            encoded, decoded = [], []
        elif [tuple(t.shape) for t in encoded[::-1]] != [tuple(t.shape) for t in decoded]:
            raise ValueError(
                "With `hidden_factor` above 0 the hidden layers of the decoder must mirror those of the encoder. "
                f"Received: {[tuple(t.shape) for t in encoded]} in the encoder, "
                f"{[tuple(t.shape) for t in decoded]} in the decoder"
            )
        encode = keras.Model(encoder.inputs, [*encoded[::-1], encoder.outputs[0]])
        decode = keras.Model(decoder.inputs, [*decoded, decoder.outputs[0]])
        self._encode, self._decode = lambda: encode, lambda: decode

    def build(self, input_shape: Any) -> None:
        """All parts are built already."""

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        *_, codes = _listed(self._encode()(inputs, training=training))
        *hidden, decoded = _listed(self._decode()(codes, training=training))
        *clean, _ = _listed(self._encode()(inputs, training=False)) if hidden else [None]
        error = mean(ops.square(ops.cast(decoded, "float32") - ops.cast(inputs, "float32")))
        for own, other in zip(hidden, clean):
            gap = ops.cast(own, "float32") - ops.cast(other, "float32")
            error = error + self.hidden_factor * mean(ops.square(gap))
        self.add_loss(ops.cast(self.reconstruction_factor * error, keras.config.floatx()))
        return ops.cast(ops.softmax(self.clusters(codes), axis=-1), self.compute_dtype)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (input_shape[0], self.num_clusters)

    def fit_clusters(
        self,
        x: Any,
        epochs: tuple[int, int, int] = (1000, 100, 1000),
        batch_size: int = 100,
        validation_split: float = 0.1,
        patience: tuple[int, int] = (100, 5),
        tolerance: float = 1e-7,
        seed: int | None = None,
        verbose: Any = 0,
    ) -> dict[str, dict[str, list[float]]]:
        r"""Trains in the three phases, each with a new optimizer like the compiled one.

        Args:
            x: Inputs, an array.
            epochs: At most so many epochs of each phase.
            batch_size: Samples in a batch.
            validation_split: Share of the data, 0 to 1, on which the first two phases decide when to end; it is
                trained on in the third. With 0 they run all their epochs.
            patience: Epochs without progress after which the first two phases end.
            tolerance: Mean squared change of the targets in an epoch below which the third phase ends.
            seed: Of the division of data and of k-means.
            verbose: As in `keras.Model.fit`.

        Returns:
            The histories of the phases by name: `"autoencoder"`, `"initialization"` (with the normalized mutual
            information `"agreement"` with k-means) and `"clustering"` (with the `"change"` of targets).

        Raises:
            ValueError: If the model is not compiled, or `x` is no array of at least as many samples as clusters.
            ImportError: If scikit-learn is not installed.
        """
        try:
            from sklearn.cluster import KMeans
            from sklearn.metrics import normalized_mutual_info_score
        except ImportError as error:
            raise ImportError(
                "`fit_clusters` needs scikit-learn: `pip install scikit-learn`"
            ) from error
        x = np.asarray(x)
        if not self.compiled or len(x) < self.num_clusters:
            raise ValueError(
                "`fit_clusters` needs a compiled model, `model.compile(optimizer)`, and an array of at least "
                f"{self.num_clusters} samples. Received: compiled={self.compiled}, {len(x)} samples"
            )
        check_number("validation_split", validation_split, minimum=0, below=1)
        optimizer = keras.saving.serialize_keras_object(self.optimizer)
        options = {"jit_compile": self.jit_compile, "run_eagerly": self.run_eagerly}
        order = np.random.default_rng(seed).permutation(len(x))
        held = order[: int(validation_split * len(x))]
        train = order[len(held) :]
        fit = {"batch_size": batch_size, "verbose": verbose}

        def compiled(loss):
            self.compile(keras.saving.deserialize_keras_object(optimizer), loss, **options)

        compiled(_Scaled(0.0))
        none = np.zeros((len(x), self.num_clusters), "float32")
        stop, given = [], {}
        if len(held):
            given = {"validation_data": (x[held], none[held])}
            stop = [
                keras.callbacks.EarlyStopping(
                    "val_loss", patience=patience[0], restore_best_weights=True
                )
            ]
        history = {
            "autoencoder": self.fit(
                x[train], none[train], epochs=epochs[0], callbacks=stop, **given, **fit
            ).history
        }

        codes = self.encoder.predict(x, batch_size=batch_size, verbose=0)
        found = KMeans(self.num_clusters, n_init=10, random_state=seed).fit(codes)
        centers, labels = found.cluster_centers_, found.labels_
        units = centers / np.maximum(np.linalg.norm(centers, axis=1, keepdims=True), 1e-12)
        self.clusters.set_weights([units.T, np.zeros(self.num_clusters)])
        loss = _Scaled(self.clustering_factor)
        compiled(loss)
        rows = np.eye(self.num_clusters, dtype="float32")[labels]
        phase: dict[str, list[float]] = {"loss": [], "agreement": []}
        best, waited = -1.0, 0
        for _ in range(epochs[1]):
            phase["loss"] += self.fit(x[train], rows[train], **fit).history["loss"]
            watched = held if len(held) else train
            found = self.predict(x[watched], batch_size=batch_size, verbose=0).argmax(axis=-1)
            phase["agreement"].append(normalized_mutual_info_score(labels[watched], found))
            waited = 0 if phase["agreement"][-1] > best + 1e-6 else waited + 1
            best = max(best, phase["agreement"][-1])
            if len(held) and waited >= patience[1]:
                break
        history["initialization"] = phase

        compiled(loss)
        phase = {"loss": [], "change": []}
        targets = self._targets(x, batch_size)
        for _ in range(epochs[2]):
            phase["loss"] += self.fit(x, targets, **fit).history["loss"]
            before, targets = targets, self._targets(x, batch_size)
            phase["change"].append(float(np.mean(np.square(targets - before))))
            if phase["change"][-1] < tolerance:
                break
        history["clustering"] = phase
        return history

    def _targets(self, x, batch_size):
        p = self.predict(x, batch_size=batch_size, verbose=0)
        return ops.convert_to_numpy(cluster_target_distribution(p, self.power))


@keras.saving.register_keras_serializable("keras_regularize.models", name="DEPICTCrossentropy")
class _Scaled(Configured, keras.losses.Loss):
    """Cross-entropy to targets of clusters, times a factor."""

    def __init__(self, factor=1.0, name="clustering", reduction="sum_over_batch_size", dtype=None):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.factor = factor

    def call(self, y_true, y_pred):
        return self.factor * keras.losses.categorical_crossentropy(y_true, y_pred)


def _hidden(model):
    """Outputs of the layers with weights, but for the last."""
    return [layer.output for layer in model.layers if layer.weights][:-1]


def _listed(outputs):
    return list(outputs) if isinstance(outputs, (list, tuple)) else [outputs]
