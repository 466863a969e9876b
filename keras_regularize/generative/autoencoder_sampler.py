"""Draws from the density that an autoencoder has learnt."""

from typing import Any

import numpy as np
from keras import ops

from keras_regularize.analysis.autoencoders import autoencoder_log_density_difference
from keras_regularize.validation import check_integer, check_number


class AutoencoderSampler:
    r"""Draws from the density that a denoising autoencoder has learnt, by random steps that are accepted or not.

    From a point $x$ a step proposes $x' = x + N(0, \tau^2 I)$ and accepts it with the probability

    $$\min\big(1,\; p(x') / p(x)\big),$$

    the Metropolis-Hastings rule, for the density of `kr.analysis.autoencoder_log_density_difference`. A chain that
    starts at data stays near them and moves along them. Unlike the iterated reconstruction it does not end in a
    mode.

    Args:
        model: The autoencoder.
        stddev: $\sigma > 0$, the deviation of the noise of its training.
        proposal_stddev: $\tau > 0$; $\sigma$ by default. Of the order at which a third of the steps are accepted.
        steps: Number of intervals at which the score is taken from $x$ to $x'$, at least 1.
        seed: Integer seed of the steps, or None.

    Attributes:
        acceptance_rate_: Share of the steps of the last chain that were accepted.

    Raises:
        ValueError: If an argument is out of range.

    Cost: per step one forward pass of `(steps + 1) * batch` rows.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(8, "tanh"), keras.layers.Dense(2)])
    sampler = kr.generative.AutoencoderSampler(model, stddev=0.3, seed=0)
    chain = sampler.sample(np.zeros((5, 2)), num_steps=20)  # (20, 5, 2)
    ```

    Reference: Guillaume Alain and Yoshua Bengio, *What Regularized Auto-Encoders Learn from the Data Generating
    Distribution*, JMLR 2014, arXiv:1211.4246.
    """

    acceptance_rate_: float

    def __init__(
        self,
        model: Any,
        stddev: float,
        proposal_stddev: float | None = None,
        steps: int = 10,
        seed: int | None = None,
    ):
        self.model = model
        self.stddev = check_number("stddev", stddev, above=0)
        proposal_stddev = check_number("proposal_stddev", proposal_stddev, above=0, optional=True)
        self.proposal_stddev = self.stddev if proposal_stddev is None else proposal_stddev
        self.steps = check_integer("steps", steps, minimum=1)
        self.seed = check_integer("seed", seed, optional=True)

    def sample(self, start: Any, num_steps: int) -> np.ndarray:
        """Runs one chain from every point.

        Args:
            start: Points `(batch, …)`, such as data.
            num_steps: Number of steps, at least 1.

        Returns:
            Where the chains are after each step, `(num_steps, batch, …)`.
        """
        check_integer("num_steps", num_steps, minimum=1)
        random = np.random.default_rng(self.seed)
        x = np.array(ops.convert_to_numpy(start), "float32")
        chain, accepted = np.empty((num_steps, *x.shape), "float32"), 0.0
        for place in chain:
            moved = x + self.proposal_stddev * random.standard_normal(x.shape, "float32")
            gain = autoencoder_log_density_difference(self.model, x, moved, self.stddev, self.steps)
            likely = np.asarray(ops.convert_to_numpy(ops.stop_gradient(gain)))
            taken = np.log(random.uniform(size=len(x))) < likely
            x = np.where(taken.reshape(-1, *(1,) * (x.ndim - 1)), moved, x)
            place[...] = x
            accepted += taken.mean() if len(x) else 0.0
        self.acceptance_rate_ = float(accepted / num_steps)
        return chain
