"""One loss for many methods of representation learning."""

import inspect
from collections.abc import Mapping
from typing import Any

from keras import ops

from keras_regularize.autodiff import backend
from keras_regularize.losses.contrastive import _presets
from keras_regularize.losses.contrastive._views import FAR, ViewsLoss, number_of_views, two_views
from keras_regularize.losses.contrastive.neighbors import (
    ClassNeighbors,
    ClusterNeighbors,
    CutNeighbors,
    GaussianNeighbors,
    IdentityNeighbors,
    KNNNeighbors,
    LabelNeighbors,
    LogitNeighbors,
    Neighbors,
    PrecomputedNeighbors,
    StudentTNeighbors,
)
from keras_regularize.numerics import maximum, safe_log, xlogy
from keras_regularize.registration import export
from keras_regularize.validation import check_choice, check_number

KINDS: dict[str, type[Neighbors]] = {
    "gaussian": GaussianNeighbors,
    "student_t": StudentTNeighbors,
    "label": LabelNeighbors,
    "knn": KNNNeighbors,
    "precomputed": PrecomputedNeighbors,
    "cut": CutNeighbors,
    "class": ClassNeighbors,
    "logit": LogitNeighbors,
    "cluster": ClusterNeighbors,
    "identity": IdentityNeighbors,
}
DIVERGENCES = ("kl", "cross_entropy", "reverse_kl")
#: The least logarithm of a supervisory probability where it divides.
LEAST = -87.0


