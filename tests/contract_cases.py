"""What the contract tests need to know beyond a symbol's golden cases and defaults.

Entries of `CASES`, all optional, by public name:

- `config`: function that returns constructor arguments, where neither golden cases nor defaults will do;
- `check`: function that returns keyword arguments of the symbol's `check_…` (inputs, `skip`, `neutral` …);
- `no_paper`: `True` where there is nothing to cite.

`skip` names checks that a symbol does not promise, with the reason beside it.
"""

import keras
import numpy as np

import keras_regularize as kr

# Random numbers drawn in compiled code differ from eager ones on TensorFlow.
RANDOM_STEP = ("jit",) if keras.backend.backend() == "tensorflow" else ()
# A value per sample that depends on the others, of which a masked position is one.
BATCH_COUPLED = ("independence", "sequences")
GROUPS = np.array([0, 1, 0, 0, 1, 0, 0, 1], "int32")


def images():
    return np.random.default_rng(0).normal(size=(4, 6, 6, 2))


def masks():
    """Class ids and probabilities of the pixels of four images."""
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(3), (4, 4, 5)).astype("float32")
    return {"y_true": rng.integers(0, 3, (4, 4, 5)).astype("int32"), "y_pred": p}


def columns():
    """Targets of a regression with three outputs, and predictions."""
    y_true, y_pred = np.random.default_rng(0).normal(0.0, 2.0, (2, 4, 3)).astype("float32")
    return {"y_true": y_true, "y_pred": y_pred}


def panoptic():
    """Pairs of class and instance ids of the pixels of four images."""
    ids = np.random.default_rng(0).integers(0, 3, (4, 2, 3, 2)).repeat(3, 1).repeat(3, 2)
    return {"y_true": ids.astype("int32"), "y_pred": np.roll(ids, 1, axis=2)}


@keras.saving.register_keras_serializable("tests")
class LabelShift(keras.layers.Layer):
    """Lowers the logit of the label in training."""

    def call(self, inputs):
        logits, labels = inputs
        if labels is None:
            return logits
        return logits - keras.ops.one_hot(labels, logits.shape[-1], dtype=logits.dtype)


def network_with_labels():
    x, labels = keras.Input((4,)), keras.Input((), dtype="int32", optional=True)
    hidden = keras.layers.Dense(5, activation="tanh")(x)
    return keras.Model([x, labels], LabelShift()([keras.layers.Dense(3)(hidden), labels]))


@keras.saving.register_keras_serializable("tests")
def cube(x):
    return x * x * x


@keras.saving.register_keras_serializable("tests")
def itself(x):
    return x


def self_tuning_network():
    x, h, values = keras.Input((4,)), keras.Input((1,)), keras.Input((1,))
    z = kr.layers.SelfTuningDense(5, "tanh")([x, h])
    z = kr.layers.HyperDropout(seed=1)([z, values])
    return keras.Model([x, h, values], kr.layers.SelfTuningDense(3)([z, h]))


def denoiser():
    """Of data and times."""
    x, t = keras.Input((3,)), keras.Input((1,))
    return keras.Model([x, t], keras.layers.Dense(3)(keras.layers.Concatenate()([x, t])))


def teacher():
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])


def binary_network():
    return keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(5, "tanh", kernel_regularizer="l2"),
            keras.layers.BatchNormalization(),
            keras.layers.Dense(1),
        ]
    )


def labels_and(**columns):
    """The default labels of `check_model` with further columns."""
    rng = np.random.default_rng(0)
    rng.uniform(size=(8, 4))
    return {"label": rng.integers(0, 3, 8).astype("int32"), **columns}


def features_and_labels():
    return [3 * np.random.default_rng(0).normal(size=(4, 5)), np.array([2, 0, 1, 2])]


def mixtures():
    """Targets and predicted mixtures of two Gaussians."""
    rng = np.random.default_rng(0)
    return {"y_true": rng.normal(size=4), "y_pred": rng.normal(size=(4, 6))}


def two_views():
    """Features of two views of four samples."""
    return np.random.default_rng(0).normal(size=(4, 2, 3)).astype("float32")


def views_of_inputs():
    return np.random.default_rng(0).normal(size=(4, 2, 4)).astype("float32")


def far(y_pred, scales):
    """Predictions far off, as uncertain as that: float16 cannot hold the gradient of those that are sure."""
    extremes = [1e4 * np.sign(y_pred), -1e4 * np.sign(y_pred), 0.0 * y_pred]
    for extreme in extremes[:2]:
        extreme[:, -scales:] = 1e4
    return extremes


def tokens(given, units):
    """A model of any number of tokens."""
    return keras.Sequential([keras.Input((None, given)), keras.layers.Dense(units)])


def views():
    """Features of two views of four samples."""
    return np.random.default_rng(0).normal(size=(4, 2, 3))


def selections():
    scores = np.array([0.3, -0.2, 1.0, 0.5, -3.0, 0.1])
    return {"y_true": np.array([1, 0, 1, 0, 1, 0]), "y_pred": scores}


def depths():
    """Depths, of which some are not measured, and predictions of four images."""
    y, p = np.random.default_rng(0).uniform(0.1, 1, (2, 4, 5, 6, 1))
    y[:, 1:3, 2], y[0, 0, 0] = 0.0, np.nan
    return {"y_true": y, "y_pred": p}


def pictures(channels=2):
    """Images between 0 and 1, and others."""
    y, p = np.random.default_rng(0).uniform(size=(2, 4, 6, 7, 2))
    return {"y_true": y, "y_pred": p[..., :channels]}


