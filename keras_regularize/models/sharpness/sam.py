"""Sharpness-aware minimization."""

from typing import Any

import keras
from keras import ops, tree

from keras_regularize.models.regularized_model import RegularizedModel
from keras_regularize.models.sharpness._gradients import climb
from keras_regularize.models.step.objective import Aux
from keras_regularize.registration import export
from keras_regularize.validation import check_integer, check_number


@export
class SAM(RegularizedModel):
    r"""Sharpness-aware minimization: descends with the gradient at the worst nearby weights.

    $$g_\mathrm{SAM} = \nabla L(w + e), \qquad e = \rho\,\frac{\nabla L(w)}{\|\nabla L(w)\|_2 + \epsilon}$$

    The norm is taken jointly over all trainable variables, $e$ is a constant, both gradients use the same batch
    and the same dropout masks, and the optimizer steps at $w$. Regularizers are part of $L$, the optimizer's
    own weight decay is not. `rho=0` is plain training.

    Tips: try `rho` from 0.05 to 0.2 (more under label noise, where SAM resists memorization); a smaller
    `micro_batch_size` often generalizes better at the same cost. Clip gradients with the optimizer's
    `global_clipnorm` if needed; the reference trainer clips at 5.

    Args:
        model: The model to train, or another wrapper, whose whole objective is then perturbed.
        rho: Length $\rho$ of the perturbation, in units of the weights, at least 0; or a schedule.
        epsilon: Guard $\epsilon$ of the division, at least 0. A gradient of length 0 gives a plain step
            whatever it is.
        micro_batch_size: Size of the groups of consecutive samples that each get their own perturbation
            (m-sharpness); the last may be smaller. `None` takes the whole batch. Needs a batch size known
            before running.
        local_perturbation: On several replicas, perturb along each replica's own gradient (m-sharpness)
            rather than the global one.
        **kwargs: `name` and other arguments of `keras.Model`.

    Raises:
        ValueError: If an argument is out of range or `model` is not a `keras.Model`.

    Cost: two forward-backward passes per step.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    net = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    model = kr.models.SAM(net, rho=0.05)
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(np.ones((8, 3)), np.zeros(8), verbose=0)
    ```

    Reference: Foret, Kleiner, Mobahi and Neyshabur, *Sharpness-Aware Minimization for Efficiently Improving
    Generalization*, ICLR 2021, arXiv:2010.01412. Differs from the authors' code in the guard `epsilon`
    (theirs gives NaN at a zero gradient) and in leaving clipping to the optimizer.
    """

    def __init__(
        self,
        model: keras.Model,
        rho: Any = 0.05,
        epsilon: float = 1e-12,
        micro_batch_size: int | None = None,
        local_perturbation: bool = False,
        **kwargs: Any,
    ):
        super().__init__(model, **kwargs)
        self.rho = check_number("rho", rho, minimum=0, schedule=True)
        self.epsilon = check_number("epsilon", epsilon, minimum=0)
        self.micro_batch_size = check_integer(
            "micro_batch_size", micro_batch_size, minimum=1, optional=True
        )
        self.local_perturbation = local_perturbation

    def gradients(self, objective, weights, batch):
        if self.micro_batch_size is None:
            return self._sharpness_aware(objective, weights, batch)
        parts = _split(batch, self.micro_batch_size)
        results = [self._sharpness_aware(objective.on(part), weights, part) for part, _ in parts]
        return _average(results, [share for _, share in parts])

    def _sharpness_aware(self, objective, weights, batch):
        first = objective.local() if self.local_perturbation else objective
        loss, aux, gradients = super().gradients(first, weights, batch)
        rho = self.scheduled(self.rho, batch)
        perturbed = climb(weights, gradients, rho, self.epsilon)
        _, _, gradients = super().gradients(objective, perturbed, batch)
        return loss, aux, gradients


def _split(batch, size):
    """Consecutive parts of a batch and the share of samples in each."""
    rows = next(leaf for leaf in tree.flatten(batch.x) if leaf is not None).shape[0]
    if rows is None:
        raise ValueError(
            "`micro_batch_size` needs a batch size known before running. Batches of unknown size came in: "
            "choose a `batch_size` that divides the data, or batch with `drop_remainder=True`."
        )
    per_sample = (batch.x, batch.y, batch.sample_weight, dict(batch.columns), dict(batch.extra))
    parts = []
    for begin in range(0, rows, size):
        end = min(begin + size, rows)
        x, y, sample_weight, columns, extra = tree.map_structure(
            lambda leaf: None if leaf is None else leaf[begin:end],  # noqa: B023
            per_sample,
        )
        part = batch.replace(x=x, y=y, sample_weight=sample_weight, columns=columns, extra=extra)
        parts.append((part, (end - begin) / rows))
    return parts


def _average(results, shares):
    """Losses, gradients and state updates averaged over parts, outputs and values joined."""

    def mean(*leaves):
        if not keras.backend.is_float_dtype(keras.backend.standardize_dtype(leaves[0].dtype)):
            return leaves[0]  # Seeds: every part started from the same.
        return sum(share * leaf for share, leaf in zip(shares, leaves))

    def join(*leaves):
        return ops.concatenate(leaves, axis=0) if len(leaves[0].shape) else mean(*leaves)

    losses, auxes, gradients = zip(*results)
    aux = Aux(
        tree.map_structure(join, *[a.values for a in auxes]),
        tree.map_structure(join, *[a.outputs for a in auxes]),
        tree.map_structure(mean, *[a.updates for a in auxes]),
        tree.map_structure(mean, *[a.states for a in auxes]),
    )
    return mean(*losses), aux, [mean(*parts) for parts in zip(*gradients)]
