"""
# Missing values

Records of patients, sensors and customers have holes, and where they are is no accident: a test is made of those who
look ill, a sensor fails in the heat. Filling the holes with a mean hides both what is not known and why. This guide
trains a classifier together with a model that fills them in, from arrays with NaN, and shows what each part is good for.

**Use this when** a good part of the values is missing, other values say something about them, and the classes depend on them.

**Do not when** a few per cent are missing: a mean and a mask as further inputs do as well, and train in a fraction of
the time. For tables with many unrelated columns, boosted trees that know missing values are hard to beat.
"""

import keras
import matplotlib.pyplot as plt
import numpy as np

import keras_regularize as kr

EPOCHS = 40

"""
## Half of each record

Four sensors on a machine that vibrates in one of four ways: all of them measure mixtures of the same wave, with noise, in
eight time steps. Half of the values are missing. 200 records to train on, 1000 to test. We know the missing values, so
that we can measure how well they are filled in.
"""

generator = np.random.default_rng(0)
y = generator.integers(0, 4, 1200)
angle = (0.4 + 0.25 * y[:, None]) * np.arange(8) + generator.uniform(0, 2 * np.pi, (1200, 1))
truth = np.stack([np.sin(angle), np.cos(angle)], axis=-1) @ generator.normal(size=(2, 4))
x = truth + 0.3 * generator.normal(size=truth.shape)
gone = generator.random(x.shape) < 0.5
given = np.where(gone, np.nan, x)
train, test = slice(0, 200), slice(200, None)

"""
Standardize by what is observed, as for any network. Then what most people do: put the mean of the sensor in place of what
is missing, and tell the network by a mask which values are real.
"""

center, spread = np.nanmean(given[train], axis=(0, 1)), np.nanstd(given[train], axis=(0, 1))
given, x, truth = ((a - center) / spread for a in (given, x, truth))
filled = np.where(gone, 0.0, x)


def measure(name, p, imputed):
    accuracy = np.mean(p.argmax(-1) == y[test])
    entropy = -np.mean(np.log(p[np.arange(len(p)), y[test]]))
    error = np.sqrt(np.mean((imputed - x[test])[gone[test]] ** 2))
    print(
        f"{name:32s} accuracy {accuracy:.3f}  cross-entropy {entropy:.2f}  error of imputed {error:.2f}"
    )
    return {"accuracy": accuracy, "entropy": entropy, "error": error}


def plain_network():
    keras.utils.set_random_seed(0)
    values = [keras.Input((8, 4)), keras.Input((8, 4))]
    hidden = keras.layers.GRU(32)(keras.layers.Concatenate()(values))
    return keras.Model(values, keras.layers.Dense(4, activation="softmax")(hidden))


network = plain_network()
network.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
inputs = [filled, (~gone).astype("float32")]
network.fit([a[train] for a in inputs], y[train], batch_size=50, epochs=EPOCHS, verbose=0)
by_mean = network.predict([a[test] for a in inputs], verbose=0)
plain = measure("means and a mask", by_mean, filled[test])

"""
## Imputation and classification together

`SupNotMIWAE` holds four parts: an encoder of what is observed, a decoder that fills in the rest, a classifier of completed
series, and a model of what is observed. `for_series` makes them; your own go into the constructor. It takes the array as
it is. A Gaussian process ties the codes of neighbouring steps together (`length_scale`, in steps).
"""


def train_model(observation_dropout):
    keras.utils.set_random_seed(0)
    model = kr.models.SupNotMIWAE.for_series(
        time=8,
        features=4,
        num_classes=4,
        latent_size=2,
        num_latents=4,
        length_scale=3.0,
        observation_dropout=observation_dropout,
        seed=0,
    )
    model.compile(keras.optimizers.Adam(0.01), metrics=["accuracy"])
    model.fit(given[train], y[train], batch_size=50, epochs=EPOCHS, verbose=0)
    return model


results, imputed = {}, {}
for rate in (0.0, 0.4):
    model = train_model(rate)
    name = f"SupNotMIWAE, dropout {rate}"
    imputed[rate] = model.impute(given[test], verbose=0)
    results[rate] = measure(name, model.predict(given[test], verbose=0), imputed[rate])

"""
`observation_dropout` hides some of the observed values from the classifier in training, which then sees imputed ones in
their place. Without it the classifier looks at observed values alone and fits the training series by them:
cross-entropy on new ones is {results[0.0]["entropy"]:.2f}, and {results[0.4]["entropy"]:.2f} with it.

`predict` gives class probabilities, averaged over several completions of each series, `impute` the mean of the completions.
Their error is {results[0.4]["error"]:.2f} standard deviations, noise included; that of the means is {plain["error"]:.2f}.
"""

figure, axes = plt.subplots(2, 4, figsize=(9, 4.2), sharex=True, sharey=True)
for row, axis_row in zip(range(2), axes):
    for sensor, axis in enumerate(axis_row):
        observed = given[test][row, :, sensor]
        axis.plot(truth[test][row, :, sensor], color="gray", linestyle=":", label="without noise")
        axis.plot(imputed[0.4][row, :, sensor], color="C0", label="filled in")
        axis.plot(observed, "o", color="C3", label="observed")
        axis.spines[["top", "right"]].set_visible(False)
        if row == 0:
            axis.set_title(f"sensor {sensor + 1}", fontsize=9)
        else:
            axis.set_xlabel("time step")
    axis_row[0].set_ylabel(f"record {row + 1}")
axes[0, 0].legend(frameon=False, fontsize=8)
figure.suptitle("Two records, half of whose values are missing")
figure.tight_layout()
plt.show()

"""
## Series of different lengths

Fill padding steps with a number that no real step consists of, as for `keras.layers.Masking`, and name it: such steps count
nowhere. NaN stays what is missing within a series.
"""

longer = np.concatenate([given[test], np.full((1000, 2, 4), -9.0)], axis=1)
model = kr.models.SupNotMIWAE.for_series(None, 4, 4, mask_value=-9.0, seed=0)
model.compile("adam")
model.fit(longer[:50], y[test][:50], verbose=0)
print("imputed", model.impute(longer[:50], verbose=0).shape, "padding kept", longer[0, -1, 0])

"""
## Which one

- Few holes, or a first answer: means, and the mask as a further input.
- `SupNotMIWAE` for many holes, small data, or where the completed series are wanted too. Choose `length_scale` and the
  latent size by the loss on held-out series, and the dropout by their cross-entropy.
- `kr.layers.ObservationDropout` by itself, in front of any network of values and mask, to make it used to more holes.
"""
