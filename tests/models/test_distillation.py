"""Distillation: the objective in float64, outputs in every form, the teacher's state, what it nests with."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import keras_regularize as kr

RNG = np.random.RandomState(0)
X, Y = RNG.rand(10, 4).astype("float32"), RNG.randint(0, 3, 10)
WEIGHTS = np.linspace(0.5, 1.5, 10).astype("float32")
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def network(seed, last=None, outputs=3, penalty="l2"):
    keras.utils.set_random_seed(seed)
    hidden = layers.Dense(5, "tanh", kernel_regularizer=penalty)
    # Large, so that the predictions of two networks differ.
    start = keras.initializers.RandomNormal(stddev=2.0)
    return keras.Sequential(
        [keras.Input((4,)), hidden, layers.Dense(outputs, last, kernel_initializer=start)]
    )


def logged(model, y=Y, loss=LOSS, x=X, rate=0.0, **arguments):
    """The loss of one step; eagerly, which is faster for one."""
    model.compile(keras.optimizers.SGD(rate), loss, run_eagerly=True)
    return float(model.train_on_batch(x, y, **arguments))


def log_softmax(z):
    z = np.asarray(z, "float64")
    z = z - z.max(-1, keepdims=True)
    return z - np.log(np.exp(z).sum(-1, keepdims=True))


def kl(log_p, log_q):
    return np.sum(np.exp(log_p) * (log_p - log_q), axis=-1)


def divergence(name, y, z, v, temperature):
    """Of one sample."""
    if name == "mse":
        return np.mean((np.exp(log_softmax(z)) - np.exp(log_softmax(v))) ** 2)
    z, v = log_softmax(z / temperature), log_softmax(v / temperature)
    if name == "kl":
        return temperature**2 * kl(v, z)
    own, others = ([np.log([np.exp(s[y]), 1 - np.exp(s[y])]) for s in (v, z)], [])
    for s in (v, z):
        others.append(log_softmax(np.delete(s, y)))
    return temperature**2 * (kl(*own) + 8 * kl(*others))


@pytest.mark.parametrize("name", ["kl", "dkd", "mse"])
def test_the_objective_equals_the_formula(name):
    net, teacher = network(1), network(2)
    z, v = (np.asarray(ops.convert_to_numpy(m(X)), "float64") for m in (net, teacher))
    labels = -log_softmax(z)[np.arange(10), Y]
    taught = np.array([divergence(name, *row, 2.5) for row in zip(Y, z, v)])
    penalty = 0.01 * np.sum(net.get_weights()[0] ** 2)
    assert np.min(taught) > 1e-4
    for weights in (None, WEIGHTS):
        model = kr.models.Distillation(net, teacher, 0.3, 2.5, name)
        factor = 1.0 if weights is None else weights
        expected = penalty + np.mean(factor * (0.3 * labels + 0.7 * taught))
        assert logged(model, sample_weight=weights) == pytest.approx(expected, rel=1e-4)


def test_the_form_of_the_outputs_does_not_matter():
    name = "sparse_categorical_crossentropy"
    for loss in ("kl", "mse"):
        # The outputs of a teacher without a loss are taken to be like the model's.
        expected = logged(kr.models.Distillation(network(1), network(2), 0.3, loss=loss))
        same = kr.models.Distillation(network(1, "softmax"), network(2, "softmax"), 0.3, loss=loss)
        assert logged(same, loss=name) == pytest.approx(expected, rel=1e-4)
        teacher = network(2, "softmax")
        teacher.compile(loss=name)
        mixed = kr.models.Distillation(network(1), teacher, 0.3, loss=loss)
        assert logged(mixed) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("name", ["kl", "dkd", "mse"])
def test_one_column_is_two_classes(name):
    binary = keras.losses.BinaryCrossentropy(from_logits=True)
    y = (Y > 0).astype("float32")[:, None]
    nets = [network(seed, outputs=1) for seed in (1, 2)]
    expected = logged(kr.models.Distillation(*nets, 0.0, loss=name), y, binary)
    two = [network(seed, outputs=2) for seed in (1, 2)]
    for one, other in zip(nets, two):
        kernel, bias, last, shift = one.get_weights()
        other.set_weights([kernel, bias, np.hstack([0 * last, last]), np.append(0, shift)])
    got = logged(kr.models.Distillation(*two, 0.0, loss=name), y[:, 0].astype("int32"))
    assert got == pytest.approx(expected, rel=1e-4)


def test_the_outputs_of_a_regression_are_distilled_as_they_are():
    net, teacher = network(1, penalty=None, outputs=1), network(2, outputs=1)
    f, t = (ops.convert_to_numpy(m(X))[:, 0] for m in (net, teacher))
    y = RNG.normal(size=10)
    expected = 0.4 * np.mean((f - y) ** 2) + 0.6 * np.mean((f - t) ** 2)
    model = kr.models.Distillation(net, teacher, 0.4, loss="mse")
    assert logged(model, y[:, None], "mse") == pytest.approx(expected, rel=1e-5)


def test_positions_count_as_samples_and_alpha_may_be_a_schedule():
    x, y = X.reshape(2, 5, 4), Y.reshape(2, 5)
    alpha = keras.optimizers.schedules.PiecewiseConstantDecay([0], [1.0, 0.3])

    def of_positions(seed):
        return keras.Sequential([keras.Input((5, 4)), *network(seed).layers])

    flat = logged(kr.models.Distillation(network(1), network(2), 0.3, loss="dkd"))
    model = kr.models.Distillation(of_positions(1), of_positions(2), alpha, loss="dkd")
    labels = logged(model, y, LOSS, x)
    assert labels == pytest.approx(logged(kr.models.RegularizedModel(network(1))), rel=1e-5)
    assert float(model.train_on_batch(x, y)) == pytest.approx(flat, rel=1e-5)


def test_the_teacher_is_frozen_saved_and_run_in_inference_mode(tmp_path):
    def normalized(seed):
        keras.utils.set_random_seed(seed)
        return keras.Sequential(
            [keras.Input((4,)), layers.Dense(5), layers.BatchNormalization(), layers.Dense(3)]
        )

    teacher, net = kr.models.SAM(normalized(2)), normalized(1)
    before, moved = teacher.get_weights(), net.layers[1].moving_mean.numpy()
    model = kr.models.Distillation(net, teacher, 0.3)
    model.compile(keras.optimizers.SGD(0.1), LOSS)
    model.train_on_batch(X, Y)
    assert len(model.trainable_variables) == len(net.trainable_variables) == 6
    assert np.any(net.layers[1].moving_mean.numpy() != moved)
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    for a, b, c in zip(before, teacher.get_weights(), loaded.teacher.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(a, c)
    assert loaded.train_on_batch(X, Y) == pytest.approx(model.train_on_batch(X, Y), rel=1e-6)


def test_alpha_weights_what_the_wrapped_model_trains_on():
    # Half of the loss on attacked inputs, half of the divergence on clean ones.
    attack = kr.attacks.FGSM(0.1)
    for wrap in (kr.models.AdversarialTraining, kr.models.TRADES):
        parts = [
            logged(kr.models.Distillation(wrap(network(1), attack), network(2), alpha))
            for alpha in (0.0, 0.5, 1.0)
        ]
        assert parts[1] == pytest.approx((parts[0] + parts[2]) / 2, rel=1e-5)
        assert parts[0] == pytest.approx(
            logged(kr.models.Distillation(network(1), network(2), 0.0)), rel=1e-5
        )
        assert parts[2] == pytest.approx(logged(wrap(network(1), attack)), rel=1e-5)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"teacher": keras.Sequential([layers.Dense(3)])}, "`teacher` must be a trained"),
        ({"teacher": "net"}, "`teacher` must be a trained"),
        ({"alpha": 1.5}, "`alpha` must be"),
        ({"temperature": 0}, "`temperature` must be a number above 0"),
        ({"loss": "ce"}, "`loss` must be one of 'kl', 'dkd', 'mse'"),
    ],
)
def test_bad_arguments(change, message):
    with pytest.raises(ValueError, match=message):
        kr.models.Distillation(**{"model": network(1), "teacher": network(2), **change})


def test_outputs_and_weights_must_fit():
    net = network(1)
    for teacher in (net, keras.Model(net.inputs[0], layers.Dense(3)(net.layers[0].output))):
        with pytest.raises(ValueError, match="must share no trainable weights"):
            kr.models.Distillation(net, teacher)
    net.layers[0].trainable = False
    teacher = keras.Model(net.inputs[0], layers.Dense(4)(net.layers[0].output))
    before = net.get_weights()
    with pytest.raises(ValueError, match="outputs must have the shape of the model's.*4.*3"):
        logged(kr.models.Distillation(net, teacher))
    np.testing.assert_equal(net.get_weights(), before)


def test_a_softmax_teacher_without_a_loss_gives_probabilities():
    expected = logged(kr.models.Distillation(network(1), network(2), 0.3))
    softmax = kr.models.Distillation(network(1), network(2, "softmax"), 0.3)
    assert logged(softmax) == pytest.approx(expected, rel=1e-4)


class Taught(keras.Model):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def call(self, x):
        return self.net(x)


def test_a_teacher_that_does_not_say_what_it_gives_out():
    expected = logged(kr.models.Distillation(network(1), network(2), 0.3))
    teacher = Taught(network(2))
    teacher(X)
    model = kr.models.Distillation(network(1), teacher, 0.3)
    with pytest.raises(ValueError, match="`from_logits=True`.*for model and teacher"):
        logged(model)
    model = kr.models.Distillation(network(1), teacher, 0.3, from_logits=True)
    assert logged(model) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("kind", ["Distillation", "SRSTAWR"])
def test_a_teacher_never_thaws(kind, tmp_path):
    def teacher():
        keras.utils.set_random_seed(2)
        parts = [layers.Dense(5), layers.BatchNormalization(), layers.Dropout(0.9), layers.Dense(3)]
        return keras.Sequential([keras.Input((4,)), *parts])

    def make():
        if kind == "Distillation":
            return kr.models.Distillation(network(1), teacher(), 0.3)
        return kr.models.SRSTAWR(network(1), teacher(), kr.attacks.FGSM(0.1))

    def thaw_outside(model):
        outer = kr.models.SAM(model)
        outer.trainable = False
        outer.trainable = True
        return outer

    def thaw(model):
        model.trainable = False
        assert not model.trainable_variables
        model.trainable = True
        return model

    def reload(model):
        thaw(model).compile("sgd", LOSS)
        model.save(tmp_path / "m.keras")
        return thaw(keras.models.load_model(tmp_path / "m.keras"))

    expected = logged(make(), rate=0.1)
    for change in (thaw, thaw_outside, reload):
        model = change(make())
        inner = model.model if change is thaw_outside else model
        assert len(model.trainable_variables) == 4
        before = inner.teacher.get_weights()
        model.compile(keras.optimizers.SGD(0.1, weight_decay=0.1), LOSS, run_eagerly=True)
        loss = float(model.train_on_batch(X, Y))
        if change is not thaw_outside:
            assert loss == pytest.approx(expected, rel=1e-5)
        for a, b in zip(before, inner.teacher.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)
    # Trained alone in between.
    model = make()
    model.teacher.trainable = True
    assert logged(model, rate=0.1) == pytest.approx(expected, rel=1e-5)
    assert len(model.trainable_variables) == 4


def test_a_frozen_student_stays_frozen_when_loaded(tmp_path):
    model = kr.models.Distillation(network(1), network(2), 0.3)
    model.model.layers[0].trainable = False
    model.compile("sgd", LOSS)
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    assert len(loaded.trainable_variables) == 2
    assert not loaded.teacher.trainable


@pytest.mark.parametrize("reduction", ["mean_with_sample_weight", "sum_over_batch_size", "sum"])
def test_alpha_weights_the_loss_whatever_its_reduction(reduction):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction=reduction)
    for weights in (None, WEIGHTS):
        parts = [
            logged(
                kr.models.Distillation(network(1), network(2), a), Y, loss, sample_weight=weights
            )
            for a in (0.0, 0.3, 1.0)
        ]
        plain = logged(kr.models.RegularizedModel(network(1)), Y, loss, sample_weight=weights)
        assert parts[2] == pytest.approx(plain, rel=1e-5)
        assert parts[1] == pytest.approx(0.7 * parts[0] + 0.3 * parts[2], rel=1e-5)


def test_an_own_compute_loss_is_weighted_too():
    class Doubled(keras.Sequential):
        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
            return 2.0 * super().compute_loss(x, y, y_pred, sample_weight, training)

    net = Doubled([keras.Input((4,)), *network(1, penalty=None).layers])
    parts = [logged(kr.models.Distillation(net, network(2), a)) for a in (0.0, 0.3, 1.0)]
    assert parts[1] == pytest.approx(0.7 * parts[0] + 0.3 * parts[2], rel=1e-5)


# Chosen layers


def two_layers(seed, kind="functional", width=5):
    """Named `hidden` and `scores`, the same numbers in every kind of model."""
    keras.utils.set_random_seed(seed)
    hidden = layers.Dense(width, "tanh", name="hidden")
    scores = layers.Dense(3, name="scores")
    if kind == "sequential":
        return keras.Sequential([keras.Input((4,)), hidden, scores])
    if kind == "nested":
        x = keras.Input((4,))
        return keras.Model(x, scores(keras.Sequential([keras.Input((4,)), hidden])(x)))
    if kind == "subclassed":
        model = InParts(hidden, scores)
        model(X)
        return model
    x = keras.Input((4,))
    return keras.Model(x, scores(hidden(x)))


class InParts(keras.Model):
    def __init__(self, hidden, scores):
        super().__init__()
        self.hidden, self.scores = hidden, scores

    def call(self, x):
        return self.scores(self.hidden(x))


def hidden_of(net):
    kernel, bias = (np.asarray(w, "float64") for w in net.get_weights()[:2])
    return np.tanh(X @ kernel + bias)


@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("kind", ["functional", "sequential", "nested", "subclassed"])
def test_chosen_layers_add_their_squared_distance(kind, weights):
    net, teacher = two_layers(1, kind), two_layers(2)
    plain = logged(kr.models.Distillation(net, teacher, 0.3), sample_weight=weights)
    distance = np.mean((hidden_of(net) - hidden_of(teacher)) ** 2, axis=1)
    expected = plain + 0.7 * 2.0 * np.mean(distance * (1.0 if weights is None else weights))
    pair = (net.hidden if kind == "subclassed" else "hidden", teacher.get_layer("hidden"))
    for chosen in (["hidden"], [pair]):
        model = kr.models.Distillation(net, teacher, 0.3, layers=chosen, layer_factor=2.0)
        assert logged(model, sample_weight=weights) == pytest.approx(expected, rel=1e-5)
    assert distance.mean() > 1e-2


@pytest.mark.parametrize("eagerly", [True, False])
def test_the_gradient_of_chosen_layers_reaches_what_is_below_them_alone(eagerly):
    net, teacher = two_layers(1), two_layers(2)
    before = [np.asarray(w, "float64") for w in net.get_weights()]
    h, g = hidden_of(net), hidden_of(teacher)
    slope = 2 * (h - g) / h.size * (1 - h**2)
    steps = []
    for factor in (0.0, 3.0):
        net.set_weights(before)
        model = kr.models.Distillation(net, teacher, 0.0, layers=["hidden"], layer_factor=factor)
        model.compile(keras.optimizers.SGD(1.0), LOSS, run_eagerly=eagerly)
        model.fit(X, Y, batch_size=10, verbose=0)
        steps.append(net.get_weights())
    np.testing.assert_allclose(steps[0][0] - steps[1][0], 3 * X.T @ slope, atol=1e-5)
    np.testing.assert_allclose(steps[0][1] - steps[1][1], 3 * slope.sum(0), atol=1e-5)
    np.testing.assert_allclose(steps[0][2], steps[1][2], atol=1e-6)


def test_chosen_layers_of_models_around_and_inside():
    """The distance is that on the clean inputs, whatever the wrapped model trains on."""
    net, teacher = two_layers(1), two_layers(2)
    distance = np.mean((hidden_of(net) - hidden_of(teacher)) ** 2)
    attack = kr.attacks.FGSM(0.1)
    for wrap in (
        lambda net: kr.models.AdversarialTraining(net, attack),
        lambda net: kr.models.TRADES(net, attack),
        lambda net: kr.models.Distillation(net, two_layers(3), 0.5, layers=["hidden"]),
    ):
        plain, hinted = (
            logged(kr.models.SAM(kr.models.Distillation(wrap(net), teacher, 0.5, layers=chosen)))
            for chosen in (None, ["hidden"])
        )
        assert hinted - plain == pytest.approx(0.5 * distance, rel=1e-3)


def test_chosen_layers_of_other_sizes_and_with_masks():
    ids = RNG.randint(1, 6, (8, 4))
    ids[:, 2:] = 0
    ids[0] = [1, 2, 3, 4]

    def recurrent(seed, length):
        keras.utils.set_random_seed(seed)
        given = keras.Input((4,), dtype="int32")
        words = layers.Embedding(6, 3, mask_zero=True, name="words")(given)
        cut = words if length == 4 else layers.Cropping1D((0, 4 - length), name="cut")(words)
        return keras.Model(given, layers.Dense(3)(layers.GRU(4)(words))), keras.Model(given, cut)

    y = RNG.randint(0, 3, 8)
    (net, _), (teacher, _) = recurrent(1, 4), recurrent(2, 4)
    table, other = (np.asarray(m.get_weights()[0], "float64") for m in (net, teacher))
    squares = np.mean((table[ids] - other[ids]) ** 2, axis=-1)
    expected = np.sum(squares * (ids > 0)) / np.sum(ids > 0)
    losses = [
        logged(kr.models.Distillation(net, teacher, 0.0, layers=chosen), y, x=ids)
        for chosen in (None, ["words"])
    ]
    assert losses[1] - losses[0] == pytest.approx(expected, rel=1e-3)

    # A student of another resolution: both are averaged over positions.
    def image(seed, size):
        keras.utils.set_random_seed(seed)
        x = keras.Input((8, 8, 1))
        h = layers.AveragePooling2D(8 // size)(layers.Conv2D(2, 1)(x))
        h = layers.Activation("linear", name="map")(h)
        return keras.Model(x, layers.Dense(3)(layers.Flatten()(h)))

    pixels = RNG.rand(6, 8, 8, 1).astype("float32")
    net, teacher = image(1, 4), image(2, 8)
    means = []
    for model in (net, teacher):
        kernel, bias = model.get_weights()[:2]
        means.append(pixels.mean((1, 2)) * kernel[0, 0] + bias)
    expected = np.mean((means[0] - means[1]) ** 2)
    losses = [
        logged(kr.models.Distillation(net, teacher, 0.0, layers=chosen), Y[:6], x=pixels)
        for chosen in (None, ["map"])
    ]
    assert losses[1] - losses[0] == pytest.approx(expected, rel=1e-3)


def test_chosen_layers_are_saved(tmp_path):
    model = kr.models.Distillation(
        two_layers(1), two_layers(2), layers=["hidden", ("scores", "scores")], layer_factor=0.5
    )
    model.compile(keras.optimizers.SGD(0.1), LOSS)
    model.train_on_batch(X, Y)
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    assert loaded.get_config()["layers"] == [["hidden", "hidden"], ["scores", "scores"]]
    assert loaded.get_config()["layer_factor"] == 0.5
    assert loaded.train_on_batch(X, Y) == pytest.approx(model.train_on_batch(X, Y), rel=1e-6)


def test_layers_that_do_not_fit_are_refused():
    net, teacher = two_layers(1), two_layers(2, width=6)
    for chosen in ([1], [("hidden",)], [("a", "b", "c")]):
        with pytest.raises(ValueError, match="`layers` must be a list of names"):
            kr.models.Distillation(net, teacher, layers=chosen)
    with pytest.raises(ValueError, match="`layer_factor` must be"):
        kr.models.Distillation(net, teacher, layers=["hidden"], layer_factor=-1.0)
    with pytest.raises(ValueError, match="unique among"):
        logged(kr.models.Distillation(net, teacher, layers=["missing"]))
    before = net.get_weights()
    with pytest.raises(ValueError, match=r"shape of the teacher's.*\(10, 5\).*\(10, 6\)"):
        logged(kr.models.Distillation(net, teacher, layers=["hidden"]))
    np.testing.assert_equal(net.get_weights(), before)
    shared = layers.Dense(4, name="shared")
    x = keras.Input((4,))
    twice = keras.Model(x, layers.Dense(3)(shared(shared(x))))
    with pytest.raises(ValueError, match="called once in a pass.*called 2 times"):
        logged(kr.models.Distillation(twice, teacher, layers=[("shared", "hidden")]))
