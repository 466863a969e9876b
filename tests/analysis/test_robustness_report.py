"""The report against its parts, in any form of data; that it is a table; the effect of training on noise."""

import json

import keras
import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.metrics import accuracy_score, log_loss

import keras_regularize as kr
from keras_regularize.analysis import robustness_report

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def digits():
    x, y = load_digits(return_X_y=True)
    return (x / 16).astype("float32").reshape(-1, 8, 8, 1), y


def trained(x, y, noise=0.0, activation=None, epochs=3):
    keras.utils.set_random_seed(0)
    layers = [keras.layers.GaussianNoise(noise)] if noise else []
    hidden = keras.layers.Dense(64, "relu")
    head = keras.layers.Dense(10, activation)
    flatten = keras.layers.Flatten()
    model = keras.Sequential([keras.Input(x.shape[1:]), *layers, flatten, hidden, head])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=activation is None)
    model.compile(keras.optimizers.Adam(0.01), loss)
    model.fit(x, y, batch_size=64, epochs=epochs, verbose=0)
    return model


@pytest.mark.rotating
def test_the_report_is_made_of_its_parts():
    x, y = digits()
    model, x, y = trained(x[:800], y[:800]), x[800:900], y[800:900]
    attack = kr.attacks.FGSM(0.05)
    other = np.random.default_rng(0).uniform(size=(50, 8, 8, 1))
    options = {"severities": [2, 5], "verbose": 0, "seed": 3}
    report = robustness_report(
        model, x, y, {"noise": other}, ["fog", "occlusion"], attacks={"one": attack}, **options
    )
    z = model.predict(x, verbose=0)
    assert report.size == 100
    assert report.clean["accuracy"] == accuracy_score(y, z.argmax(axis=1))
    p = np.exp(z - np.log(np.exp(z).sum(axis=1, keepdims=True)))
    p /= p.sum(axis=1, keepdims=True)
    expected = log_loss(y, p, labels=range(10))
    assert report.clean["negative_log_likelihood"] == pytest.approx(expected, rel=1e-5)
    diagram = kr.analysis.reliability_diagram(y, z, from_logits=True)
    error = diagram.expected_calibration_error
    assert report.clean["expected_calibration_error"] == pytest.approx(error)
    for name in ("fog", "occlusion"):
        for severity in (2, 5):
            moved = model.predict(kr.analysis.corrupt(x, name, severity, 3), verbose=0)
            accuracy = accuracy_score(y, moved.argmax(axis=1))
            assert report.corruptions[name][severity] == pytest.approx(accuracy)
    robust = kr.analysis.robust_accuracy(model, x, y, attack)
    assert report.attacks == {"one": pytest.approx(robust)}
    found = kr.analysis.out_of_distribution_scores(
        kr.analysis.energy_score(z), kr.analysis.energy_score(model.predict(other, verbose=0))
    )
    assert report.out_of_distribution["noise"]["energy"] == pytest.approx(found)
    errors = [1 - a for row in report.corruptions.values() for a in row.values()]
    assert report.mean_corruption_error() == pytest.approx(np.mean(errors))
    assert report.mean_corruption_error(report) == pytest.approx(1.0)
    assert json.loads(json.dumps(report.to_dict()))["corruptions"]["fog"]["5"] == pytest.approx(
        report.corruptions["fog"][5]
    )
    with pytest.raises(ValueError, match="`reference` must be a report on the same corruptions"):
        report.mean_corruption_error(
            robustness_report(model, x, y, corruptions=["fog"], attacks=(), **options)
        )


@pytest.mark.rotating
def test_any_form_of_data_and_everything_by_default():
    x, y = digits()
    model, x, y = trained(x[:800], y[:800], activation="softmax"), x[800:860], y[800:860]
    whole = robustness_report(model, x, np.eye(10)[y], out_of_distribution=x[:, ::-1], verbose=0)
    assert set(whole.corruptions) == set(kr.analysis.CORRUPTIONS)
    assert set(whole.out_of_distribution["other"]) == {"max softmax", "entropy"}
    assert all(len(line) <= 80 for line in str(whole).splitlines())
    batches = [(x[:40], y[:40], np.ones(40)), (x[40:], y[40:], np.ones(20))]
    off = {"corruptions": (), "attacks": (), "verbose": 0}

    class Data(keras.utils.PyDataset):
        def __len__(self):
            return 2

        def __getitem__(self, index):
            return batches[index]

    for data in (Data(), iter(batches), (pair for pair in batches)):
        report = robustness_report(model, data, **off)
        assert report.clean == pytest.approx(whole.clean)
        assert report.corruptions == report.attacks == report.out_of_distribution == {}
        assert np.isnan(report.mean_corruption_error())
        assert len(str(report).splitlines()) == 3
    flat = keras.Sequential([keras.Input((64,)), keras.layers.Reshape((8, 8, 1)), model])
    report = robustness_report(
        flat, x.reshape(-1, 64), y, attacks=[kr.attacks.FGSM()] * 2, verbose=0
    )
    assert set(report.corruptions) == {
        "gaussian_noise",
        "shot_noise",
        "impulse_noise",
        "brightness",
        "contrast",
    }
    assert list(report.attacks) == ["FGSM", "FGSM (2)"]


