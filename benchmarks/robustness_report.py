"""What regularization does for robustness and uncertainty, on scikit-learn's digits: a report for each method.

The comparison of Chun and others, *An Empirical Evaluation on Robustness and Uncertainty of Regularization
Methods*, arXiv:2003.03879, at a size that runs in minutes.
"""

import statistics

import keras
import numpy as np
from keras import layers
from rich.table import Table
from sklearn.datasets import load_digits

import keras_regularize as kr

EPSILON = 0.1
EPOCHS = 40
TRAINING = 600
GROUPS = {
    "noise": ("gaussian_noise", "shot_noise", "impulse_noise"),
    "blur": ("gaussian_blur", "defocus_blur", "motion_blur", "zoom_blur"),
    "light": ("fog", "brightness", "contrast"),
    "occluded": ("occlusion",),
}
COLUMNS = ("accuracy", *GROUPS, "FGSM", "AUROC", "ECE")


def network(*augmentation):
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            *augmentation,
            layers.Conv2D(16, 3, activation="relu"),
            layers.Conv2D(32, 3, activation="relu"),
            layers.Flatten(),
            layers.Dense(10),
        ]
    )


class Mixed(keras.utils.PyDataset):
    """Batches of images and rows of labels that a layer of Keras mixes with each other."""

    def __init__(self, mixing, x, y, batch_size=50, seed=0):
        super().__init__()
        self.mixing, self.x, self.y, self.batch_size = mixing, x, y, batch_size
        self.generator = np.random.default_rng(seed)
        self.on_epoch_end()

    def __len__(self):
        return len(self.x) // self.batch_size

    def __getitem__(self, index):
        rows = self.order[index * self.batch_size : (index + 1) * self.batch_size]
        batch = self.mixing({"images": self.x[rows], "labels": self.y[rows]}, training=True)
        return batch["images"], batch["labels"]

    def on_epoch_end(self):
        self.order = self.generator.permutation(len(self.x))


def attack():
    return kr.attacks.FGSM(EPSILON)


#: The model to train, the label smoothing, and a layer that mixes batches.
METHODS = {
    "plain": lambda: (network(), 0.0, None),
    "label smoothing": lambda: (network(), 0.1, None),
    "Gaussian noise": lambda: (network(layers.GaussianNoise(0.2)), 0.0, None),
    "Cutout": lambda: (network(kr.layers.Cutout(4)), 0.0, None),
    "MixUp": lambda: (network(), 0.0, layers.MixUp(0.2, data_format="channels_last")),
    "Cutout, smoothing": lambda: (network(kr.layers.Cutout(4)), 0.1, None),
    "adversarial": lambda: (kr.models.AdversarialTraining(network(), attack()), 0.0, None),
    "ALP": lambda: (kr.models.ALP(network(), attack()), 0.0, None),
}


def report(name, seed, epochs=EPOCHS):
    """The report of a method on test images after one training."""
    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(y))
    x, y = (x[order] / 16).astype("float32").reshape(-1, 8, 8, 1), y[order]
    keras.utils.set_random_seed(seed)
    model, smoothing, mixing = METHODS[name]()
    loss = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=smoothing)
    model.compile(keras.optimizers.Adam(2e-3), loss)
    train, rows = x[:TRAINING], keras.utils.to_categorical(y[:TRAINING], 10).astype("float32")
    if mixing is None:
        model.fit(train, rows, batch_size=50, epochs=epochs, verbose=0)
    else:
        model.fit(Mixed(mixing, train, rows), epochs=epochs, verbose=0)
    test = x[TRAINING:]
    other = np.random.default_rng(0).permuted(test.reshape(-1, 64), axis=1).reshape(test.shape)
    return kr.analysis.robustness_report(
        model,
        test,
        y[TRAINING:],
        {"shuffled": other},
        [corruption for group in GROUPS.values() for corruption in group],
        attacks={"FGSM": attack()},
        batch_size=len(test),
        seed=seed,
        verbose=0,
    )


def figures(found):
    """The numbers of a row, in the order of `COLUMNS`, in percent."""
    groups = (
        np.mean([a for name in names for a in found.corruptions[name].values()])
        for names in GROUPS.values()
    )
    auroc = found.out_of_distribution["shuffled"]["max softmax"].auroc
    error = found.clean["expected_calibration_error"]
    row = (found.clean["accuracy"], *groups, found.attacks["FGSM"], auroc, error)
    return [100 * float(number) for number in row]


def table(quick=False, on_turn=None):
    epochs, seeds = (EPOCHS // 4, 1) if quick else (EPOCHS, 3)
    result = Table(
        title=f"{keras.backend.backend()}: reports on digits, {epochs} epochs, {seeds} seed(s), in percent",
        title_justify="left",
        caption="Accuracy on test images as they are, corrupted (mean over five severities) and attacked; AUROC "
        "of the largest probability against images of shuffled pixels; expected calibration error.",
    )
    result.add_column("method", no_wrap=True)
    for column in COLUMNS:
        result.add_column(column, justify="right")
    for name in METHODS:
        runs = []
        for seed in range(seeds):
            if on_turn:
                on_turn(f"{name}, seed {seed}")
            runs.append(figures(report(name, seed, epochs)))
        result.add_row(name, *(f"{statistics.mean(values):.1f}" for values in zip(*runs)))
    return result


def main():
    from rich.console import Console

    Console().print(table(on_turn=lambda turn: print(turn, flush=True)))


if __name__ == "__main__":
    main()