@export
class ICon(ViewsLoss):
    r"""I-Con: makes the neighbours that features have those that they should have.

    $$\ell_i = \operatorname{KL}\big(p(\cdot \mid i) \,\|\, q(\cdot \mid i)\big)
      = \sum_j p_{j|i} \log \frac{p_{j|i}}{q_{j|i}}$$

    where $p$ says which rows of the batch, or classes, are neighbours of $i$ by `y_true` (labels, inputs, a
    graph), and $q$ by the features. Most methods of representation learning are a choice of the two; `ICon.preset`
    has them by name:

    | preset | $p$, of `y_true` | $q$, of the features |
    |---|---|---|
    | `"sne"`, `"tsne"` | Gaussian with a perplexity | Gaussian, Student-t |
    | `"dual_tsne"`, `"doubly_tsne"` | Student-t | Gaussian, Student-t |
    | `"uniform_sne"`, `"uniform_tsne"` | nearest neighbours | Gaussian, Student-t |
    | `"graph_embedding"` | a graph | Gaussian |
    | `"pca"` | the row itself | a very wide Gaussian |
    | `"simclr"`, `"t_simclr"` | views of the same sample | Gaussian or Student-t of cosines |
    | `"clip"`, `"moco"` | the other view | Gaussian of cosines, across views |
    | `"lgsimclr"` | nearest neighbours in another space | Gaussian of cosines |
    | `"x_sample"` | Gaussian of other cosines | Gaussian of cosines |
    | `"supcon"`, `"t_supcon"` | the same label | Gaussian or Student-t of cosines |
    | `"vicreg"`, `"triplet"` | the same label | a very wide, a very narrow Gaussian |
    | `"cross_entropy"`, `"masked_lm"` | the class, the token | softmax of logits |
    | `"harmonic"` | the class | softmax of $-n \log d$, the logits, of distances $d$ to prototypes |
    | `"kmeans"`, `"spectral_clustering"` | Gaussian of inputs or spectral embedding | clusters, reversed |
    | `"normalized_cuts"` | a graph in relation to degrees | clusters by degrees, reversed |
    | `"dcd"` | a graph | clusters |
    | `"infonce_clustering"` | nearest neighbours | clusters |
    | `"supervised_clustering"` | the same label | clusters |

    Debiasing mixes a distribution with the uniform one $u$ over the columns that the features can have as
    neighbours: $\tilde p = (1 - \alpha) p + \alpha u$ and $\tilde q = (1 - \beta) q + \beta u$, since some of what
    seems no neighbour is one. Clustering gains most, with $\alpha$ from 0.2 to 0.8.

    A row without neighbours has the value 0. Samples of weight 0 are nobody's neighbours. On several TensorFlow
    replicas, or in training in several processes of PyTorch, the batch is that of all of them, as it is under
    `keras.distribution` on JAX; but a graph as `y_true` is one of each share of the batch.

    Args:
        supervisory: What makes $p$ of `y_true`: one of the `…Neighbors` of `kr.losses`, or its name in lower case,
            `"label"` for `LabelNeighbors()`, or `{"class": …, "config": …}`.
        learned: What makes $q$ of the features.
        supervisory_debiasing: $\alpha$ from 0 to 1.
        learned_debiasing: $\beta$ from 0 to 1.
        divergence: `"kl"`; `"cross_entropy"` for $-\sum_j p \log q$, which has the same gradient and is the usual
            value of each method; or `"reverse_kl"` for $\operatorname{KL}(q \,\|\, p)$, where $\log p$ counts as
            -87 if it is less.
        reduction: Reduction of the values as in `keras.losses.Loss`.
        name: Name of the loss.
        dtype: Dtype of the computation, as in `keras.losses.Loss`.

    Call arguments:
        y_true: What `supervisory` takes: labels or ids `(batch,)`, inputs `(batch, features)`, a graph
            `(batch, batch)`. `None` for views where it takes labels: rows of a sample belong together then.
        y_pred: Features `(batch, dim)`, or of several views `(batch, views, dim)`, which are rows with the
            `y_true` of their sample.

    Returns:
        With `reduction="none"` one value per sample `(batch,)`, the mean over its views, else a scalar.

    Raises:
        ValueError: If an argument is out of range; if $p$ has rows as their own neighbours where $q$ cannot, or
            with `"reverse_kl"` the other way round; if shapes do not fit.

    Cost: that of both distributions, for pairs of rows a product with $O(B^2 d)$ each, and a few passes over
    $B^2$ numbers.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    x = np.random.normal(size=(64, 8)).astype("float32")
    model = keras.Sequential([keras.layers.Dense(16, activation="relu"), keras.layers.Dense(2)])
    model.compile("adam", loss=kr.losses.ICon.preset("tsne", perplexity=10))
    model.fit(x, x, batch_size=64, verbose=0)
    ```

    Reference: Shaden Alshammari, John Hershey, Axel Feldmann, William T. Freeman and Mark Hamilton, *I-Con: A
    Unifying Framework for Representation Learning*, ICLR 2025, arXiv:2504.16929. Differs from their code in the
    textbook form of Student's t, and in spreading debiasing over possible neighbours alone.
    """

    def __init__(
        self,
        supervisory: Any,
        learned: Any,
        supervisory_debiasing: float = 0.0,
        learned_debiasing: float = 0.0,
        divergence: str = "kl",
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "icon",
        dtype: str | None = None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.supervisory = get_neighbors("supervisory", supervisory)
        self.learned = get_neighbors("learned", learned)
        self.supervisory_debiasing = check_number(
            "supervisory_debiasing", supervisory_debiasing, minimum=0, maximum=1
        )
        self.learned_debiasing = check_number(
            "learned_debiasing", learned_debiasing, minimum=0, maximum=1
        )
        self.divergence = check_choice("divergence", divergence, DIVERGENCES)
        clusters = isinstance(self.learned, ClusterNeighbors)
        if isinstance(self.supervisory, CutNeighbors) and not clusters:
            raise ValueError(
                "`CutNeighbors` are for `learned=ClusterNeighbors(…)`, whose members count by degrees. "
                f"Received: learned={self.learned!r}"
            )
        self._check_diagonal()
        # A graph is one of the samples of a replica.
        self.looks_at_others = not isinstance(self.supervisory, PrecomputedNeighbors)

    @classmethod
    def preset(cls, method: str, **arguments: Any) -> "ICon":
        """The loss of a method by name, see the table.

        Args:
            method: Name of the method.
            **arguments: Those of the method (`temperature`, `perplexity`, `k`, `num_classes`, `from_logits`, where
                it has them), and of `ICon`.

        Raises:
            ValueError: If the method is not known, or has no such argument.
        """
        make = _presets.PRESETS[check_choice("method", method, _presets.PRESETS)]
        known = set(inspect.signature(make).parameters)
        own = set(inspect.signature(cls).parameters)
        if unknown := sorted(set(arguments) - known - own):
            raise ValueError(
                f"The preset {method!r} takes {sorted(known)} and the arguments of `ICon`. Received: {unknown}"
            )
        pieces = make(**{name: value for name, value in arguments.items() if name in known})
        given = {name: value for name, value in arguments.items() if name not in known}
        return cls(**{"name": method, **pieces, **given})

    def sample_values(self, y_true, z, here):
        if self.learned.cross_view:
            sides, views = two_views(z), 1
            values = self._values(y_true, sides, here), self._values(y_true, sides[::-1], here)
            return 0.5 * (values[0] + values[1])
        views = 1 if len(z.shape) == 2 else number_of_views(z, 1)
        y_true = self._targets_of(y_true, z, views)
        if len(z.shape) == 3:
            z = ops.reshape(z, (-1, z.shape[-1]))
            y_true = self.supervisory.repeated(y_true, views)
            here = None if here is None else ops.repeat(here, views, axis=0)
        values = self._values(y_true, z, here)
        return ops.sum(ops.reshape(values, (-1, views)), axis=-1) / views

    def _targets_of(self, y_true, z, views):
        """`y_true`, or ids of the samples where there is none."""
        takes_none = isinstance(self.supervisory, (LabelNeighbors, IdentityNeighbors))
        if y_true is not None:
            return y_true
        alone = views == 1 and not isinstance(self.supervisory, IdentityNeighbors)
        if not takes_none or (alone and not self.learned.cross_view):
            raise ValueError(
                f"`{type(self.supervisory).__name__}` needs `y_true`. Received: y_true=None"
            )
        return ops.arange(ops.shape(z)[0])

    def _values(self, y_true, z, here):
        if self.learned.cross_view:
            y_true = self._targets_of(y_true, z[0], 2)
        supervisory = self.supervisory.distribution(y_true, here)
        if isinstance(self.learned, ClusterNeighbors):
            degrees = self.supervisory.degrees(y_true, here)
            learned = self.learned.distribution(z, here, degrees)
        else:
            learned = self.learned.distribution(z, here)
        columns = [tuple(side.there.shape)[-1] for side in (supervisory, learned)]
        if None not in columns and columns[0] != columns[1]:
            raise ValueError(
                "Both sides must have the same columns, rows of the batch or classes. Received: "
                f"{columns[0]} of {type(self.supervisory).__name__}, {columns[1]} of "
                f"{type(self.learned).__name__}"
            )
        there, alpha = learned.there, self.supervisory_debiasing
        uniform = there / maximum(ops.sum(there, axis=-1, keepdims=True), 1.0)
        log_q = self._log_learned(learned, uniform)
        p = ops.cast(supervisory.probabilities(), log_q.dtype)
        some = ops.sum(p, axis=-1) > 0.5
        if alpha > 0:
            p = ops.where(some[:, None], (1.0 - alpha) * p + alpha * uniform, 0.0)
        if self.divergence == "cross_entropy":
            return -ops.sum(p * log_q, axis=-1)
        if self.divergence == "kl":
            return ops.sum(xlogy(p, p) - p * log_q, axis=-1)
        log_p = (
            ops.cast(supervisory.log_probabilities(), log_q.dtype) if alpha == 0 else safe_log(p)
        )
        q = there * ops.exp(log_q)
        return ops.where(some, ops.sum(q * (log_q - maximum(log_p, LEAST)), axis=-1), 0.0)

    def _log_learned(self, learned, uniform):
        share, log = self.learned_debiasing, learned.log_probabilities()
        if share == 0:
            return log
        log_uniform = ops.where(uniform > 0, safe_log(uniform), FAR)
        if share == 1:
            return log_uniform
        shares = ops.log(ops.convert_to_tensor([1.0 - share, share], dtype=log.dtype))
        return backend.log_add_exp(shares[0] + log, shares[1] + log_uniform)

    def _check_diagonal(self):
        sides = [self.supervisory, self.learned]
        from_, to = sides if self.divergence != "reverse_kl" else sides[::-1]
        possible = to.exclude_self and not to.cross_view
        if from_.exclude_self is False and possible and not from_.cross_view:
            raise ValueError(
                f"`{type(from_).__name__}(exclude_self=False)` has rows as their own neighbours, where "
                f"`{type(to).__name__}(exclude_self=True)` has the probability 0: the divergence would be "
                "infinite. Give both the same `exclude_self`. "
                f"Received: supervisory={self.supervisory!r}, learned={self.learned!r}"
            )


def get_neighbors(name: str, identifier: Any) -> Neighbors:
    """A distribution of neighbours from an object, a name or a config."""
    if isinstance(identifier, Neighbors):
        return identifier
    kinds = {**KINDS, **{kind.__name__: kind for kind in KINDS.values()}}
    if isinstance(identifier, Mapping) and identifier.get("class") in kinds:
        return kinds[identifier["class"]].from_config(identifier.get("config", {}))
    if isinstance(identifier, str) and identifier in kinds:
        if identifier in ("knn", "class", "KNNNeighbors", "ClassNeighbors"):
            raise ValueError(
                f"`{kinds[identifier].__name__}` has an argument that must be given: pass an object. "
                f"Received: {name}={identifier!r}"
            )
        return kinds[identifier]()
    raise ValueError(
        f"`{name}` must be a distribution of neighbours such as `kr.losses.GaussianNeighbors()`, or one of "
        f"{', '.join(map(repr, KINDS))}. Received: {name}={identifier!r}"
    )