@pytest.mark.rotating
@pytest.mark.parametrize("kind", ["tf.data", "DataLoader"])
def test_datasets_of_other_libraries(kind):
    x, y = digits()
    model, x, y = trained(x[:100], y[:100], epochs=1), x[100:130], y[100:130]
    negatives = 1.0 - x[:20]  # Of images that stand in both sets rounding decides who is first.
    if kind == "tf.data":
        tf = pytest.importorskip("tensorflow")
        data, other = (tf.data.Dataset.from_tensor_slices(d).batch(16) for d in ((x, y), negatives))
    else:
        torch = pytest.importorskip("torch")
        tensors = torch.utils.data.TensorDataset(torch.tensor(x), torch.tensor(y))
        data = torch.utils.data.DataLoader(tensors, batch_size=16)
        other = torch.tensor(negatives)
    options = {"corruptions": ["fog"], "severities": [2], "verbose": 0}
    options["attacks"] = [kr.attacks.FGSM(0.05)]
    found = robustness_report(model, data, out_of_distribution=other, **options)
    expected = robustness_report(model, x, y, negatives, **options)
    assert found.to_dict() == expected.to_dict()


@pytest.mark.rotating
def test_it_is_drawn():
    pyplot = pytest.importorskip("matplotlib.pyplot")
    x, y = digits()
    model = trained(x[:100], y[:100], epochs=1)
    report = robustness_report(model, x[:20], y[:20], corruptions=["fog"], verbose=0)
    figure, axes = pyplot.subplots()
    assert report.plot(axes) is axes
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == ["clean", "fog", "FGSM, 8/255", "PGD, 8/255, 10 steps"]
    pyplot.close(figure)


@pytest.mark.rotating
def test_training_on_noise_gains_on_noise():
    x, y = digits()
    errors = []
    for noise in (0.0, 0.3):
        model = trained(x[:800], y[:800], noise, epochs=20)
        noisy = np.clip(x[800:] + np.random.default_rng(0).normal(0, 0.3, x[800:].shape), 0, 1)
        report = robustness_report(
            model,
            noisy.astype("float32"),
            y[800:],
            corruptions=["impulse_noise"],
            severities=[5],
            attacks=[kr.attacks.FGSM(0.1)],
            verbose=0,
        )
        errors.append((report.mean_corruption_error(), 1 - report.attacks["FGSM"]))
    assert errors[1][0] < errors[0][0] - 0.05
    assert errors[1][1] < errors[0][1] - 0.05


@pytest.mark.rotating
def test_several_inputs_and_errors():
    x, y = digits()
    parts = [keras.Input((8, 8, 1), name=name) for name in ("a", "b")]
    joined = keras.layers.Concatenate()([keras.layers.Flatten()(part) for part in parts])
    model = keras.Model({"a": parts[0], "b": parts[1]}, keras.layers.Dense(10)(joined))
    model.compile(loss=LOSS)
    pair = {"a": x[:20], "b": x[:20]}
    report = robustness_report(model, pair, y[:20], verbose=0)
    assert report.corruptions == {} and len(report.attacks) == 2
    options = {"verbose": 0}
    with pytest.raises(ValueError, match="Only inputs of one array can be corrupted"):
        robustness_report(model, pair, y[:20], corruptions=["fog"], **options)
    single = trained(x[:100], y[:100], epochs=1)
    for bad, message in (
        ({"corruptions": "fog"}, "`corruptions` must be a list"),
        ({"corruptions": ["rain"]}, "`corruptions` must be one of"),
        ({"severities": [0]}, "`severities` must be an integer of at least 1"),
        ({"attacks": [None]}, "`attack` must be a callable"),
        ({"bounds": (0.0, 0.5)}, "farther than `epsilon`|Expected inputs in"),
        ({"batch_size": 0}, "`batch_size` must be"),
    ):
        with pytest.raises(ValueError, match=message):
            robustness_report(single, x[:20], y[:20], **options, **bad)
    with pytest.raises(ValueError, match="at least one sample"):
        robustness_report(single, x[:0], y[:0])
    with pytest.raises(ValueError, match="Expected class ids"):
        robustness_report(single, x[:20], y[:20] + 10, **options)
