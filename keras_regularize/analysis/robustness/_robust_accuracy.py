"""How often a classifier is right although its inputs are attacked."""

from collections.abc import Callable, Sequence
from typing import Any

import keras

from keras_regularize.analysis.robustness.meter import RobustAccuracyMeter


def robust_accuracy(
    model: keras.Model,
    x: Any,
    y: Any,
    attack: Callable | Sequence[Callable],
    batch_size: int = 128,
) -> float:
    r"""Accuracy on attacked inputs: the share of samples that no given attack gets misclassified.

    $$\frac1n \sum_i \min_{a \in \{\mathrm{id},\, a_1, a_2, \dots\}} \big[\arg\max_k f_k(a(x_i, y_i)) = y_i\big]$$

    The clean input counts as one of the attacks, since it lies in every ball around itself; robust accuracy
    therefore never exceeds accuracy. It is an upper bound of the accuracy in the worst case: a stronger attack
    (more steps, restarts, another loss) can only lower it, so report the attack beside the number.

    Attacks and model run in inference mode, compiled like `model.predict`. The model is not changed; the
    random starts of attacks move on, as every use of them does.

    Args:
        model: A classifier with one output `(batch, classes)` or `(batch, 1)`, or a wrapper of one.
        x: Inputs as arrays, in any nested structure the model takes.
        y: Class ids `(n,)` or `(n, 1)`, or one-hot or soft rows `(n, classes)`, of which the largest entry is
            the label. Further axes before the classes are positions, which count one by one.
        attack: A callable `attack(model, x, y)` that returns perturbed inputs, such as
            `kr.attacks.PGD(...)`, or a list of several: a sample must then withstand all.
        batch_size: Number of samples attacked at once, at least 1.

    Returns:
        A float between 0 and 1.

    Raises:
        ValueError: If `attack` is no attack, one that looks for a direction instead of an input
            (`VirtualAdversarial`) or for a target, if inputs lie farther than its `epsilon` outside its bounds,
            if `batch_size` is not positive, if there is no sample, or if labels and outputs do not fit.

    Cost: per attack its own passes and one forward pass, and one forward pass for the clean inputs.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    x = np.random.default_rng(0).random((20, 4))
    y = np.arange(20) % 3
    attack = kr.attacks.PGD(epsilon=0.1, step_size=0.03, steps=5, seed=0)
    kr.analysis.robust_accuracy(model, x, y, [attack, kr.attacks.FGSM(epsilon=0.1)])
    ```

    Reference: The measure is that of Madry, Makelov, Schmidt, Tsipras and Vladu, *Towards Deep Learning Models
    Resistant to Adversarial Attacks*, ICLR 2018, arXiv:1706.06083; the worst case over several attacks that of
    Croce and Hein, *Reliable Evaluation of Adversarial Robustness with an Ensemble of Diverse Parameter-free
    Attacks*, ICML 2020, arXiv:2003.01690.
    """
    return RobustAccuracyMeter(model, attack, batch_size)(x, y)
