"""What losses of masks cost, forward and backward, beside MONAI's and plain PyTorch on the same logits."""

import importlib.util

import keras
import numpy as np
from rich.console import Group
from rich.text import Text

import keras_regularize as kr
from benchmarks.losses import contestant
from benchmarks.timing import race, ratio_table

SHAPES = ((4, 128, 128, 4), (2, 64, 64, 64, 2))
BAR = 1.2


def peers(classes):
    """`{name: (our loss, MONAI's)}` with the same arguments."""
    from monai import losses as monai

    options = {"to_onehot_y": True, "softmax": True}
    weights = {"false_positive_weight": 0.3, "false_negative_weight": 0.7, "gamma": 1.0}
    matrix = 1.0 - np.eye(classes, dtype="float32")
    return {
        "SoftDice": (kr.losses.SoftDice(from_logits=True), monai.DiceLoss(**options)),
        "Jaccard": (
            kr.losses.Jaccard(from_logits=True),
            monai.DiceLoss(jaccard=True, **options),
        ),
        "GeneralizedDice": (
            kr.losses.GeneralizedDice(from_logits=True),
            monai.GeneralizedDiceLoss(**options),
        ),
        "FocalTversky": (
            kr.losses.FocalTversky(**weights, from_logits=True),
            monai.TverskyLoss(alpha=0.3, beta=0.7, **options),
        ),
        "GeneralizedWassersteinDice": (
            kr.losses.GeneralizedWassersteinDice(matrix, from_logits=True),
            monai.GeneralizedWassersteinDiceLoss(matrix),
        ),
        "HausdorffDistance": (
            kr.losses.HausdorffDistance(from_logits=True),
            monai.HausdorffDTLoss(**options),
        ),
    }


def lovasz(y, z):
    """Lovász-Softmax per image as its authors wrote it: one class of one image after the other."""
    import torch

    values = []
    for p, labels in zip(torch.softmax(z, dim=-1), y):
        p, labels = p.reshape(-1, p.shape[-1]), labels.reshape(-1)
        losses = []
        for c in range(p.shape[-1]):
            foreground = (labels == c).float()
            if foreground.sum() == 0:
                continue
            errors, order = torch.sort((foreground - p[:, c]).abs(), 0, descending=True)
            sorted_labels = foreground[order]
            size = sorted_labels.sum()
            intersection = size - sorted_labels.cumsum(0)
            union = size + (1 - sorted_labels).cumsum(0)
            jaccard = 1.0 - intersection / union
            jaccard[1:] = jaccard[1:] - jaccard[:-1]
            losses.append(torch.dot(errors, jaccard))
        values.append(torch.stack(losses).mean())
    return torch.stack(values).mean()


def transforms():
    """`{name: function}` of distance transforms of one mask of 128²."""
    from scipy import ndimage

    noise = np.random.default_rng(0).normal(size=(128, 128))
    mask = ndimage.gaussian_filter(noise, 10) > 0
    batch = keras.ops.convert_to_tensor(mask[None])

    def scipy():
        ndimage.distance_transform_edt(mask)

    def ours():
        keras.ops.convert_to_numpy(kr.ops.euclidean_distance_transform(batch))

    return {"scipy distance_transform_edt": scipy, "euclidean_distance_transform": ours}


def heads(rounds, on_turn):
    """Layers with a loss of their own, which see the labels, each beside the step without it."""
    ops, rng = keras.ops, np.random.default_rng(0)
    features = ops.convert_to_tensor(rng.normal(size=(4, 64, 64, 16)).astype("float32"))
    ids = ops.convert_to_tensor(rng.integers(0, 4, (4, 64, 64)))
    edges = ops.convert_to_tensor(rng.integers(0, 2, (4, 64, 64, 1)).astype("float32"))
    classifier = keras.layers.Conv2D(4, 1)
    boundary = kr.layers.ConditionalBoundary(classifier)
    network = kr.layers.inverse_form_network(tile_size=16, units=[64, 16])
    inverse = kr.layers.InverseForm(network, tiles=[4, 4])

    def of_pixels(y, z):
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        return loss(y, classifier(z))

    def of_boundaries(y, z):
        logits = boundary([z, y], training=True)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        return loss(y, logits) + sum(boundary.losses)

    def of_edges(y, z):
        return ops.mean((ops.sigmoid(z[..., :1]) - y) ** 2)

    def of_forms(y, z):
        p = inverse([ops.sigmoid(z[..., :1]), y], training=True)
        return ops.mean((p - y) ** 2) + sum(inverse.losses)

    pairs = (
        {
            "keras SparseCategoricalCrossentropy": contestant(of_pixels, ids, features),
            "with ConditionalBoundary": contestant(of_boundaries, ids, features),
        },
        {
            "squared errors of edges": contestant(of_edges, edges, features),
            "with InverseForm": contestant(of_forms, edges, features),
        },
    )
    tables = []
    for runs in pairs:
        plain, name = runs
        timings = race(runs, rounds, warmups=2, on_turn=on_turn)
        title = f"torch: a step {name}, 4 maps of 64 × 64"
        tables.append(ratio_table(title, timings, plain))
    return tables


def table(quick=False, on_turn=None):
    if keras.backend.backend() != "torch" or importlib.util.find_spec("monai") is None:
        return Text(
            "Losses of masks, not measured: needs PyTorch and MONAI (`pip install monai`).",
            style="dim",
        )
    tables, generator = [], np.random.default_rng(0)
    rounds = 5 if quick else 25
    for shape in SHAPES:
        logits = generator.normal(size=shape).astype("float32")
        z = keras.ops.convert_to_tensor(logits)
        y = keras.ops.convert_to_tensor(generator.integers(0, shape[-1], shape[:-1]))
        first = keras.ops.convert_to_tensor(np.ascontiguousarray(np.moveaxis(logits, -1, 1)))
        for name, (ours, theirs) in peers(shape[-1]).items():
            if name == "HausdorffDistance" and len(shape) > 4:
                continue  # All of it is the transform of volumes, by SciPy in both.
            runs = {
                "MONAI": contestant(lambda y, x, loss=theirs: loss(x, y), y[:, None], first),
                name: contestant(ours, y, z),
            }
            timings = race(runs, rounds, warmups=2, on_turn=on_turn)
            title = f"torch: {name} beside MONAI's, {shape}"
            tables.append(ratio_table(title, timings, "MONAI", bars={name: BAR}))
        runs = {
            "authors": contestant(lovasz, y, z),
            "LovaszSoftmax": contestant(kr.losses.LovaszSoftmax(from_logits=True), y, z),
        }
        timings = race(runs, rounds, warmups=2, on_turn=on_turn)
        title = f"torch: LovaszSoftmax beside its authors' code, {shape}"
        tables.append(ratio_table(title, timings, "authors", bars={"LovaszSoftmax": BAR}))
    timings = race(transforms(), rounds, repeats=5, warmups=2, on_turn=on_turn)
    tables.append(
        ratio_table(
            "torch: the distance transform of 128 × 128 pixels",
            timings,
            "scipy distance_transform_edt",
            bars={"euclidean_distance_transform": 3.0},
        )
    )
    return Group(*tables, *heads(rounds, on_turn))