def queries():
    """Relevances, some of them padding, and scores of the items of six queries."""
    rng = np.random.default_rng(0)
    return {"y_true": rng.integers(-1, 3, (6, 5)), "y_pred": np.round(rng.normal(size=(6, 5)), 1)}


def attacked_images():
    """Images, and a model of four classes for them."""
    keras.utils.set_random_seed(1)
    flatten, dense = keras.layers.Flatten(), keras.layers.Dense(4)
    model = keras.Sequential([keras.Input((5, 5, 2)), flatten, dense])
    x = np.random.default_rng(0).uniform(0.3, 0.7, (4, 5, 5, 2))
    y = keras.ops.convert_to_numpy(keras.ops.argmax(model(x), axis=-1))
    return {
        "model": model,
        "x": x,
        "y": y,
    }  # Predicted labels, of which none is fooled at the start.


def elastic_network():
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((4,)),
            kr.layers.ElasticQuantized(layers.Dense(5, activation="tanh"), (2, 4)),
            layers.BatchNormalization(),
            kr.layers.ElasticQuantized(layers.Dense(3), (2, 4)),
        ]
    )


def covariances():
    x = np.random.default_rng(0).normal(size=(8, 3, 5))
    return (x @ np.swapaxes(x, 1, 2) / 5).astype("float32")


def rows_of_four():
    return np.random.default_rng(0).normal(size=(2, 8, 4)).astype("float32")


def variational_encoder():
    x = keras.Input((3,))
    return keras.Model(x, [keras.layers.Dense(2)(x), keras.layers.Dense(2)(x)])


def dense_decoder():
    return keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])


def small_extractor():
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dense(n, "tanh", name=name) for n, name in ((4, "first"), (2, "second"))]
    return keras.Sequential([keras.Input((3,)), *layers])


def language_network():
    """Of tokens, with batch statistics; no penalties, which TensorFlow cannot add to a loss of another dtype."""
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((None,), dtype="int32"),
            layers.Embedding(4, 5),
            layers.Dense(5, activation="tanh"),
            layers.BatchNormalization(),
            layers.Dense(4),
        ]
    )


def texts(count=8, time=5):
    return np.random.default_rng(0).integers(0, 4, (count, time)).astype("int32")


def token_scores():
    """Tokens of four texts, and scores of theirs."""
    scores = np.random.default_rng(0).normal(size=(4, 5, 4))
    return {"y_true": texts(4), "y_pred": scores}


def missing_data_parts():
    layers = keras.layers

    def pair(outputs):
        inputs = [keras.Input((3,)), keras.Input((3,))]
        return keras.Model(inputs, layers.Dense(outputs)(layers.Concatenate()(inputs)))

    return {
        "encoder": pair(4),
        "decoder": keras.Sequential([keras.Input((2,)), layers.Dense(6)]),
        "classifier": pair(2),
        "num_latents": 3,
        "num_samples": 2,
    }


