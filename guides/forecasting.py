"""
# Forecasts that know how sure they are

A forecast is one number, and the future is not. This guide forecasts how many shares of a company will be traded on
each of the next ten days: with a range that holds what it promises, with errors that can be compared between
series, with training data of which some is wrong, and, where it matters more what comes than when, with the
right shape.

**Use this when** somebody acts on a range or on the worst case, when series differ in scale, or when peaks and steps
come at times that nobody can know exactly.

**Do not when** one number is asked for, the targets are clean and errors cost as their squares: `loss="mse"` is that.
"""

import math

import keras
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.cbook import get_sample_data

import keras_regularize as kr

EPOCHS = 100

"""
## A real series

Matplotlib comes with the prices and volumes of Google's share from August 2004 to October 2008, 1047 trading days. The
volume, unlike the price, can be forecast to some extent. The model sees the logarithms of 20 days and forecasts
those of the next 10. It learns from the first 700 days and is tested on what comes after them.
"""

data = get_sample_data("goog.npz")["price_data"]
series = np.log(data["volume"] / 1e6).astype("float32")
PAST, AHEAD = 20, 10
centre, spread = series[:700].mean(), series[:700].std()


def windows(series):
    rows = np.lib.stride_tricks.sliding_window_view(series, PAST + AHEAD)
    return (rows[:, :PAST] - centre) / spread, (rows[:, PAST:] - centre) / spread


x, y = windows(series[:700])
x_test, y_test = windows(series[700:])


def train(loss, x, y, outputs, epochs=EPOCHS):
    keras.utils.set_random_seed(0)
    hidden = keras.layers.Dense(32, activation="relu")
    model = keras.Sequential(
        [keras.Input(x.shape[1:]), hidden, keras.layers.Dense(math.prod(outputs))]
    )
    model.add(keras.layers.Reshape(outputs))
    model.compile(keras.optimizers.Adam(0.001), loss)
    model.fit(x, y, batch_size=64, epochs=epochs, verbose=0)
    return model


"""
## Quantiles

`Quantile` takes one level or a list of them. With a list the model has one more axis of outputs, here 10 days times 5
levels, and the targets stay as they are.
"""

levels = [0.05, 0.25, 0.5, 0.75, 0.95]
model = train(kr.losses.Quantile(levels), x, y, (AHEAD, len(levels)))
fan = np.sort(model.predict(x_test, verbose=0), axis=-1)  # Nothing else keeps levels from crossing.

inside = {}
for low, high in ((0, 4), (1, 3)):
    hits = (fan[..., low] <= y_test) & (y_test <= fan[..., high])
    promised = levels[high] - levels[low]
    inside[round(100 * promised)] = hits.mean()
    print(f"promised {promised:.0%}, found {hits.mean():.0%}")

"""
On days the model has never seen, the wide range holds {inside[90]:.0%} of the volumes and the narrow one {inside[50]:.0%}.
The shares are of {y_test.size:,d} forecasts that overlap, so do not take them for more exact than a few percent, and
the years tested are not the years learnt from: a model that fits its training data closely promises too
much. Compare promise and finding on data of your own before somebody relies on it.
"""

shown = [30, 75, 120, 180]
figure, axes = plt.subplots(2, 2, figsize=(8, 5), sharey=True)
for axis, day in zip(axes.ravel(), shown):
    back, ahead = np.arange(-PAST, 0) + 1, np.arange(AHEAD) + 1
    in_shares = np.exp(fan[day] * spread + centre)
    axis.fill_between(ahead, in_shares[:, 0], in_shares[:, 4], color="C0", alpha=0.2, label="90 %")
    axis.fill_between(ahead, in_shares[:, 1], in_shares[:, 3], color="C0", alpha=0.4, label="50 %")
    axis.plot(ahead, in_shares[:, 2], color="C0", label="median")
    axis.plot(back, np.exp(x_test[day] * spread + centre), color="black", linewidth=1)
    axis.plot(ahead, np.exp(y_test[day] * spread + centre), color="C3", marker=".", label="came")
    axis.set_title(f"today: {data['date'][700 + day + PAST - 1]}", fontsize=9)
for axis in axes[1]:
    axis.set_xlabel("trading days from today")
for axis in axes[:, 0]:
    axis.set_ylabel("million shares")
entries = axes[0, 0].get_legend_handles_labels()
figure.suptitle("Traded volume of the next ten days", x=0.02, ha="left")
figure.legend(*entries, loc="upper right", frameon=False, fontsize=9, ncols=4)
figure.tight_layout()
plt.show()

"""
## Errors that can be compared

An error of 0.3 means nothing by itself. `MeanAbsoluteScaledError` counts in errors of the naive forecast, "as today", one
day ahead, on the training series: `from_series` finds the scale. `WeightedAbsolutePercentageError` is a
percentage of what was traded.
"""

scaled = kr.losses.MeanAbsoluteScaledError.from_series((series[:700] - centre) / spread)
share = kr.losses.WeightedAbsolutePercentageError()
forecasts = {
    "as today": np.repeat(x_test[:, -1:], AHEAD, axis=1),
    "mean of 20 days": np.repeat(x_test.mean(axis=1, keepdims=True), AHEAD, axis=1),
    "median of the model": fan[..., 2],
}
print(f"{'':20s} scaled error  % of the volume")
errors = {}
for name, forecast in forecasts.items():
    traded, expected = (np.exp(z * spread + centre) for z in (y_test, forecast))
    errors[name] = float(scaled(y_test, forecast)), float(share(traded, expected))
    print(f"{name:20s} {errors[name][0]:12.2f} {errors[name][1]:16.1f}")

