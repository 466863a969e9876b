"""Are the attacks as strong as those of a public library? `python -m benchmarks.attacks`, on torch.

Compares accuracy under attack with torchattacks for equal budgets, on a small network for scikit-learn's digits.
The library asks for torchvision and an old `requests`, which it does not need for these attacks:
`pip install --no-deps torchattacks`. It draws its own random starts, so small differences both ways are chance;
from equal starts the two APGDs end in the same inputs.
The numbers of the library stand in `tests/attacks/test_strength.py`, where the attacks are held to them.
"""

import time

import keras
import numpy as np
from sklearn.datasets import load_digits

import keras_regularize as kr

LINF, L2, STEPS, STARTS, AUTO = 0.1, 0.7, 24, 16, 200

OURS = {
    "FGSM": lambda: kr.attacks.FGSM(LINF),
    "PGD-24": lambda: kr.attacks.PGD(LINF, LINF / 8, STEPS, seed=0),
    "PGD-24, L2": lambda: kr.attacks.PGD(L2, L2 / 8, STEPS, "l2", seed=0),
    "APGD-24": lambda: kr.attacks.APGD(LINF, STEPS, seed=0),
    "APGD-24, DLR": lambda: kr.attacks.APGD(LINF, STEPS, loss="dlr", seed=0),
    "APGD-24, L2": lambda: kr.attacks.APGD(L2, STEPS, "l2", seed=0),
    "APGD-24, L2, DLR": lambda: kr.attacks.APGD(L2, STEPS, "l2", "dlr", seed=0),
}


def digits_network():
    """`(model, x, y)`: a trained network and its test digits, the same on every machine and backend.

    Each of the 517 digits is there `STARTS` times, to average over the random starts of the attacks.
    """
    x, y = load_digits(return_X_y=True)
    rng = np.random.default_rng(0)
    order = rng.permutation(len(y))
    x, y = x[order] / 16, y[order]
    shapes = [(64, 32), (32,), (32, 10), (10,)]
    weights = [rng.normal(size=s) / np.sqrt(s[0]) if len(s) == 2 else np.zeros(s) for s in shapes]
    velocity = [np.zeros(s) for s in shapes]
    inputs, labels = x[:1280], np.eye(10)[y[:1280]]
    for _ in range(300):  # In NumPy and float64, so that nothing but rounding differs.
        hidden = np.maximum(inputs @ weights[0] + weights[1], 0)
        z = hidden @ weights[2] + weights[3]
        p = np.exp(z - z.max(axis=1, keepdims=True))
        slope = (p / p.sum(axis=1, keepdims=True) - labels) / len(inputs)
        back = (slope @ weights[2].T) * (hidden > 0)
        gradients = [inputs.T @ back, back.sum(0), hidden.T @ slope, slope.sum(0)]
        velocity = [0.9 * v - 0.2 * g for v, g in zip(velocity, gradients)]
        weights = [w + v for w, v in zip(weights, velocity)]
    model = keras.Sequential(
        [
            keras.Input((64,)),
            keras.layers.Dense(32, activation="relu"),
            keras.layers.Dense(10),
        ]
    )
    model.set_weights(weights)
    return model, np.tile(x[1280:].astype("float32"), (STARTS, 1)), np.tile(y[1280:], STARTS)


def library_attacks(model):
    """The same attacks of torchattacks, for images of shape `(batch, 1, 8, 8)`."""
    import torch
    import torchattacks

    class Images(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, images):
            return self.model(images.flatten(1))

    images = Images().eval()
    return {
        "FGSM": torchattacks.FGSM(images, LINF),
        "PGD-24": torchattacks.PGD(images, LINF, LINF / 8, STEPS),
        "PGD-24, L2": torchattacks.PGDL2(images, L2, L2 / 8, STEPS),
        "APGD-24": torchattacks.APGD(images, "Linf", LINF, STEPS),
        "APGD-24, DLR": torchattacks.APGD(images, "Linf", LINF, STEPS, loss="dlr"),
        "APGD-24, L2": torchattacks.APGD(images, "L2", L2, STEPS),
        "APGD-24, L2, DLR": torchattacks.APGD(images, "L2", L2, STEPS, loss="dlr"),
    }


def compare_auto_attack(model, x, y):
    """Prints robust accuracies and seconds here and in the authors' package, and on how many samples they differ.

    `pip install git+https://github.com/fra31/auto-attack`. Both ask the same images, without restarts.
    """
    import autoattack
    import torch

    x = x.reshape(-1, 8, 8, 1)
    images = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), model])

    def scores(batch):
        return images(batch.permute(0, 2, 3, 1))

    right = keras.ops.convert_to_numpy(images(x)).argmax(axis=1) == y
    print(f"AutoAttack on {len(x)} images, accuracy {right.mean():.4f}:")
    for norm, epsilon in (("linf", LINF), ("l2", L2)):
        begin = time.perf_counter()
        library = autoattack.AutoAttack(
            scores, norm=norm.capitalize(), eps=epsilon, seed=0, verbose=False, device="cpu"
        )
        moved = library.run_standard_evaluation(
            torch.as_tensor(x.transpose(0, 3, 1, 2)), torch.as_tensor(y), bs=len(x)
        )
        theirs = np.asarray(scores(moved).argmax(1)) == y
        seconds = time.perf_counter() - begin
        attack = kr.attacks.AutoAttack(epsilon, norm, from_logits=True, seed=0)
        ours = kr.analysis.auto_attack_accuracy(images, x, y, attack, len(x), verbose=0)
        print(
            f"{norm:5s} {ours.robust_accuracy:.4f} {theirs.mean():.4f}, other on "
            f"{np.sum(ours.robust != theirs)}; seconds {sum(ours.seconds.values()):.0f} {seconds:.0f}",
            flush=True,
        )


def main():
    if keras.backend.backend() != "torch":
        raise SystemExit(
            "torchattacks runs on torch: KERAS_BACKEND=torch python -m benchmarks.attacks"
        )
    import torch

    model, x, y = digits_network()
    labels = torch.as_tensor(y)
    images = torch.as_tensor(x).reshape(-1, 1, 8, 8)

    def right(inputs):
        return np.asarray(model(inputs.flatten(1)).argmax(1) == labels)

    print(f"accuracy {right(images).mean():.4f}; under attack, here and in torchattacks:")
    torch.manual_seed(0)
    for name, attack in library_attacks(model).items():
        theirs = np.mean(right(images) & right(attack(images, labels)))
        ours = kr.analysis.robust_accuracy(model, x, y, OURS[name](), batch_size=len(x))
        print(f"{name:18s} {ours:.4f} {theirs:.4f}", flush=True)
    compare_auto_attack(model, x[:AUTO], y[:AUTO])


if __name__ == "__main__":
    main()
