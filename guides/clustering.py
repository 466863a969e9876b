"""
# Clusters from neighbours

k-means asks how far a sample is from the mean of its cluster, which is the right question for round clusters of one size. It
is easier to say who belongs together nearby: a handwritten 4 and its nearest neighbours are mostly the same digit. `ICon`
trains a network so that samples which are neighbours share a cluster, however the clusters are shaped. This guide finds the
ten digits without a label, compares with k-means, and shows how to choose among several trainings without labels.

**Use this when** samples have features in which near neighbours can be believed, and clusters need not be round; and when
later samples must be assigned by a network.

**Do not when** features are few and clusters round: k-means takes a second.
"""

import keras
import matplotlib.pyplot as plt
import numpy as np
from keras import ops
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits

import keras_regularize as kr

EPOCHS = 30
REPEATS = 8

"""
## A graph of neighbours

The digits of scikit-learn, 8 × 8 pixels, reduced to 50 principal components. Each is joined to its ten nearest neighbours,
and `steps=4` walks on to their neighbours: two digits that look different are connected by others between them.
"""

digits, labels = load_digits(return_X_y=True)
images = (digits.reshape(-1, 8, 8) / 16).astype("float32")
x = (digits - digits.mean(axis=0)) / 16
x = x @ np.linalg.svd(x, full_matrices=False)[2][:50].T
graph = kr.utils.neighbor_graph(x, k=10, steps=4, include_self=True)
nearest = kr.utils.neighbor_graph(x, k=10)
same = labels[:, None] == labels
agree, walked = (np.sum(weights * same) / len(x) for weights in (nearest, graph))
print(f"same digit: {agree:.1%} of nearest neighbours, {walked:.1%} of where walks lead")

"""
{agree:.0%} of the nearest neighbours are the same digit, and {walked:.0%} of where the walks lead, which the training does
not know.

## Training

The network gives out logits of ten clusters. `ICon` compares two distributions over the batch for each sample $i$: the
graph says who should be a neighbour, $p_{j|i}$, and `ClusterNeighbors` who is one by the clusters, $q_{j|i}$: a cluster
of $i$ is drawn, and of that a member $j$. A cluster that took everything would make everybody a neighbour of everybody; so
nothing collapses. `GraphBatches` cuts the graph as it cuts the samples.

Two things help. Views of an image, moved and noisy, are neighbours of each other and of each other's neighbours:
`MultiView` makes them. And debiasing says that some of what is no neighbour in the graph belongs together all the same: a
share of both distributions is spread evenly.
"""


class Move(keras.layers.Layer):
    """Shifts by up to a pixel and zooms by up to 15 %, rows and columns each by themselves."""

    def __init__(self, seed):
        super().__init__()
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, images):
        return ops.matmul(
            ops.matmul(self.rows(images), images), ops.swapaxes(self.rows(images), 1, 2)
        )

    def rows(self, images):
        shape, place = (ops.shape(images)[0], 1, 1), ops.arange(8, dtype="float32")
        zoom = keras.random.uniform(shape, 0.85, 1.15, seed=self.seed_generator)
        shift = keras.random.uniform(shape, -1.0, 1.0, seed=self.seed_generator)
        return ops.relu(1.0 - ops.abs(3.5 + (place[:, None] - 3.5) * zoom + shift - place))


loss = kr.losses.ICon(
    "precomputed",
    kr.losses.ClusterNeighbors(from_logits=True),
    supervisory_debiasing=0.4,
    learned_debiasing=0.4,
)


def train(seed):
    """The loss over all samples after training, and their clusters."""
    keras.utils.set_random_seed(seed)
    network = keras.Sequential(
        [
            keras.Input((8, 8)),
            keras.layers.Flatten(),
            keras.layers.Rescaling(3.0, -1.0),
            keras.layers.Dense(128, activation="relu"),
            keras.layers.Dense(10),
        ]
    )
    views = keras.Sequential([Move(seed), keras.layers.GaussianNoise(0.1, seed=seed)])
    model = kr.models.MultiView(network, views)
    model.compile(keras.optimizers.Adam(0.003), loss)
    batches = kr.utils.GraphBatches(images, graph, batch_size=299, seed=seed)
    model.fit(batches, epochs=EPOCHS, verbose=0)
    logits = model.predict(images, batch_size=599, verbose=0)
    return float(loss(graph, logits)), logits.argmax(axis=1)


"""
Some trainings end in a poor place, as k-means does. k-means is therefore started ten times, and the clusters with the
smallest distances are kept. The same is done here: the loss needs no labels, and the lowest wins. What is measured is the
accuracy under the best assignment of clusters to digits, `kr.analysis.hungarian_accuracy`.
"""


def accuracy(clusters):
    return kr.analysis.hungarian_accuracy(labels, clusters)


means = KMeans(10, n_init=10, random_state=0).fit_predict(x)
of_means = accuracy(means)
runs = sorted((train(seed) for seed in range(REPEATS)), key=lambda run: run[0])
accuracies = [accuracy(clusters) for _, clusters in runs]
best, average = accuracies[0], np.mean(accuracies)
print(f"k-means, best of 10    {of_means:.3f}")
print(f"ICon, lowest loss      {best:.3f}    mean of all {average:.3f}")

"""
k-means has {of_means:.1%} right, the clusters of neighbours {best:.1%}. Choosing matters: on average over all trainings it
is {average:.1%}, less than k-means. The picture shows what the loss is worth for that: the lowest is the best here, and on
the whole lower is better, though not in each case.
"""

figure, ax = plt.subplots(figsize=(6, 3.8))
ax.scatter([value for value, _ in runs], accuracies, s=40, label="a training")
ax.axhline(of_means, color="gray", linestyle="--", label="k-means, best of 10")
ax.set(
    title="Loss without labels, accuracy with them", xlabel="loss", ylabel="accuracy", ylim=(0.4, 1)
)
ax.legend(loc="lower left")
figure.tight_layout()
plt.show()

"""
## What is in the clusters

A row is a cluster, a column a digit. Where a digit falls into two clusters, its handwriting has two forms.
"""


def table(clusters):
    counts = np.zeros((10, 10), int)
    np.add.at(counts, (clusters, labels), 1)
    return counts[np.argsort(counts.argmax(axis=1), kind="stable")]


figure, axes = plt.subplots(1, 2, figsize=(10, 4.6))
for ax, (name, clusters) in zip(axes, (("k-means", means), ("ICon", runs[0][1]))):
    counts = table(clusters)
    ax.imshow(counts, cmap="Blues")
    for i, j in zip(*np.nonzero(counts > 9)):
        dark = counts[i, j] > counts.max() / 2
        ax.text(
            j, i, counts[i, j], ha="center", va="center", color="white" if dark else "black", size=8
        )
    ax.set(
        title=f"{name}: {accuracy(clusters):.1%}",
        xlabel="digit",
        ylabel="cluster",
        xticks=range(10),
    )
    ax.set_yticks([])
figure.tight_layout()
plt.show()

"""
## What to choose

- **Features** decide most: take those of a pretrained or self-supervised encoder where there is one
  (`kr.models.MultiView`), and a linear layer on them.
- **Walks**: more steps join what short ones leave in pieces. With very many, clusters that touch are joined too.
- **Debiasing**: the paper takes 0.2 to 0.8, more the more clusters there are.
- **Large batches**: a batch should hold several neighbours of each sample.
- **Repeats**: keep the one with the lowest loss.
"""
