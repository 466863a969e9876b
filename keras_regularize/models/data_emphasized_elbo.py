"""Weight decay that is learned with the weights: a variational objective in which the data counts enough."""

import math
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_regularize import autodiff
from keras_regularize.models.gaussian_prior import least_divergence, weight_group
from keras_regularize.models.regularized_model import RegularizedModel
from keras_regularize.numerics import (
    global_norm,
    inverse_softplus,
    joint_sum,
    log_softplus,
    minimum,
    upcast,
)
from keras_regularize.registration import export
from keras_regularize.utils.variables import chooser, weight_like
from keras_regularize.validation import check_choice, check_integer, check_number


def _copied(variable, dtype):
    """The value in memory of its own: JAX gives a buffer away only once."""
    return ops.copy(ops.cast(variable.value, dtype))


@export
class DataEmphasizedELBo(RegularizedModel):
    r"""Learns the strength of weight decay, or of the pull to pretrained weights, in one training.

    Weights are the mean of a posterior $N(w, \sigma^2)$ and have a prior $N(m_g, \tau_g I)$ in each group $g$.
    With a draw $\epsilon$ per step

    $$L(w + \sigma \epsilon)
      + \frac{1}{\kappa N} \sum_g \mathrm{KL}\big(N(w_g, \sigma^2)\,\|\,N(m_g, \tau_g I)\big)$$

    is minimized over weights and $\sigma = \mathrm{softplus}(\rho)$, and $\tau_g$ is where the divergence is
    least, $(\|w_g - m_g\|^2 + D_g \sigma^2) / D_g$. What it amounts to is the weight decay
    $1 / (\kappa N \tau_g)$ on the mean loss, found without a validation set. $\kappa = D / N$ for $D$ trainable
    weights and $N$ samples lets the data speak; with $\kappa = 1$, the evidence lower bound, a network with more
    weights than samples underfits.

    With `prior_means="initial"` the pull is to the weights at construction: pretrained ones, as L2-SP has it. The
    compiled loss must be the mean negative log-likelihood: cross-entropy, or a squared error divided by twice the
    variance of the noise. Leave the optimizer's weight decay and the layers' regularizers off. `evaluate` and
    `predict` are at the mean $w$.

    Args:
        model: The built model to train, or another wrapper. Freeze layers before: $D$ counts what is trainable.
        dataset_size: $N$, the number of training samples, at least 1.
        data_emphasis: $\kappa$, above 0, or `"auto"` for $D / N$.
        posterior: `"isotropic"`, one $\sigma$ for all weights, or `"diagonal"`, one for each.
        initial_scale: First $\sigma$, above 0. In bfloat16 and float16 variables so small a move is lost.
        prior_groups: Which weights have a common $\tau_g$: `"all"`, `"layer"` for one of each layer, or `{name:
            where}` with the name of a variable, a list of names of variables or of layers on their path, or a
            function of the variable. Where `prior_means` is a dictionary and this is `"all"`, its keys are the
            names of layers.
        prior_means: $m_g$: `None` for 0, `"initial"` for the weights at construction, or one of both by group.
        num_samples: Draws per step, at least 1.
        clip_norm: Most norm of the gradient of a group, above 0, or `None`.
        seed: Seed of the draws.
        **kwargs: `name` and other arguments of `keras.Model`.

    Raises:
        ValueError: If an argument is out of range, the model is not built or has no trainable weights, a weight is
            in no group, or the trainable weights change after construction.

    Cost: `num_samples` forward-backward passes and some passes over the weights; with `"diagonal"` and with
    `"initial"` a copy of the weights each.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    net = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8, "relu"), keras.layers.Dense(3)])
    model = kr.models.DataEmphasizedELBo(net, dataset_size=60)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), loss)
    model.fit(np.random.normal(size=(60, 4)), np.arange(60) % 3, verbose=0)
    print(model.weight_decay)
    ```

    Reference: Ethan Harvey, Mikhail Petrov and Michael C. Hughes, *Learning Hyperparameters via a Data-Emphasized
    Variational Objective*, 2025, arXiv:2502.01861.
    """

    def __init__(
        self,
        model: keras.Model,
        dataset_size: int,
        data_emphasis: float | str = "auto",
        posterior: str = "isotropic",
        initial_scale: float = 1e-4,
        prior_groups: str | Mapping[str, Any] = "all",
        prior_means: str | Mapping[str, Any] | None = None,
        num_samples: int = 1,
        clip_norm: float | None = 1.0,
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(model, **kwargs)
        self.dataset_size = check_integer("dataset_size", dataset_size, minimum=1)
        if data_emphasis != "auto":
            data_emphasis = check_number("data_emphasis", data_emphasis, above=0)
        self.data_emphasis = data_emphasis
        self.posterior = check_choice("posterior", posterior, ("isotropic", "diagonal"))
        self.initial_scale = check_number("initial_scale", initial_scale, above=0)
        self.num_samples = check_integer("num_samples", num_samples, minimum=1)
        self.clip_norm = check_number("clip_norm", clip_norm, above=0, optional=True)
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        if not model.built or not model.trainable_variables:
            raise ValueError(
                "`DataEmphasizedELBo` needs a built model with trainable weights. Received: "
                f"{model.name!r}, which {'has none' if model.built else 'is not built'}."
            )
        self.prior_groups = prior_groups
        self.prior_means = prior_means
        variables = list(model.trainable_variables)
        # Not the variables themselves: as attributes they would be saved twice.
        self._variable_ids = list(map(id, variables))
        self._names, self._group_of = self._grouped(variables)
        means = [self._prior_mean(name) for name in self._names]
        self._numbers = [None if mean == "initial" else mean for mean in means]
        self._means = [
            self._kept(v, f"prior_mean_{i}", lambda shape, dtype, v=v: _copied(v, dtype))
            for i, v in enumerate(variables)
            if self._numbers[self._group_of[i]] is None
        ]
        initializer = keras.initializers.Constant(inverse_softplus(self.initial_scale))
        if self.posterior == "isotropic":
            self._raw = [
                self.add_weight(
                    shape=(),
                    initializer=initializer,
                    dtype="float32",
                    autocast=False,
                    name="raw_scale",
                )
            ]
        else:
            self._raw = [
                self._kept(v, f"raw_scale_{i}", initializer, trainable=True)
                for i, v in enumerate(variables)
            ]

    # What was learned

    @property
    def posterior_scale(self) -> Any:
        """$\\sigma$: a number, or with `posterior="diagonal"` a list of arrays."""
        scales = [np.asarray(ops.convert_to_numpy(ops.softplus(raw.value))) for raw in self._raw]
        return float(scales[0]) if self.posterior == "isotropic" else scales

    @property
    def prior_variances(self) -> dict[str, float]:
        """$\\tau_g$ by group."""
        weights = [v.value for v in self._weight_variables(self.trainable_variables)]
        variances = least_divergence(self._groups(weights, [raw.value for raw in self._raw]))[1]
        values = [float(ops.convert_to_numpy(ops.stop_gradient(v))) for v in variances]
        return dict(zip(self._names, values))

    @property
    def weight_decay(self) -> dict[str, float]:
        """$1 / (\\kappa N \\tau_g)$ by group: half of it is what `keras.regularizers.L2` takes."""
        return {name: self._share / variance for name, variance in self.prior_variances.items()}

    # The step

    def prepare(self, batch, forward):
        batch = super().prepare(batch, forward)
        draws = [
            [
                keras.random.normal(v.shape, dtype="float32", seed=self.seed_generator)
                for v in self._weight_variables(batch.variables)
            ]
            for _ in range(self.num_samples)
        ]
        return batch.add(**{self.key: draws})

    def gradients(self, objective, weights, batch):
        places = {id(v): i for i, v in enumerate(batch.variables)}
        chosen = [places[id(v)] for v in self._weight_variables(batch.variables)]
        raws = [places[id(raw)] for raw in self._raw]
        raw = [weights[i] for i in raws]
        scales = [ops.softplus(r) for r in raw]
        queries, totals = [], []
        for draw in batch.extra[self.key]:
            moved = list(weights)
            for k, (i, noise) in enumerate(zip(chosen, draw)):
                moved[i] = weights[i] + ops.cast(self._of(scales, k) * noise, weights[i].dtype)
            loss, aux, gradients = super().gradients(objective, moved, batch)
            # What a wrapper inside learns of the scales is nothing: it sees weights alone.
            steps = [ops.cast(gradients[i], "float32") * n for i, n in zip(chosen, draw)]
            if self.posterior == "isotropic":
                steps = [joint_sum([ops.sum(step) for step in steps])]
            gradients = list(gradients)
            for i, r, step in zip(raws, raw, steps):
                gradients[i] = ops.cast(step * ops.sigmoid(r), weights[i].dtype)
            queries.append((loss, aux))
            totals.append(gradients)
        total = [sum(parts[1:], parts[0]) / len(parts) for parts in zip(*totals)]

        def penalty(parts):
            count = len(chosen)
            return self._share * least_divergence(self._groups(parts[:count], parts[count:]))[0]

        order = [*chosen, *raws]
        value, added = autodiff.value_and_grad(penalty)([weights[i] for i in order])
        for i, gradient in zip(order, added):
            total[i] = total[i] + ops.cast(gradient, total[i].dtype)
        loss, aux = queries[0]
        loss = loss + ops.cast(value, loss.dtype)
        return loss, aux, self._clipped(total, chosen, raws)

    def _clipped(self, gradients, chosen, raws):
        if self.clip_norm is None:
            return gradients
        groups = [
            [i for i, g in zip(chosen, self._group_of) if g == k] for k in range(len(self._names))
        ]
        for places in [*groups, raws]:
            norm = global_norm([gradients[i] for i in places])
            factor = minimum(self.clip_norm / ops.where(norm > 0, norm, 1.0), 1.0)
            for i in places:
                gradients[i] = gradients[i] * ops.cast(factor, gradients[i].dtype)
        return gradients

    # Groups

    @property
    def _share(self):
        """$1 / (\\kappa N)$."""
        if self.data_emphasis == "auto":
            return 1.0 / sum(
                math.prod(v.shape) for v in self._weight_variables(self.trainable_variables)
            )
        return 1.0 / (self.data_emphasis * self.dataset_size)

    def _of(self, values, k):
        """The entry for weight `k` of one for all or one for each."""
        return values[0] if self.posterior == "isotropic" else values[k]

    def _groups(self, weights, raw):
        """`WeightGroup` of each name."""
        logs = [log_softplus(r) for r in raw]
        groups, kept = [], iter(self._means)
        remembered = [None if self._numbers[g] is not None else next(kept) for g in self._group_of]
        for k, number in enumerate(self._numbers):
            members = [i for i, g in enumerate(self._group_of) if g == k]
            parts = [upcast(weights[i]) for i in members]
            if number is None:
                centers = [ops.cast(remembered[i], part.dtype) for i, part in zip(members, parts)]
            else:
                centers = [ops.full(part.shape, number, dtype=part.dtype) for part in parts]
            scale = logs[0] if self.posterior == "isotropic" else [logs[i] for i in members]
            groups.append(weight_group(parts, scale, centers))
        return groups

    def _weight_variables(self, variables):
        """Those of the variables that were the model's at construction, in their order then."""
        found = {id(v): v for v in variables}
        own = set(map(id, self._raw))
        if set(found) - own != set(self._variable_ids):
            raise ValueError(
                "The trainable weights must be those that `DataEmphasizedELBo` was made with: set `trainable` "
                f"before. Received: {len(set(found) - own)} of them in the place of {len(self._variable_ids)}"
            )
        return [found[i] for i in self._variable_ids]

    def _kept(self, variable, name, initializer, trainable=False):
        return weight_like(
            self,
            variable,
            initializer,
            dtype="float32",
            trainable=trainable,
            autocast=False,
            aggregation="only_first_replica" if not trainable else "mean",
            name=name,
        )

    def _grouped(self, variables):
        """`(names, group of each variable)`."""
        given, means = self.prior_groups, self.prior_means
        if given == "layer":
            owners = [v.path.rpartition("/")[0] for v in variables]
            names = list(dict.fromkeys(owners))
            return names, [names.index(owner) for owner in owners]
        if given == "all" and not isinstance(means, Mapping):
            return ["all"], [0] * len(variables)
        if given == "all" and isinstance(means, Mapping):
            given = {name: [name] for name in means}
        if not isinstance(given, Mapping) or not given:
            raise ValueError(
                "`prior_groups` must be 'all', 'layer' or a dictionary of what belongs to each group. "
                f"Received: prior_groups={given!r}"
            )
        choosers = {name: chooser(where) for name, where in given.items()}
        members = [
            [k for k, chosen in enumerate(choosers.values()) if chosen(v)] for v in variables
        ]
        wrong = [v.path for v, found in zip(variables, members) if len(found) != 1]
        empty = [
            name for k, name in enumerate(choosers) if not any(k in found for found in members)
        ]
        if wrong or empty:
            raise ValueError(
                "Each trainable weight must be in one group, and each group must have one. Received: "
                f"{wrong or 'none'} in none or several, {empty or 'none'} without any"
            )
        return list(choosers), [found[0] for found in members]

    def _prior_mean(self, name):
        mean = self.prior_means
        if isinstance(mean, Mapping):
            if set(mean) - set(self._names):
                raise ValueError(
                    f"`prior_means` must name groups of {self._names}. Received: prior_means={dict(mean)!r}"
                )
            mean = mean.get(name)
        if mean == "initial":
            return mean
        return 0.0 if mean is None else check_number("prior_means", mean)
