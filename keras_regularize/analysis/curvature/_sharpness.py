"""How much the loss rises nearby."""

from typing import Any

import keras
import numpy as np

from keras_regularize.analysis._objective import Objective, flat
from keras_regularize.analysis._progress import progress
from keras_regularize.analysis.curvature._lanczos import norm
from keras_regularize.validation import check_integer, check_number


def sharpness(
    model: keras.Model,
    x: Any,
    y: Any = None,
    rho: float = 0.05,
    adaptive: bool = False,
    ascent_steps: int = 1,
    *,
    sample_weight: Any = None,
    loss: Any = None,
    batch_size: int = 32,
    include_regularization: bool = False,
) -> float:
    r"""How much a model's mean loss rises within a small ball around its weights.

    $$L(w + \epsilon) - L(w),\qquad \epsilon = \rho\, \frac{g}{\|g\|},\quad g = \nabla L(w),$$

    what `kr.models.SAM` makes small, over the whole data set. `adaptive` measures the ball in the scale of each
    weight as `kr.models.ASAM` does, $\epsilon = \rho\, w^2 g / \|w\, g\|$ elementwise, so that rescaling weights
    that cancel out changes little. With more `ascent_steps` gradient ascent looks for the worst point of the ball,
    each step half as wide as it and projected back; the largest rise seen counts, at least that of the first.

    Args:
        model: A built model, or a wrapper of one; it runs in inference mode and is not changed.
        x: Inputs as arrays, in any nested structure the model takes, or a dataset of batches as `fit` takes them.
        y: Labels as the loss takes them; `None` with a dataset.
        rho: Radius $\rho$ of the ball, at least 0.
        adaptive: Whether the ball is as wide in each direction as the weight is large.
        ascent_steps: Number of gradients, at least 1.
        sample_weight: Weights of samples, or `None`; also the third entry of a dataset's batches.
        loss: A loss of Keras, or a name or function of one with a value per sample; by default the compiled one.
        batch_size: Samples at once where `x` is arrays; it changes time and memory only, but where a loss takes
            the samples of a batch together, as the mean over unmasked positions does in `evaluate`.
        include_regularization: Whether the model's penalties of weights and activities are part of the loss.

    Returns:
        A float; 0 where the gradient is.

    Raises:
        ValueError: If an argument is out of range, the model is not built, or there is no loss or no sample.

    Cost: per step a gradient and a forward pass, and a forward pass.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    x, y = np.random.normal(size=(60, 4)), np.arange(60) % 3
    print(kr.analysis.sharpness(model, x, y, rho=0.1, ascent_steps=10))
    ```

    Reference: Pierre Foret, Ariel Kleiner, Hossein Mobahi and Behnam Neyshabur, *Sharpness-Aware Minimization for
    Efficiently Improving Generalization*, ICLR 2021, arXiv:2010.01412; adaptive, Jungmin Kwon and others, *ASAM:
    Adaptive Sharpness-Aware Minimization for Scale-Invariant Learning of Deep Neural Networks*, ICML 2021,
    arXiv:2102.11600.
    """
    check_number("rho", rho, minimum=0)
    check_integer("ascent_steps", ascent_steps, minimum=1)
    objective = Objective(
        "sharpness",
        model,
        x,
        y,
        sample_weight,
        loss,
        batch_size,
        include_regularization,
    )
    center = flat(objective.weights).astype("float64")
    scale = np.abs(center) if adaptive else np.ones_like(center)

    def at(moved):
        return objective.unflat((center + scale * moved).astype(objective.dtype))

    # In coordinates that are divided by the scale, the ball is round.
    moved, before, rise = np.zeros_like(center), objective.value(), 0.0
    for i in progress(range(ascent_steps), "sharpness", ascent_steps):
        gradient = scale * objective.gradient(at(moved) if i else None).astype("float64")
        size = norm(gradient)
        if size == 0:
            break
        # The first step goes to the border, where SAM looks.
        moved = moved + (rho if i == 0 else 0.5 * rho) * gradient / size
        moved *= min(1.0, rho / (norm(moved) or 1.0))
        new = objective.value(at(moved)) - before
        rise = new if i == 0 else max(rise, new)
    return float(rise)
