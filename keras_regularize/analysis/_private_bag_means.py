"""Labels given out as noisy means of bags."""

from typing import Any

import numpy as np

from keras_regularize.validation import check_integer, check_number


def private_bag_means(
    y: Any, bag_size: int, epsilon: float, clip: float, seed: int | None = None
) -> np.ndarray:
    r"""Mean responses of bags of samples that are private for each response.

    Responses are clipped to $[-C, C]$ and averaged over bags of $k$ consecutive samples, and Laplace noise is
    added:

    $$\tilde y_b = \frac1k \sum_{i \in b} \min(\max(y_i, -C), C)
      + \mathrm{Lap}\Big(\frac{2 C}{k\,\epsilon}\Big) .$$

    One response moves the mean by at most $2C/k$, so the means of all bags are $\epsilon$-differentially private
    with respect to every single response (the inputs are not protected). The larger the bag, the less noise;
    train on the means with `kr.losses.AggregateResponse`. Shuffle the samples before: bags should be random.

    The paper's algorithm prints the scale $C \sqrt{\log n} / (k \epsilon)$ for its Gaussian responses; that of the
    general guarantee is used here. Floating-point Laplace noise leaks a little: where the guarantee has to
    withstand an adversary, take the noise from a library made for that.

    Args:
        y: Responses `(n,)` or `(n, outputs)`; $n$ must be a multiple of `bag_size`. With several outputs a
            person's privacy is $\epsilon$ for each.
        bag_size: Number $k$ of samples in a bag, at least 1.
        epsilon: $\epsilon > 0$; smaller is more private.
        clip: $C > 0$. Choose it without looking at the responses.
        seed: Seed of the noise, `None` for one that does not repeat. Whoever knows it can take the noise away.

    Returns:
        Means `(n / bag_size,)` or `(n / bag_size, outputs)`, in float64.

    Raises:
        ValueError: If an argument is out of range, or bags do not come out even.

    Cost: one pass over the responses.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    y = np.random.default_rng(0).uniform(-1, 1, size=64)
    means = kr.analysis.private_bag_means(y, bag_size=8, epsilon=1.0, clip=1.0)
    ```

    Reference: Adel Javanmard, Lin Chen, Vahab Mirrokni, Ashwinkumar Badanidiyuru and Gang Fu, *Learning from
    Aggregate responses: Instance Level versus Bag Level Loss Functions*, ICLR 2024, arXiv:2401.11081.
    """
    check_integer("bag_size", bag_size, minimum=1)
    for name, value in (("epsilon", epsilon), ("clip", clip)):
        check_number(name, value, above=0)
    y = np.asarray(y, "float64")
    if y.ndim == 0 or len(y) % bag_size:
        raise ValueError(
            "The number of responses must be a multiple of `bag_size`. Received: "
            f"y.shape={y.shape}, bag_size={bag_size}"
        )
    bags = np.clip(y, -clip, clip).reshape(-1, bag_size, *y.shape[1:])
    means = bags.mean(axis=1)
    scale = 2.0 * clip / (bag_size * epsilon)
    return means + np.random.default_rng(seed).laplace(scale=scale, size=means.shape)
