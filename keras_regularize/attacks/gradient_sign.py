"""Single-step attack along the sign of the input gradient."""

from collections.abc import Sequence
from typing import Any

from keras import ops

from keras_regularize.attacks._criteria import criterion
from keras_regularize.attacks.attack import Attack, ascent_direction
from keras_regularize.attacks.bounds import Bounds, check_bounds, clip_to_bounds
from keras_regularize.attacks.channels import per_channel
from keras_regularize.registration import export
from keras_regularize.validation import check_numbers


@export
class FGSM(Attack):
    r"""Fast gradient sign method: one step of full size along the sign of the input gradient.

    $$x' = \mathrm{clip}\big(x + \epsilon\,\mathrm{sign}(\nabla_x \ell(x, y))\big)$$

    with the cross-entropy as $\ell$. A targeted attack takes the labels it is called with as targets, and the
    step against the sign.

    Args:
        epsilon: Radius of the $L_\infty$ ball, in units of the inputs, at least 0; or a list of one for each
            channel, as for images that were standardized channel by channel (`[8 / 255 / s for s in deviations]`).
            Channels are the last axis, or that of `keras.config.image_data_format()`.
        bounds: Smallest and largest allowed input, each a number or a list of one for each channel; or `None`,
            for inputs without any. The search is clipped into them; inputs farther than `epsilon` outside are an
            error.
        layer: Layer, or its name, whose output is perturbed instead of the inputs (token ids, say);
            `bounds` must then be `None`.
        from_logits: Whether the attacked model gives out logits. `None` asks its compiled loss, or of a model
            without one the activation of its last layer.
        targeted: Whether the labels of a call are targets, towards which the loss is descended.
        inputs: Names (dictionary) or positions (list) of the inputs that are perturbed, the others staying as they
            are (they may be ids); all floating ones by default. Not together with `layer`.

    Call: `attack(model, x, y)` returns inputs like `x`; labels are ids or rows. Inputs of several tensors
    are perturbed jointly.

    Raises:
        ValueError: If an argument is out of range, labels are missing, no input is floating and no `layer` is
            given, or inputs lie farther than `epsilon` outside the bounds.

    Cost: one forward pass and one backward pass to the inputs; with `layer` one more forward pass.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    x = np.random.default_rng(0).random((5, 4), dtype="float32")
    adversarial = kr.attacks.FGSM(epsilon=0.1)(model, x, np.array([0, 1, 2, 0, 1]))
    ```

    Reference: Goodfellow, Shlens and Szegedy, *Explaining and Harnessing Adversarial Examples*, ICLR 2015,
    arXiv:1412.6572.
    """

    #: What is maximized, as other attacks let one choose.
    loss = "cross_entropy"

    def __init__(
        self,
        epsilon: float | Sequence[float] = 8 / 255,
        bounds: Bounds | None = (0.0, 1.0),
        layer: Any = None,
        from_logits: bool | None = None,
        targeted: bool = False,
        inputs: Sequence[str | int] | None = None,
    ):
        super().__init__(layer=layer, from_logits=from_logits, inputs=inputs)
        self.epsilon = check_numbers("epsilon", epsilon, minimum=0)
        self.bounds = check_bounds(bounds, layer)
        self.targeted = bool(targeted)

    def search(self, point, y):
        value = criterion(self.loss, point, y, self, self.targeted)
        gradient = ascent_direction(point, value, point.start)
        moved = [
            x + per_channel(self.epsilon, x) * ops.sign(g) for x, g in zip(point.start, gradient)
        ]
        return clip_to_bounds(moved, self.bounds)
