import keras
import numpy as np
import pytest
from keras import layers, ops

import keras_regularize as kr

X, Y = np.random.RandomState(0).rand(16, 4).astype("float32"), np.zeros((16, 1), "float32")


@keras.saving.register_keras_serializable("tests")
def joint_norm(weights):
    return kr.numerics.global_norm(weights)


def network(regularizer=None):
    keras.utils.set_random_seed(1)
    return keras.Sequential(
        [
            keras.Input((4,)),
            layers.Dense(3, kernel_regularizer=regularizer),
            layers.Dense(1, kernel_regularizer=regularizer),
        ]
    )


def train(model, epochs=2):
    model.compile(keras.optimizers.SGD(0.1), "mse")
    return model.fit(X, Y, epochs=epochs, batch_size=16, shuffle=False, verbose=0).history["loss"]


def test_a_regularizer_on_kernels_equals_keras_own():
    net, own = network(), network(keras.regularizers.L2(0.05))
    wrapped = kr.models.WeightPenalty(net, keras.regularizers.L2(0.5), factor=0.1)
    np.testing.assert_allclose(train(wrapped), train(own), rtol=1e-5)
    for a, b in zip(net.get_weights(), own.get_weights()):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_joint_penalty_selection_and_schedule():
    net = network()
    kernels = [w for w in net.get_weights() if w.ndim == 2]
    plain = train(network(), epochs=1)[0]
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([0], [0.25, 0.0])
    model = kr.models.WeightPenalty(net, joint_norm, schedule)
    expected = plain + 0.25 * np.sqrt(sum((w**2).sum() for w in kernels))
    assert train(model, epochs=1)[0] == pytest.approx(expected, rel=1e-5)
    biases = kr.models.WeightPenalty(network(), joint_norm, where="bias")
    assert train(biases, epochs=1)[0] == pytest.approx(plain, rel=1e-5)


def test_penalty_is_at_the_perturbed_weights_under_sam():
    own = kr.models.SAM(network(keras.regularizers.L2(0.05)), rho=0.5)
    ours = kr.models.SAM(kr.models.WeightPenalty(network(), keras.regularizers.L2(0.05)), rho=0.5)
    np.testing.assert_allclose(train(ours, 3), train(own, 3), rtol=1e-5)


def test_saves(tmp_path):
    model = kr.models.WeightPenalty(network(), joint_norm, 0.5, where=None)
    train(model)
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    assert loaded.penalty is joint_norm and loaded.where is None
    assert train(loaded) == train(model)


def test_nothing_chosen_is_an_error_that_leaves_the_weights():
    net = network()
    before = net.get_weights()
    with pytest.raises(ValueError, match="No trainable variable matches `where='kernels'`"):
        train(kr.models.WeightPenalty(net, lambda w: ops.sum(w[0]), where="kernels"))
    np.testing.assert_array_equal(before[0], net.get_weights()[0])


def moved_network():
    """A network away from where it was made, and its weights there."""
    net = network()
    start = net.get_weights()
    net.set_weights([w + 0.5 for w in start])
    return net, start


def test_anchors_equal_a_regularizer_with_a_reference_and_are_saved_as_weights(tmp_path):
    net, start = moved_network()
    model = kr.models.WeightPenalty(net, keras.regularizers.L2(0.3), anchors="plain")
    model.set_anchors(start)
    own, _ = moved_network()
    references = dict(zip([v.path for v in own.weights], start))
    kr.regularizers.attach(own, lambda v: kr.regularizers.L2ToReference(references[v.path], 0.3))
    np.testing.assert_allclose(train(model), train(own), rtol=1e-5)
    model.save(tmp_path / "m.keras")
    assert len(str(model.get_config())) < 10_000
    loaded = keras.models.load_model(tmp_path / "m.keras")
    anchors = [v.numpy() for v in loaded.non_trainable_variables]
    np.testing.assert_array_equal(anchors[0], start[0])
    np.testing.assert_array_equal(anchors[1], start[2])
    np.testing.assert_allclose(train(loaded), train(own), rtol=1e-5)


def test_weighted_anchors_are_elastic_weight_consolidation():
    net, start = moved_network()
    rng = np.random.default_rng(0)
    importance = [rng.uniform(size=w.shape) for w in start]
    model = kr.models.WeightPenalty(
        net, keras.regularizers.L2(0.5), 2.0, where=None, anchors="weighted"
    )
    model.set_anchors(start, importance)
    distance = sum((f * 0.25).sum() for f in importance)
    plain = train(moved_network()[0], epochs=1)[0]
    assert train(model, epochs=1)[0] == pytest.approx(plain + distance, rel=1e-4)
    # By default the present weights, and the importance as it is.
    model.set_anchors()
    *anchors, _, _, _, root = [v.numpy() for v in model.non_trainable_variables]
    np.testing.assert_array_equal(anchors[0], net.get_weights()[0])
    np.testing.assert_allclose(root, np.sqrt(importance[-1]), rtol=1e-5)


def test_anchors_need_a_built_model_and_arrays_that_fit():
    l2 = keras.regularizers.L2(1.0)
    with pytest.raises(ValueError, match="No trainable variable matches `where='kernel'`"):
        kr.models.WeightPenalty(keras.Sequential([layers.Dense(2)]), l2, anchors="plain")
    with pytest.raises(ValueError, match="`anchors` must be one of None, 'plain', 'weighted'"):
        kr.models.WeightPenalty(network(), l2, anchors=True)
    with pytest.raises(ValueError, match='`set_anchors` needs `anchors="plain"` at construction'):
        kr.models.WeightPenalty(network(), l2).set_anchors()
    model = kr.models.WeightPenalty(network(), l2, anchors="plain")
    with pytest.raises(ValueError, match='`set_anchors` needs `anchors="weighted"`'):
        model.set_anchors(importance=model.get_weights())
    with pytest.raises(ValueError, match="`weights` must have an array for each"):
        model.set_anchors([np.zeros((4, 3))])
    weighted = kr.models.WeightPenalty(network(), l2, anchors="weighted")
    with pytest.raises(ValueError, match="`importance` must not be negative"):
        weighted.set_anchors(importance=[w - 10 for w in network().get_weights()])
    net = network()
    net.layers[0].trainable = False
    late = kr.models.WeightPenalty(net, l2, anchors="plain")
    net.layers[0].trainable = True
    with pytest.raises(ValueError, match="has no anchor, as it was not trainable"):
        train(late)
