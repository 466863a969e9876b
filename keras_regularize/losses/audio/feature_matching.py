"""Features that a discriminator sees, matched between real and generated samples."""

from typing import Any

from keras import ops, tree

from keras_regularize.numerics import mean, safe_abs, upcast
from keras_regularize.validation import compatible


def feature_matching_loss(real_features: Any, fake_features: Any) -> Any:
    r"""Mean absolute difference between what a discriminator sees in real and in generated samples.

    $$\frac1L \sum_{l=1}^{L} \operatorname{mean}\, \big| \hat\phi_l - \phi_l \big|,$$

    the mean over all feature maps, without gradient through those of real samples. A generator gets by it a
    gradient also where the discriminator is sure, and stays near the sample that it was given the input of.

    Args:
        real_features: Feature maps of real samples: a tensor, or a list, nested if there are several
            discriminators.
        fake_features: Those of the generated samples, of the same structure and shapes.

    Returns:
        A scalar.

    Raises:
        ValueError: If there is no map, or structures or shapes differ.

    Cost: one pass over the maps.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    real = [[np.ones((2, 8, 4)), np.ones((2, 4, 8))], [np.ones((2, 4, 4))]]
    fake = [[np.zeros((2, 8, 4)), np.ones((2, 4, 8))], [np.ones((2, 4, 4))]]
    kr.generative.feature_matching_loss(real, fake)  # 1 / 3
    ```

    Reference: Kundan Kumar and others, *MelGAN: Generative Adversarial Networks for Conditional Waveform
    Synthesis*, NeurIPS 2019, arXiv:1910.06711.
    """
    real, fake = _maps(real_features), _maps(fake_features)
    shapes = [[tuple(x.shape) for x in maps] for maps in (real, fake)]
    if not real or len(real) != len(fake) or not all(map(compatible, *shapes)):
        raise ValueError(
            "Expected feature maps of the same structure and shapes, at least one. "
            f"Received shapes: real {shapes[0]}, fake {shapes[1]}"
        )
    terms = [mean(safe_abs(f - ops.stop_gradient(r))) for r, f in zip(real, fake)]
    return sum(terms[1:], terms[0]) / len(terms)


def _maps(features):
    """The maps of a nested structure; an array is one."""
    if not isinstance(features, (list, tuple, dict)):
        features = [features]
    return [upcast(ops.convert_to_tensor(x)) for x in tree.flatten(features)]
