"""What losses of boxes, lists and images cost, forward and backward, beside plain PyTorch on the same numbers."""

import math

import keras
import numpy as np
from rich.console import Group
from rich.text import Text

import keras_regularize as kr
from benchmarks.losses import contestant
from benchmarks.timing import race, ratio_table

# How much slower than the obvious code of torch a loss may be: small inputs are all overhead.
BOXES = {(32, 4): 2.0, (100_000, 4): 1.2}
LISTS = {(32, 20): 2.0, (256, 200): 1.2}
IMAGES = {(4, 128, 128, 3): 1.2, (2, 256, 256, 1): 1.2}


def overlaps(y, p):
    """Intersection over union, the union and the sides of the hull, column by column."""
    import torch

    a, b = y.unbind(-1), p.unbind(-1)
    width = (torch.min(a[2], b[2]) - torch.max(a[0], b[0])).clamp(min=0)
    height = (torch.min(a[3], b[3]) - torch.max(a[1], b[1])).clamp(min=0)
    inner = width * height
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inner
    hull = [torch.max(a[i + 2], b[i + 2]) - torch.min(a[i], b[i]) for i in (0, 1)]
    return inner / (union + 1e-7), union, hull, a, b


def giou(y, p):
    iou, union, hull, *_ = overlaps(y, p)
    area = hull[0] * hull[1]
    return (1 - iou + (area - union) / (area + 1e-7)).mean()


def ciou(y, p):
    import torch

    iou, _, hull, a, b = overlaps(y, p)
    centres = [(a[i] + a[i + 2] - b[i] - b[i + 2]) / 2 for i in (0, 1)]
    distance = (centres[0] ** 2 + centres[1] ** 2) / (hull[0] ** 2 + hull[1] ** 2 + 1e-7)
    angles = [torch.atan((c[2] - c[0]) / (c[3] - c[1])) for c in (a, b)]
    v = 4 / math.pi**2 * (angles[0] - angles[1]) ** 2
    with torch.no_grad():
        alpha = v / (1 - iou + v + 1e-7)
    return (1 - iou + distance + alpha * v).mean()


def list_mle(y, s):

    ordered = s.gather(1, y.argsort(dim=1, descending=True, stable=True))
    after = ordered.flip(1).logcumsumexp(1).flip(1)
    return (after - ordered).sum(1).mean()


def pairwise(y, s):
    import torch

    before = y[:, :, None] > y[:, None, :]
    values = torch.nn.functional.softplus(s[:, None, :] - s[:, :, None])
    return ((values * before).sum((1, 2)) / before.sum((1, 2)).clamp(min=1)).mean()


def ssim(y, p):
    """Channels first, by a convolution of 11 × 11 pixels per channel for each of the five means."""
    import torch

    line = torch.exp(-0.5 * ((torch.arange(11) - 5) / 1.5) ** 2)
    kernel = torch.outer(line, line) / line.sum() ** 2
    kernel = kernel.expand(p.shape[1], 1, 11, 11).contiguous()

    def mean(x):
        return torch.nn.functional.conv2d(x, kernel, groups=p.shape[1])

    my, mp, c1, c2 = mean(y), mean(p), 1e-4, 9e-4
    vy, vp, cov = mean(y * y) - my * my, mean(p * p) - mp * mp, mean(y * p) - my * mp
    return (
        1
        - ((2 * my * mp + c1) * (2 * cov + c2) / ((my * my + mp * mp + c1) * (vy + vp + c2))).mean()
    )


def boxes(generator, shape):
    low, side = generator.uniform(size=(2, *shape[:-1], 2))
    return np.concatenate([low, low + 0.1 + side], -1).astype("float32")


def table(quick=False, on_turn=None):
    if keras.backend.backend() != "torch":
        return Text("Losses of boxes, lists and images: compared with PyTorch alone.", style="dim")
    tables, generator = [], np.random.default_rng(0)
    tensor = keras.ops.convert_to_tensor

    def duel(name, ours, theirs, shape, bar):
        runs = {"plain torch": theirs, name: ours}
        repeats = 20 if math.prod(shape) < 1e4 else 1
        timings = race(runs, 5 if quick else 25, repeats, warmups=2, on_turn=on_turn)
        title = f"torch: {name} beside the obvious code, {shape}"
        tables.append(ratio_table(title, timings, "plain torch", bars={name: bar}))

    for shape, bar in BOXES.items():
        y, p = tensor(boxes(generator, shape)), tensor(boxes(generator, shape))
        for loss, plain in ((kr.losses.GIoU(), giou), (kr.losses.CIoU(), ciou)):
            pair = contestant(loss, y, p), contestant(plain, y, p)
            duel(type(loss).__name__, *pair, shape, bar)
    for shape, bar in LISTS.items():
        y = tensor(generator.integers(0, 5, shape).astype("float32"))
        s = tensor(generator.normal(size=shape).astype("float32"))
        for loss, plain in (
            (kr.losses.ListMLE(), list_mle),
            (kr.losses.PairwiseLogistic(), pairwise),
        ):
            pair = contestant(loss, y, s), contestant(plain, y, s)
            duel(type(loss).__name__, *pair, shape, bar)
    for shape, bar in IMAGES.items():
        images = generator.uniform(size=(2, *shape)).astype("float32")
        last = [tensor(x) for x in images]
        first = [tensor(np.ascontiguousarray(np.moveaxis(x, -1, 1))) for x in images]
        duel("SSIM", contestant(kr.losses.SSIM(), *last), contestant(ssim, *first), shape, bar)
    return Group(*tables)