CASES = {
    "metrics.SequenceRepetition": {
        "config": lambda: {"ngram": 2},
        "check": lambda: {"y_true": texts(6), "y_pred": texts(6)},
    },
    "metrics.Perplexity": {"config": lambda: {"from_logits": True}, "check": token_scores},
    "metrics.TokenRepetition": {"config": lambda: {"window": 2}, "check": token_scores},
    "metrics.UniqueTokens": {
        "config": lambda: {"vocabulary_size": 4},
        "check": lambda: {"y_true": texts(6), "y_pred": texts(6)},
    },
    # One ratio for the batch.
    **{
        f"losses.{name}": {"check": lambda: {"skip": (*BATCH_COUPLED, "sample weights")}}
        for name in ("MultiResolutionSTFT", "SpectralConvergence")
    },
    "losses.Perceptual": {
        "config": lambda: {"feature_extractor": small_extractor(), "layers": ["second", "first"]},
        "check": columns,
    },
    "models.AudioSuperResolution": {
        "config": lambda: {
            "generator": kr.generative.SpectralUNet(16, 2, 8, 4, (2,)),
            "discriminator": kr.generative.MultiScaleDiscriminator(1, 4, 0),
        },
    },
    "layers.ModuleController": {
        "config": lambda: {"units": 4, "num_modules": 3, "num_heads": 2},
        "check": lambda: {"inputs": np.random.default_rng(0).normal(size=(4, 3, 2))},
    },
    "models.ModularCaptioner": {
        "config": lambda: {"vocabulary_size": 5, "units": 4, "num_heads": 2}
    },
    "losses.PartOfSpeechLoss": {"check": lambda: {"skip": (*BATCH_COUPLED, "sample weights")}},
    "models.ImplicitUnlikelihood": {
        "config": lambda: {
            "prefix_length": 2,
            "continuation_length": 2,
            "ngram": 1,
            "policy_rate": 0.4,
            "unlikelihood_rate": 0.4,
            "seed": 1,
        },
        "check": lambda: {
            "network": language_network,
            "x": texts(),
            "y": np.roll(texts(), -1, axis=1),
            "neutral": {"policy_rate": 0.0, "unlikelihood_rate": 0.0},
            "skip": RANDOM_STEP,
        },
    },
    "attacks.AutoAttack": {
        "config": lambda: {"attacks": ["apgd-t", "square"], "steps": 1, "queries": 2, "seed": 0},
        "check": lambda: attacked_images(),
    },
    "attacks.FAB": {"config": lambda: {"steps": 1}},
    "attacks.Square": {
        "config": lambda: {"epsilon": 0.1, "queries": 3, "seed": 0},
        "check": lambda: attacked_images(),
    },
    # Polynomials, which overflow float16 soon.
    **{
        f"activations.{name}": {
            "check": lambda: {"extremes": [np.zeros((4, 3)), np.full((4, 3), -9)]}
        }
        for name in ("hermite", "Hermite", "singular_kernel", "SingularKernel")
    },
    # Straight through.
    "activations.straight_through_sign": {"check": lambda: {"skip": ("gradient",)}},
    "attacks.VirtualAdversarial": {"check": lambda: {"direction": True}},
    # Each application shrinks further.
    "constraints.GroupSoftThreshold": {"check": lambda: {"skip": ("idempotent",)}},
    "constraints.HardThreshold": {"config": lambda: {"threshold": 0.5}},
    # Each application shrinks further.
    "constraints.SoftThreshold": {"check": lambda: {"skip": ("idempotent",)}},
    "constraints.attach": {"no_paper": True},
    "hyper.AccuracyPredictor": {"config": lambda: {"bits": [2, 4], "units": 8}},
    "hyper.NetworkAutoencoder": {"config": lambda: {"units": 2, "depths": [1], "hidden_units": 4}},
    "layers.AccordionBlock": {"config": lambda: {"hidden_units": 6, "units": 2, "factor": 0.1}},
    # Other samples of the batch are negatives; a sample of weight 0 is none.
    **{
        f"losses.{name}": {"check": lambda: {"skip": ("independence", "sample weights")}}
        for name in (
            "BarlowTwins",
            "FDivergenceContrastive",
            "InfoNCE",
            "NTXent",
            "SupCon",
            "Triplet",
        )
    },
    "losses.VICReg": {
        # It grows with the fourth power of the features, which float16 holds for a while.
        "check": lambda: {
            "extremes": [0.0 * two_views(), 10.0 * np.sign(two_views()), 0.0 * two_views() + 1.0],
            "y_pred": two_views(),
            "y_true": np.zeros(4),
            "skip": ("independence", "sample weights"),
        }
    },
    "losses.ICon": {"check": lambda: {"skip": ("independence", "sample weights")}},
    "losses.ClassNeighbors": {"config": lambda: {"num_classes": 3}},
    "losses.KNNNeighbors": {"config": lambda: {"k": 2}},
    "layers.CenterLoss": {
        "config": lambda: {"num_classes": 3},
        # The centres move, without any random number.
        "check": lambda: {"inputs": features_and_labels(), "skip": ("randomness",)},
    },
    # Running statistics move, without any random number.
    "layers.AdaFace": {"check": lambda: {"skip": ("randomness",)}},
    "layers.BitWeights": {"config": lambda: {"layer": keras.layers.Dense(2), "bits": 4}},
    "layers.CurricularFace": {
        "config": lambda: {"units": 3},
        "check": lambda: {"inputs": features_and_labels(), "skip": ("randomness",)},
    },
    "layers.Cutout": {
        "config": lambda: {"length": 3},
        "check": lambda: {"inputs": images(), "identity_at_inference": True},
    },
    "layers.DropBlock": {
        "config": lambda: {"block_size": 3, "rate": 0.4},
        "check": lambda: {
            "inputs": np.random.default_rng(0).normal(size=(4, 9, 3)),
            "identity_at_inference": True,
        },
    },
    "layers.DropPath": {
        "config": lambda: {"rate": 0.5},
        "check": lambda: {
            "inputs": np.random.default_rng(0).normal(size=(16, 3)),
            "identity_at_inference": True,
        },
    },
    "layers.ElasticQuantized": {
        "config": lambda: {"layer": keras.layers.Dense(2), "bits": [2, 4]},
        "check": lambda: {"skip": ("gradient",)},
    },
    # Straight through the rounding.
    "layers.Entmax": {"config": lambda: {"alpha": 1.3, "learnable": True}},
    "layers.FakeQuantize": {
        "config": lambda: {"bits": 4, "symmetric": False, "per_channel": True},
        "check": lambda: {"skip": ("gradient",)},
    },
    "layers.GaussianMixtureOfExperts": {"config": lambda: {"num_experts": 2}},
    "layers.GradientOf": {
        "config": lambda: {
            "model": keras.Sequential(
                [keras.layers.Dense(4, "tanh"), keras.layers.Dense(1, use_bias=False)]
            )
        }
    },
    "layers.GaussianNaiveBayes": {"config": lambda: {"num_classes": 3}},
    "layers.ConditionalBoundary": {
        "config": lambda: {"classifier": keras.layers.Dense(3), "kernel_size": 3, "border": 0.2},
        "check": lambda: {"inputs": [images(), np.arange(144).reshape(4, 6, 6) // 3 % 3]},
    },
    **{
        f"layers.{name}": {
            "check": lambda: {
                "inputs": [features_and_labels()[0], np.full((4, 1), 0.4)],
                # The strength of what is random is an input: what the features alone are is in its own tests.
                "extremes": [[1e4 * np.sign(features_and_labels()[0]), np.full((4, 1), 0.4)]],
            }
        }
        for name in ("HyperDropout", "HyperGaussianNoise")
    },
    "layers.InverseForm": {
        "config": lambda: {
            "network": kr.layers.inverse_form_network(4, [3]),
            "tiles": [1, 2],
            "factor": 0.5,
        },
        "check": lambda: {"inputs": [masks()["y_pred"][..., :1], masks()["y_pred"][..., 0] > 0.5]},
    },
    "layers.JacobianPenalty": {
        "config": lambda: {"layer": keras.layers.Dense(2)},
        # What is random is the loss.
        "check": lambda: {"skip": ("randomness",)},
    },
    "layers.LearnedClipQuantizer": {"check": lambda: {"skip": ("gradient",)}},
    "layers.MagFace": {
        "config": lambda: {"units": 3, "min_norm": 1.0, "max_norm": 20.0},
        "check": lambda: {"inputs": features_and_labels()},
    },
    "layers.NestedDropout": {
        "check": lambda: {
            "inputs": np.random.default_rng(0).normal(size=(4, 24)),
            "identity_at_inference": True,
            # One draw for all samples of a batch.
            "skip": ("randomness",),
        },
    },
    "layers.NeuralCollapse": {
        "config": lambda: {"num_classes": 3},
        "check": lambda: {"inputs": features_and_labels()},
    },
    "layers.ObservationDropout": {
        "config": lambda: {"rate": 0.4},
        "check": lambda: {
            "inputs": [features_and_labels()[0], features_and_labels()[0] > 0],
            "identity_at_inference": True,
        },
    },
    "layers.QuantizedInputs": {
        "config": lambda: {"layer": keras.layers.Dense(2), "bits": 3},
        "check": lambda: {"skip": ("gradient",)},
    },
    "layers.QuantizedWeights": {
        "config": lambda: {"layer": keras.layers.Dense(2), "bits": 3, "symmetric": False}
    },
    "layers.RationaleDense": {
        "config": lambda: {"units": 3},
        "check": lambda: {"inputs": features_and_labels()},
    },
    "layers.Reparameterized": {
        "config": lambda: {"layer": keras.layers.Dense(2)},
        "no_paper": True,
    },
    # With a gate that is never open: it is one for the batch.
    "layers.ShakeDrop": {"config": lambda: {"survival_probability": 0.0}},
    "layers.StudentTClustering": {"config": lambda: {"num_clusters": 3}},
    "layers.NegativeQueue": {
        "config": lambda: {"size": 5},
        # Features enter the queue, without any random number; the second view has no gradient.
        "check": lambda: {"inputs": views_of_inputs(), "skip": ("randomness", "gradient")},
    },
    "layers.SurrogateRepresentation": {
        "config": lambda: {"num_bins": 3, "feature_dim": 4, "num_points": 5, "seed": 0},
        # Sums of the epoch move, without any random number.
        "check": lambda: {"inputs": features_and_labels(), "skip": ("randomness",)},
    },
    "layers.TLossEndpoint": {
        "config": lambda: {"nu": 2.0},
        "check": lambda: {"inputs": [masks()["y_pred"], masks()["y_pred"] > 0.5]},
    },
    "layers.WeightConditioning": {"config": lambda: {"layer": keras.layers.Dense(2)}},
    "losses.ACLS": {
        # Top logits above the margin and the others within it, where no gradient is stopped.
        "check": lambda: {"y_true": np.arange(4) % 3, "y_pred": 10 + 2 * images()[:, 0, 0:3, 0]}
    },
    # One value for the batch; neighbours are constants of the gradient.
    "losses.ActiveBoundary": {"check": lambda: {"skip": (*BATCH_COUPLED, "gradient")}},
    "losses.AnyLoss": {
        "check": lambda: {
            "y_true": np.array([0, 1, 1, 0, 0]),
            "y_pred": np.array([0.48, 0.53, 0.49, 0.51, 0.45]),
            "skip": BATCH_COUPLED,
        }
    },
    "losses.BalancedL1": {"check": columns},
    # Its threshold is a constant of the gradient, and depends on the largest error of the batch.
    "losses.BerHu": {
        "check": lambda: {**columns(), "skip": (*BATCH_COUPLED, "sample weights", "gradient")},
    },
    # One value for the batch.
    "losses.BoundaryDoU": {"check": lambda: {"skip": BATCH_COUPLED}},
    # Its mode is the reduction.
    "losses.TBatch": {
        "check": lambda: {
            **columns(),
            # float16 cannot hold the square of what is larger.
            "extremes": [0.0 * columns()["y_pred"], 100 * np.sign(columns()["y_pred"])],
            "skip": ("config", "reductions", "sample weights", "sequences"),
        }
    },
    # Pairs are those of the batch.
    "losses.PatchLossRanking": {"check": lambda: {"skip": (*BATCH_COUPLED, "sample weights")}},
    # Frequencies are those of the batch, among the samples of a weight above 0.
    "losses.DEPICT": {"check": lambda: {"skip": (*BATCH_COUPLED, "sample weights")}},
    # The worst samples are found within the batch, among those of a weight above 0.
    "losses.BoundaryAware": {
        "config": lambda: {"num_bins": 3, "truncation": 2.0},
        "check": lambda: {**masks(), "y_true": masks()["y_true"] % 2, "skip": ("labels",)},
    },
    # The weight of the shape is a constant of the gradient.
    "losses.CIoU": {"check": lambda: {"skip": ("gradient",)}},
    "losses.CVaR": {
        "config": lambda: {"loss": "sparse_categorical_crossentropy", "tail": 0.4},
        "check": lambda: {"skip": ("independence", "sample weights")},
    },
    "losses.ClDice": {"check": lambda: masks()},
    "losses.EdgeAwareSmoothness": {"check": lambda: pictures(1)},
    "layers.GaussianMixture": {"config": lambda: {"components": 2}},
    "losses.GaussianMixtureCRPS": {"check": lambda: mixtures()},
    "losses.GaussianMixtureNegativeLogLikelihood": {
        "check": lambda: {**mixtures(), "extremes": far(mixtures()["y_pred"], 2)}
    },
    "losses.GaussianNegativeLogLikelihood": {
        "check": lambda: {"extremes": far(np.ones((4, 2)), 1)},
    },
    "losses.MixtureOfExpertsNLL": {
        "check": lambda: {**mixtures(), "extremes": far(mixtures()["y_pred"], 2)}
    },
    "losses.MDCA": {"check": lambda: {"skip": BATCH_COUPLED}},
    "losses.ProbabilisticCalibration": {
        "check": lambda: {"skip": (*BATCH_COUPLED, "sample weights")}
    },
    "losses.Rejection": {
        # Scores whose exponentials float16 can hold.
        "check": lambda: {"y_true": np.arange(4) % 2, "y_pred": 0.1 * images()[:, 0, 0, 0]}
    },
    "losses.SSIM": {"config": lambda: {"window": 5}, "check": lambda: pictures()},
    "losses.ScaleShiftInvariant": {"check": lambda: depths()},
    "losses.Seesaw": {
        # Correct predictions, where no gradient is stopped.
        "check": lambda: {
            "y_true": images()[:, 0, 0:4, 0].argmax(-1),
            "y_pred": images()[:, 0, 0:4, 0],
        }
    },
    "losses.SpectralRisk": {"check": lambda: {"skip": ("independence", "sample weights")}},
    # One value for the batch, whatever the labels.
    "losses.TREGS": {
        "check": lambda: {
            "y_pred": views(),
            "y_true": np.zeros(4, "int32"),
            # float16 cannot hold the gradient at 1e4.
            "extremes": [0.0 * views(), 1e3 * np.sign(views()), np.roll(views(), 1, 1)],
            "skip": (*BATCH_COUPLED, "sample weights"),
        }
    },
    "losses.WeightedSum": {
        "config": lambda: {
            "losses": [kr.losses.MaxSup(), kr.losses.ZLoss()],
            "weights": [1.0, 0.5],
        },
    },
    # Ratios of sums over the batch.
    **{
        f"losses.{name}": {"check": lambda: {"skip": (*BATCH_COUPLED, "sample weights")}}
        for name in (
            "NormalizedRootMeanSquaredError",
            "RelativeAbsoluteError",
            "RelativeRootMeanSquaredError",
            "RelativeSquaredError",
            "WeightedAbsolutePercentageError",
        )
    },
    "losses.Wing": {"check": columns},
    "losses.ZErrorBCE": {"check": lambda: {"skip": (*BATCH_COUPLED, "sample weights")}},
    "losses.ZErrorMSE": {"check": lambda: {"skip": (*BATCH_COUPLED, "sample weights")}},
    "metrics.AbsoluteRelativeError": {"check": lambda: depths()},
    "metrics.BlackBoxSquare": {
        "config": lambda: {"num_categories": 3},
        "check": lambda: {
            "y_true": np.array([0, 1, 1, 2, 2, 0]),
            "y_pred": np.array([0, 1, 2, 1, 1, 0]),
        },
    },
    "metrics.BoundaryIoU": {
        "config": lambda: {"num_classes": 3, "dilation_ratio": 0.1},
        "check": lambda: masks(),
    },
    "metrics.Coverage": {"check": lambda: selections()},
    "metrics.DiceScore": {
        "config": lambda: {"num_classes": 3},
        "check": lambda: {"y_true": masks()["y_true"], "y_pred": masks()["y_pred"]},
    },
    "metrics.GroupAccuracy": {
        "config": lambda: {"group": 1},
        "check": lambda: {"group": np.array([0, 1, 1, 0, 1, 1], "int32")},
    },
    "metrics.HausdorffDistance95": {
        "config": lambda: {"num_classes": 3, "sampling": [1.0, 2.0]},
        "check": lambda: masks(),
    },
    "metrics.PanopticQuality": {
        "config": lambda: {"num_classes": 3, "max_instances": 4, "stuff": [0]},
        "check": lambda: panoptic(),
    },
    "metrics.MeanReciprocalRank": {"check": lambda: queries()},
    "metrics.PeakSignalToNoiseRatio": {"check": lambda: pictures()},
    "metrics.RecallAtK": {"config": lambda: {"k": 2}, "check": lambda: queries()},
    "metrics.SSIM": {"config": lambda: {"window": 5}, "check": lambda: pictures()},
    "metrics.SelectiveAccuracy": {"check": lambda: selections()},
    "metrics.ShotMAE": {
        "config": lambda: {"edges": [0.0, 1.0, 2.0], "counts": [5, 500]},
        "check": lambda: {
            "y_true": np.array([0.1, 0.5, 1.5, 0.9, 1.2, 0.3]),
            "y_pred": np.array([0.3, 0.2, 1.0, 0.5, 3.0, 0.1]),
        },
    },
    "metrics.ThresholdAccuracy": {"check": lambda: depths()},
    # A neutral strength leaves cross-entropy: that of the compiled loss.
    "models.ALP": {
        "config": lambda: {"attack": kr.attacks.FGSM(epsilon=0.1), "factor": 0.3},
        "check": lambda: {"neutral": {"attack": kr.attacks.FGSM(epsilon=0.0), "factor": 0.0}},
    },
    "models.AMP": {"check": lambda: {"neutral": {"epsilon": 0.0}}},
    "models.ART": {
        # As without a warm-up, where the penalty acts from the first step.
        "config": lambda: {"sparsity": 0.5, "factor": 0.01, "warmup_epochs": 0},
        "check": lambda: {"neutral": {"factor": 0.0}},
    },
    "models.ARoW": {
        "config": lambda: {"attack": kr.attacks.FGSM(epsilon=0.1), "factor": 2.0},
        "check": lambda: {"neutral": {"factor": 0.0, "label_smoothing": 0.0}},
    },
    "models.ASAM": {"check": lambda: {"neutral": {"rho": 0.0}}},
    "models.AWP": {"check": lambda: {"neutral": {"gamma": 0.0}}},
    "models.AdvCompSum": {
        "config": lambda: {"attack": kr.attacks.FGSM(epsilon=0.1), "tau": 1.5, "rho": 2.0},
        "check": lambda: {"neutral": {"tau": 1.0, "rho": 1.0, "nu": 0.0}},
    },
    "models.AdversarialTraining": {
        "config": lambda: {"attack": kr.attacks.FGSM(epsilon=0.1)},
        # The one training pass of a step is that on adversarial inputs.
        "check": lambda: {"skip": ("batch norm",)},
    },
    "models.CoTeaching": {
        "config": lambda: {"model_b": teacher(), "forget_rate": 0.3},
        # It predicts the mean of two networks.
        "check": lambda: {"skip": ("inference",)},
    },
    "models.DEPICT": {
        "config": lambda: {
            "encoder": keras.Sequential([keras.Input((5,)), keras.layers.Dense(2)]),
            "decoder": keras.Sequential([keras.Input((2,)), keras.layers.Dense(5)]),
            "num_clusters": 3,
        },
        "check": lambda: {"inputs": features_and_labels()[0]},
    },
    # By its first output alone not all of it is trained; that it is saved, those of `GrowNet` see.
    "layers.BoostedLearner": {"check": lambda: {"skip": ("saving", "jit")}},
    "layers.RandomFeatures": {"config": lambda: {"units": 5, "activation": "tanh", "seed": 0}},
    "layers.RandomFourierFeatures": {"config": lambda: {"units": 5, "seed": 0}},
    "models.DataEmphasizedELBo": {
        "config": lambda: {"dataset_size": 8, "seed": 0},
        "check": lambda: {"skip": RANDOM_STEP},
    },
    "models.ContractiveAutoencoder": {
        "config": lambda: {"factor": 0.01},
        "check": lambda: {"neutral": {"factor": 0.0}},
    },
    # The one training pass of a step is that on noisy inputs.
    "models.DenoisingAutoencoder": {
        "config": lambda: {"stddev": 0.1, "seed": 1},
        "check": lambda: {"neutral": {"stddev": 0.0}, "skip": ("batch norm", *RANDOM_STEP)},
    },
    "models.JacobianNuclearNorm": {
        "config": lambda: {
            "encoder": keras.layers.Dense(2, activation="tanh"),
            "decoder": keras.layers.Dense(3),
        },
        # What is random is the loss.
        "check": lambda: {"skip": ("randomness",)},
    },
    # Straight through the sign.
    "models.SignAutoencoder": {
        "config": lambda: {"units": 2},
        "check": lambda: {"skip": ("gradient",)},
    },
    "models.DenoisingDiffusion": {
        "config": lambda: {
            "network": denoiser(),
            "num_timesteps": 10,
            "prediction": "v",
            "weighting": "uniform",
            "delta_schedule": "snr",
            "seed": 1,
        },
    },
    "models.PhysicsInformedDiffusion": {
        "config": lambda: {
            "network": denoiser(),
            "residual": cube,
            "num_timesteps": 10,
            "residual_weight": 0.1,
            "inequality": itself,
            "inequality_weight": 0.2,
            "x0_estimation": "sample",
            "sample_steps": 1,
            "prediction": "epsilon",
        },
    },
    "models.SUREScore": {
        "config": lambda: {"network": denoiser(), "noise_level": 0.3, "sigmas": [1.0, 0.5]},
    },
    "models.Distillation": {
        "config": lambda: {"teacher": teacher(), "alpha": 0.5},
        "check": lambda: {"neutral": {"alpha": 1.0}},
    },
    "models.ELLE": {
        "config": lambda: {"epsilon": 0.1, "factor": 100.0, "seed": 1},
        # The one kept pass of a step is that on adversarial inputs.
        "check": lambda: {
            "neutral": {"epsilon": 0.0, "factor": 0.0},
            "skip": ("batch norm", *RANDOM_STEP),
        },
    },
    "models.ELR": {
        "config": lambda: {"num_samples": 8, "num_classes": 3},
        "check": lambda: {
            "y": labels_and(index=np.arange(8, dtype="int32")),
            "neutral": {"factor": 0.0},
        },
    },
    "models.ELRPlus": {
        "config": lambda: {
            "model_b": teacher(),
            "num_samples": 8,
            "num_classes": 3,
            "seed": 1,
        },
        # It predicts the mean of two networks, and the pass of a step is that on mixed inputs.
        "check": lambda: {
            "y": labels_and(index=np.arange(8, dtype="int32")),
            "skip": ("inference", "batch norm", *RANDOM_STEP),
        },
    },
    "models.ElasticQuantization": {
        "config": lambda: {"bits": [2, 4], "seed": 1},
        # Its pass with statistics is that of a subnet.
        "check": lambda: {"network": elastic_network, "skip": ("batch norm", *RANDOM_STEP)},
    },
    "models.EnsLoss": {
        "config": lambda: {"seed": 1},
        "check": lambda: {
            "network": binary_network,
            "y": np.arange(8, dtype="int32") % 2,
            "loss": keras.losses.BinaryCrossentropy(from_logits=True),
            "skip": RANDOM_STEP,
        },
    },
    "models.AdversarialModel": {"config": lambda: players(2, 4, 4)},
    "models.ConditionalGAN": {
        "config": lambda: {**players(3, 2, 3), "latent_dim": 2, "condition_noise": 0.1}
    },
    "models.DomainTransferNetwork": {
        "config": lambda: {
            **players(2, 4, 4, logits=3),
            "feature_extractor": sequence(4, 2),
            "constancy_weight": 2.0,
        }
    },
    "models.GAN": {"config": lambda: {**players(2, 4, 4), "latent_dim": 2, "penalty": "r1"}},
    "models.Pix2Pix": {"config": lambda: {**players(3, 2, 5), "adversarial_loss": "hinge"}},
    "models.RepulsionGAN": {"config": lambda: repelled()},
    "models.Ensemble": {
        "config": lambda: {"members": [teacher(), teacher()]},
        "check": lambda: {"inputs": np.random.default_rng(0).random((3, 4)).astype("float32")},
    },
    "models.FactoredSphericalClassifier": {
        "config": lambda: {"num_classes": 5},
        # It predicts by a layer of its own.
        "check": lambda: {"loss": False, "skip": ("inference",)},
    },
    "models.MomentumViews": {
        "config": lambda: {"encoder": teacher(), "momentum": 0.5},
        # The averages move, without any random number; the second view has no gradient.
        "check": lambda: {"inputs": views_of_inputs(), "skip": ("randomness", "gradient")},
    },
    "models.MultiView": {
        "config": lambda: {"encoder": teacher(), "projector": keras.layers.Dense(2)},
        "check": lambda: {"inputs": views_of_inputs()},
    },
    "models.Flooding": {
        "config": lambda: {"level": 0.5},
        "check": lambda: {"neutral": {"level": 0.0}},
    },
    "models.FreeAdversarialTraining": {
        "config": lambda: {"epsilon": 0.1, "replays": 2, "batch_size": 8},
        # Batch statistics move in every replay.
        "check": lambda: {"neutral": {"epsilon": 0.0, "replays": 1}, "skip": ("batch norm",)},
    },
    "models.FunctionalEntropyRegularization": {
        "config": lambda: {"factor": 1e-4, "seed": 1},
        "check": lambda: {"neutral": {"factor": 0.0}, "skip": RANDOM_STEP},
    },
    "models.FriendlySAM": {"check": lambda: {"neutral": {"rho": 0.0}}},
    "models.GSAM": {"check": lambda: {"neutral": {"rho": 0.0, "alpha": 0.0}}},
    "models.GradAlign": {
        "config": lambda: {"attack": kr.attacks.FGSM(epsilon=0.1), "seed": 1},
        "check": lambda: {
            "neutral": {"attack": kr.attacks.FGSM(epsilon=0.0), "factor": 0.0},
            "skip": ("batch norm", *RANDOM_STEP),
        },
    },
    "models.GradientRegularization": {"check": lambda: {"neutral": {"factor": 0.0}}},
    "models.GroupDRO": {
        "config": lambda: {"num_groups": 2, "step_size": 0.5},
        "check": lambda: {"y": labels_and(group=GROUPS)},
    },
    "models.IGNITE": {"check": lambda: {"neutral": {"factor": 0.0, "factor_learning_rate": 0.0}}},
    "models.InputGradientPenalty": {"check": lambda: {"neutral": {"factor": 0.0}}},
    "models.LookSAM": {
        "config": lambda: {"rho": 0.1, "period": 2},
        "check": lambda: {"neutral": {"rho": 0.0}},
    },
    "models.MART": {"config": lambda: {"attack": kr.attacks.FGSM(epsilon=0.1), "beta": 2.0}},
    "models.MomentumSAM": {"check": lambda: {"neutral": {"rho": 0.0}}},
    "models.Prospect": {
        "config": lambda: {"num_samples": 8, "spectrum": "extremile", "parameter": 2.0},
        "check": lambda: {
            "y": labels_and(index=np.arange(8, dtype="int32")),
            "neutral": {"spectrum": "uniform", "gradient_table": False},
        },
    },
    "models.RegularizedModel": {"check": lambda: {"neutral": {}}, "no_paper": True},
    "models.RobustSelfSupervised": {
        "config": lambda: {"gamma": 2.0, "gamma_unlabeled": 3.0, "steps": 3},
        # The one training pass of a step is that on moved inputs.
        "check": lambda: {"neutral": {"factor": 0.0, "robust": False}, "skip": ("batch norm",)},
    },
    "models.SAM": {
        "config": lambda: {"rho": 0.1},
        "check": lambda: {"neutral": {"rho": 0.0}},
    },
    "models.SRSTAWR": {
        "config": lambda: {"teacher": teacher(), "attack": kr.attacks.FGSM(epsilon=0.1)},
    },
    "models.TRADES": {
        "config": lambda: {"attack": kr.attacks.FGSM(epsilon=0.1), "beta": 2.0},
        "check": lambda: {"neutral": {"beta": 0.0}},
    },
    "models.ManifoldSmooth": {
        "config": lambda: {"tolerance": 0.1, "num_samples": 8, "dual_learning_rate": 0.1},
        "check": lambda: {"y": labels_and(index=np.arange(8, dtype="int32"))},
    },
    "models.GrowNet": {
        "config": lambda: {"stages": 1, "hidden_units": 2},
        # It starts as a constant, and grows by a `fit` of its own: see its tests.
        "check": lambda: {"skip": ("saving", "jit")},
    },
    "models.HPM": {
        "config": lambda: {
            "patch_embedding": tokens(8, 4),
            "encoder": tokens(4, 4),
            "decoder": tokens(4, 8),
            "loss_predictor": tokens(4, 2),
            "patch_size": [2, 2],
        },
        "check": lambda: {"inputs": images()},
    },
    "layers.AffineCoupling": {"config": lambda: {"units": 4}},
    "layers.GaussianSampling": {"check": lambda: {"inputs": [views()[:, 0], views()[:, 1]]}},
    # Symmetric matrices; what is added to the model's is not added to the target.
    "losses.BuresWasserstein": {
        # Their squares overflow float16.
        "check": lambda: {
            "y_true": covariances()[:4],
            "y_pred": covariances()[4:],
            "extremes": [0.0 * covariances()[4:], 1e3 * covariances()[4:]],
        }
    },
    # The variance is that of the batch, of samples of a weight above 0.
    "losses.OptimalSigmaGaussian": {
        "check": lambda: {**columns(), "skip": (*BATCH_COUPLED, "sample weights")}
    },
    "metrics.FrechetDistance": {
        "config": lambda: {"feature_extractor": teacher()},
        "check": lambda: dict(zip(("y_true", "y_pred"), rows_of_four())),
    },
    "models.MixtureVAE": {
        "config": lambda: {
            "charts": [kr.generative.invertible_chart(3, 2, 1, 4) for _ in range(2)],
            "encoder_noise": 0.1,
            "decoder_noise": 0.5,
        },
    },
    "models.VAE": {
        "config": lambda: {"encoder": variational_encoder(), "decoder": dense_decoder()},
        # The first of its outputs, which is looked at, is the log-variance of the codes.
        "check": lambda: {"skip": ("randomness", "saving", "jit")},
    },
    "models.JODIE": {"config": lambda: {"num_users": 3, "num_items": 2}},
    "models.RepresentationGame": {"config": lambda: {"rank": 2}},
    "models.SelfTuningNetwork": {
        "config": lambda: {
            "hyperparameters": [kr.hyper.Hyperparameter("rate", 0.3, 0.0, 0.9)],
            "train_steps": 1,
            "warmup_epochs": 0,
            "seed": 1,
        },
        "check": lambda: {
            "network": self_tuning_network,
            # A validation batch beside each one for training.
            "y": labels_and(validation=((np.ones((8, 4), "float32"), np.arange(8) % 3),)),
            # The wrapped model is called with hyperparameters.
            "skip": ("inference", "batch norm", *RANDOM_STEP),
        },
    },
    "models.SRL": {
        "config": lambda: {
            "feature_layer": 0,
            "edges": [0.0, 0.5, 1.5, 2.5],
            "feature_dim": 4,
            "num_points": 5,
            "seed": 0,
        },
    },
    "models.SupNotMIWAE": {
        "config": lambda: missing_data_parts(),
        # Batches of other sizes and half precision: in its own tests, since JAX compiles each anew.
        "check": lambda: {"skip": ("independence", "half precision")},
    },
    "models.VAT": {
        "config": lambda: {"epsilon": 0.5, "seed": 1},
        "check": lambda: {"neutral": {"factor": 0.0}, "skip": RANDOM_STEP},
    },
    "models.ScheduledLoss": {
        "config": lambda: {
            "added_loss": kr.losses.PolyLoss(from_logits=True),
            "factor": 0.3,
        },
        "check": lambda: {"neutral": {"factor": 0.0}},
    },
    "models.WeightPenalty": {
        "config": lambda: {"penalty": keras.regularizers.L1(1.0), "factor": 0.1},
        "check": lambda: {"neutral": {"factor": 0.0}},
        "no_paper": True,
    },
    "models.WithLabels": {
        # The wrapped model takes a list, with labels in training, so it is not called alone.
        "check": lambda: {"network": network_with_labels, "skip": ("inference", "batch norm")},
        "no_paper": True,
    },
    "optimizers.AdaptiveGradientClipping": {
        "config": lambda: {"optimizer": keras.optimizers.SGD(0.1, momentum=0.9), "clipping": 0.2}
    },
    "optimizers.Masked": {"config": lambda: {"optimizer": keras.optimizers.Adam(0.01)}},
    "regularizers.CauchySchwarz": {"config": lambda: {"g": cube, "h": itself}},
    "regularizers.EigenvectorCauchySchwarz": {
        # A kernel for the matrix of its golden case, which is called on a vector.
        "check": lambda: {"weights": images()[0, :4, :3, 0]}
    },
    # Its value is 0 everywhere, its gradient is not.
    "regularizers.HyperSparse": {"check": lambda: {"skip": ("gradient",)}},
    # The samples that one is measured against are constants of the gradient.
    "regularizers.LDReg": {"check": lambda: {"skip": ("gradient",)}},
    # Without `factor` the lengths of features still count.
    "regularizers.TREG": {"check": lambda: {"skip": ("factor",)}},
    # Of images, not of rows: saved and fitted in its own tests.
    "regularizers.TotalVariation": {
        "check": lambda: {
            "activity": True,
            "shapes": [(1, 1, 1, 2), (2, 3, 4, 1)],
            "skip": ("saving", "jit"),
        }
    },
    "regularizers.attach": {"no_paper": True},
    "utils.AllBut": {"config": lambda: {"names": ["bias"]}, "no_paper": True},
}

# Models of inputs that no layer has, in a dictionary.
DICTIONARIES = {
    "models.JODIE",
    "models.ModularCaptioner",
    "models.DenoisingDiffusion",
    "models.PhysicsInformedDiffusion",
    "models.SUREScore",
}


def sequence(inputs, outputs):
    return keras.Sequential([keras.Input((inputs,)), keras.layers.Dense(outputs)])


def players(inputs, outputs, seen, logits=1):
    """A generator, and a discriminator of what it sees of samples."""
    return {"generator": sequence(inputs, outputs), "discriminator": sequence(seen, logits)}


def repelled():
    gan = kr.models.GAN(**players(2, 4, 4), latent_dim=2)
    references = [[w + 1.0 for w in gan.generator.get_weights()]]
    return {"gan": gan, "reference_weights": references, "alpha": 0.5, "kind": "inverse"}


# Public for subclasses alone.
BASES = {
    "attacks.Attack",
    "losses.ClassLoss",
    "losses.Loss",
    "losses.RegionLoss",
    "losses.SegmentationLoss",
    "models.AdversarialModel",
    "optimizers.OptimizerWrapper",
}

# Namespaces of tools to build with, which nothing saved contains.
TOOLS = {"autodiff", "numerics", "testing"}
