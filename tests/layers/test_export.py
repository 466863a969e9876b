"""Models with this package's layers leave Keras: `model.export` gives what `model.predict` gives."""

import keras
import numpy as np
import pytest
from keras import layers

import keras_regularize as kr
from keras_regularize.testing._common import to_numpy

K = kr.layers
X = np.random.default_rng(0).normal(size=(4, 6)).astype("float32")


def with_labels(head):
    x, labels = keras.Input((6,)), keras.Input((), dtype="int32", optional=True)
    return kr.models.WithLabels(keras.Model([x, labels], head([layers.Dense(5)(x), labels])))


def chain(*parts):
    return keras.Sequential([keras.Input((6,)), *parts])


MODELS = {
    "heads": lambda: with_labels(K.ArcFace(4, [0.1, 0.2, 0.3, 0.4], sub_centers=2)),
    "AdaFace": lambda: with_labels(K.AdaFace(4)),
    "NeuralCollapse": lambda: with_labels(K.NeuralCollapse(4)),
    "RationaleDense": lambda: with_labels(K.RationaleDense(4)),
    "activations": lambda: chain(
        layers.Dense(4), K.FakeQuantize(4), K.LearnedClipQuantizer(4), K.NestedDropout(3.0)
    ),
    "QuantizedWeights": lambda: chain(
        K.QuantizedInputs(K.QuantizedWeights(layers.Dense(4))),
        K.QuantizedWeights(layers.Dense(4), 4, False, False),
    ),
    "ElasticQuantized": lambda: chain(K.ElasticQuantized(layers.Dense(4), (2, 4))),
    "ElasticQuantization": lambda: kr.models.ElasticQuantization(
        chain(layers.Dense(4), layers.Dense(3)), (2, 4)
    ),
    "functions of weights": lambda: chain(
        K.WeightCompander(layers.Dense(4)),
        K.WeightConditioning(layers.Dense(4)),
        K.BitWeights(layers.Dense(4)),
    ),
    "folded": lambda: chain(folded(K.QuantizedWeights(layers.Dense(4)))),
}


def folded(wrapper):
    wrapper(X)
    return wrapper.fold()


@pytest.mark.everywhere
@pytest.mark.skipif(keras.backend.backend() == "jax", reason="exports by way of TensorFlow")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", MODELS)
def test_exported_models_predict_the_same(name, tmp_path):
    model = MODELS[name]()
    expected = model.predict(X, verbose=0)
    if keras.backend.backend() == "torch":
        try:
            model.export(str(tmp_path / "model.pt2"), format="torch", verbose=False)
        except ValueError as error:
            if "Unrecognized format" in str(error):
                pytest.skip("this Keras has no export to torch")
            raise
        assert (tmp_path / "model.pt2").stat().st_size > 0
        return
    model.export(str(tmp_path / "model"), verbose=False)
    loaded = keras.layers.TFSMLayer(str(tmp_path / "model"), call_endpoint="serve")
    np.testing.assert_allclose(to_numpy(loaded(X)), expected, rtol=1e-5, atol=1e-5)