"""
Ten days ahead nobody does as well as the naive forecast does for one. The model's {errors["median of the model"][0]:.2f} is
to be compared with the {errors["as today"][0]:.2f} and {errors["mean of 20 days"][0]:.2f} above it.

## Targets that are wrong

Now one target in twenty is wrong: a slipped decimal point makes it ten times as large. The test data stay
clean.
"""

wrong = np.random.default_rng(0).random(y.shape) < 0.05
dirty = np.where(wrong, y + np.log(10.0) / spread, y).astype("float32")
robust = {
    "mse": "mse",
    "mae": "mae",
    "Huber": keras.losses.Huber(0.5),
    "PseudoHuber": kr.losses.PseudoHuber(0.5),
}
print(f"{'loss':12s} error when trained on clean data, on dirty data")
clean_error, dirty_error = {}, {}
for name, loss in robust.items():
    for targets, found in ((y, clean_error), (dirty, dirty_error)):
        forecast = train(loss, x, targets, (AHEAD,)).predict(x_test, verbose=0)
        found[name] = np.abs(forecast - y_test).mean()
    print(f"{name:12s} {clean_error[name]:26.3f} {dirty_error[name]:15.3f}")

"""
With squared error the error goes from {clean_error["mse"]:.2f} to {dirty_error["mse"]:.2f}; with the others it hardly moves, and
they hardly differ. `PseudoHuber` is the one without a kink.

## What comes, and when

The last data are made up, since they need a thing that nobody can foresee: a level that rises at a random time. How far is
announced in the past; when is known to three steps or so.

`SoftDTW` and `DILATE` have many local minima in time: a forecast that rises at a wrong time altogether is not pulled
to the right one. So the network learns from squared error first, and goes on with them from there.
"""


def rises(count, seed):
    rng = np.random.default_rng(seed)
    height, start = rng.uniform(1.0, 2.0, (count, 1)), rng.integers(5, 15, (count, 1))
    announced = height * (np.arange(20) == start)
    level = height * (np.arange(20) >= start + rng.integers(-3, 4, (count, 1)))
    noise = 0.03 * rng.normal(size=(2, count, 20))
    return (announced + noise[0]).astype("float32"), (level + noise[1]).astype("float32")


past, future = rises(800, 0)
past_test, future_test = rises(200, 1)
network = train("mse", past, future, (20,))
start = network.get_weights()
losses = {
    "mse": "mse",
    "SoftDTW": kr.losses.SoftDTW(0.01),
    "DILATE": kr.losses.DILATE(alpha=0.1, gamma=0.01),
}
shift = kr.losses.DILATE(alpha=0.0, gamma=0.01)  # Its second term alone.
drawn, judged = {}, {}
print(f"{'loss':10s} squared error  soft-DTW  shift  steepest rise")
for name, loss in losses.items():
    network.set_weights(start)
    network.compile(keras.optimizers.Adam(0.001), loss)
    network.fit(past, future, batch_size=64, epochs=EPOCHS, verbose=0)
    drawn[name] = forecast = network.predict(past_test, verbose=0)
    rise, came = (np.diff(z, axis=1).max(axis=1).mean() for z in (forecast, future_test))
    judged[name] = {
        "squared": np.mean((forecast - future_test) ** 2),
        "warped": float(losses["SoftDTW"](future_test, forecast)),
        "shift": float(shift(future_test, forecast)),
        "rise": rise / came,
    }
    squared, warped, shifted, steepest = judged[name].values()
    print(f"{name:10s} {squared:13.3f} {warped:9.2f} {shifted:6.2f} {steepest:14.0%}")

"""
Squared error makes the forecast that is least wrong whenever the rise may come: a slope, whose steepest step has
{judged["mse"]["rise"]:.0%} of the height of that in the data. Both others draw a step, {judged["SoftDTW"]["rise"]:.0%} and
{judged["DILATE"]["rise"]:.0%}, and pay with squared error where it is early or late. `DILATE` gives up some of the step's
height for less of a shift, {judged["DILATE"]["shift"]:.2f} to {judged["SoftDTW"]["shift"]:.2f}; its `alpha` sets the
price.
"""

figure, axes = plt.subplots(1, 3, figsize=(8, 2.8), sharey=True)
for k, axis in enumerate(axes):
    axis.plot(future_test[k], color="black", linewidth=1, label="came")
    for name, color in (("mse", "C7"), ("SoftDTW", "C1"), ("DILATE", "C0")):
        axis.plot(drawn[name][k], color=color, label=name)
    axis.set_title(f"series {k + 1}", fontsize=9)
    axis.set_xlabel("time step")
entries = axes[0].get_legend_handles_labels()
figure.suptitle("Rises at an uncertain time", x=0.02, ha="left")
figure.legend(*entries, loc="upper right", frameon=False, fontsize=9, ncols=4)
figure.tight_layout()
plt.show()

"""
## Which one

- A range: `Quantile` with its ends, and a look at how much it holds on new data.
- One number and doubtful targets: Keras' MAE and Huber, `PseudoHuber`.
- Series of several scales: `MeanAbsoluteScaledError`.
- Peaks and steps: `DILATE` after epochs of squared error, its `alpha` lowered until the time is good enough.

[Where which loss is](../forecasting_losses.md) lists them all.
"""
