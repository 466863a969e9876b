"""Cluster probabilities made surer and more balanced, as targets for themselves."""

from typing import Any

from keras import ops

from keras_regularize.numerics import upcast
from keras_regularize.validation import check_number


def cluster_target_distribution(probabilities: Any, power: float = 2.0, mask: Any = None) -> Any:
    r"""Targets for self-training of clusters: surer than the predictions, and with rare clusters raised.

    $$q_{ik} = \frac{(p_{ik} / \sqrt{f_k})^\nu}{\sum_l (p_{il} / \sqrt{f_l})^\nu}, \qquad
      f_k = \sum_i p_{ik},$$

    without gradient. $\nu = 1$ is the closed form of DEPICT, $\nu = 2$ what its code computes, and DEC; large ones
    assign each sample to one cluster. The frequencies $f$ are of the samples given: take all of the data, or large
    batches.

    Args:
        probabilities: $p$, `(n, clusters)`.
        power: $\nu > 0$.
        mask: Bools or numbers `(n,)`, which samples count in the frequencies; all by default.

    Returns:
        $q$, `(n, clusters)`, rows with the sum 1, in at least float32. A cluster without any probability stays so.

    Raises:
        ValueError: If probabilities are no rows or `power` is not positive.

    Cost: a few passes over the probabilities.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    kr.losses.cluster_target_distribution(np.array([[0.6, 0.4], [0.9, 0.1]]))
    ```

    Reference: Kamran Ghasedi Dizaji, Amirhossein Herandi, Cheng Deng, Weidong Cai and Heng Huang, *Deep Clustering
    via Joint Convolutional Autoencoder Embedding and Relative Entropy Minimization*, ICCV 2017, arXiv:1704.06327.
    """
    power = check_number("power", power, above=0)
    p = ops.stop_gradient(upcast(probabilities))
    if len(p.shape) != 2:
        raise ValueError(
            f"`probabilities` must be `(n, clusters)`. Received: shape={tuple(p.shape)}"
        )
    counted = p if mask is None else p * ops.cast(ops.convert_to_tensor(mask), p.dtype)[:, None]
    frequencies = ops.sum(counted, axis=0)
    some = frequencies > 0
    raised = ops.where(some, p / ops.sqrt(ops.where(some, frequencies, 1.0)), 0.0)
    # Of the largest of a row a large power is 1.
    largest = ops.max(raised, axis=1, keepdims=True, initial=0.0)
    raised = ops.power(raised / ops.where(largest > 0, largest, 1.0), power)
    total = ops.sum(raised, axis=1, keepdims=True)
    return raised / ops.where(total > 0, total, 1.0)
