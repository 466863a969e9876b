"""Representations for tasks that are not known yet: a game against the one who chooses the task."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_regularize import autodiff
from keras_regularize.configuration import Configured
from keras_regularize.models.step.standalone import mean_loss
from keras_regularize.registration import export
from keras_regularize.validation import check_integer, check_number


@export
class RepresentationGame(Configured):
    r"""Finds linear representations of a given rank that are good for every task of a class, by playing for them.

    One player draws a representation $R$ of $r$ columns from a mixture, the other a task $f$ with $f^\top S^{-1} f
    \le 1$, whose targets are $f^\top x$. The second wins what the best linear predictor from $R^\top x$ loses,

    $$\min_{p} \max_{f} \sum_j p_j \min_q\, \mathbb E\, \ell(f^\top x,\ q^\top R_j^\top x).$$

    `fit` plays rounds. In each, the worst task for the present mixture of representations is found by projected
    gradient ascent and added; then the best representation for the present mixture of tasks by gradient descent
    over $R$ and a predictor for each task; then both mixtures are found anew by multiplicative weights on the
    matrix of losses. For the squared error the value is known, `kr.analysis.minimax_linear_regret(…,
    randomized=True)`, and comes out; the game is for the losses where it is not. There is no guarantee for these.

    Args:
        rank: $r \ge 1$.
        loss: A Keras loss, its name, or a function `(y_true, y_pred)`, convex in the prediction, 0 at the target.
        rounds: Number of rounds, at least 1: representations and tasks found.
        steps: Gradient steps of each search, at least 1.
        learning_rate: Of the steps for representations, by Adam, above 0, at inputs of variance 1.
        seed: Of the first guesses.

    Attributes:
        representations: The matrices $R_j$, `(d, rank)`; features are `x @ R`.
        weights: How often to take each, with the sum 1.
        tasks: The tasks $f_k$ that were found, `(d,)` each.
        task_weights: Their mixture.
        regret: The loss of the mixture at the worst task that a last search finds.
        history: The value of the game on what was found, a number per round.

    Raises:
        ValueError: If an argument is out of range, or data and prior do not fit.

    Cost: `2 · rounds · steps` gradients, of up to `rounds` products of the data each.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    x = np.random.default_rng(0).normal(size=(200, 4)) * [2, 1.5, 1, 0.5]
    game = kr.models.RepresentationGame(rank=1, rounds=3, steps=50).fit(x, np.eye(4))
    features = x @ game.representations[game.weights.argmax()]
    ```

    Reference: Neria Uzan and Nir Weinberger, *A representation-learning game for classes of prediction tasks*,
    ICLR 2024, arXiv:2403.06971.
    """

    def __init__(
        self,
        rank: int,
        loss: Any = "mean_squared_error",
        rounds: int = 10,
        steps: int = 200,
        learning_rate: float = 0.05,
        seed: int | None = None,
    ):
        self.rank = check_integer("rank", rank, minimum=1)
        self.loss = loss
        self.rounds = check_integer("rounds", rounds, minimum=1)
        self.steps = check_integer("steps", steps, minimum=1)
        self.learning_rate = check_number("learning_rate", learning_rate, above=0)
        self.seed = check_integer("seed", seed, optional=True)

    def fit(self, x: Any, prior: Any) -> "RepresentationGame":
        """Plays for tasks of the ellipsoid of `prior`, $S$ `(d, d)`, on inputs `x (n, d)`; returns itself."""
        x, prior = np.asarray(x, "float64"), np.asarray(prior, "float64")
        if (
            x.ndim != 2
            or prior.shape != (x.shape[1],) * 2
            or not 1 <= self.rank <= x.shape[1]
            or not len(x)
        ):
            raise ValueError(
                f"Expected inputs (n, d) of at least {self.rank} columns and a prior (d, d). "
                f"Received: x.shape={x.shape}, prior.shape={prior.shape}"
            )
        x = x - x.mean(axis=0)
        values, axes = np.linalg.eigh((prior + prior.T) / 2)
        self._root = axes * np.sqrt(np.maximum(values, 0.0))
        # Searches are in coordinates in which inputs have variance 1.
        spread = np.maximum(x.std(axis=0), 1e-12)
        self._scale, self._x = spread, ops.convert_to_tensor((x / spread).astype("float32"))
        self._loss = keras.losses.get(self.loss)
        rng, dim = np.random.default_rng(self.seed), x.shape[1]
        scaled: list[np.ndarray] = []
        directions: list[np.ndarray] = []
        weights, losses = np.ones(1), None
        self.history: list[float] = []
        for _ in range(self.rounds):
            directions.append(self._worst(scaled, weights, directions, rng))
            count = len(directions)
            of_tasks = np.full(count, 1.0 / count)
            if losses is not None:
                losses = self._matrix(scaled, directions)
                _, of_tasks = _mixtures(losses)
            scaled.append(self._best(directions, of_tasks, rng, dim))
            losses = self._matrix(scaled, directions)
            weights, of_tasks = _mixtures(losses)
            self.history.append(float(weights @ losses @ of_tasks))
        last = self._worst(scaled, weights, directions, rng)
        self.regret = float(weights @ self._matrix(scaled, [last])[:, 0])
        kept = weights > 1e-6
        self.weights = weights[kept] / weights[kept].sum()
        self.representations = [r / spread[:, None] for r, k in zip(scaled, kept) if k]
        self.tasks = [self._root @ u for u in directions]
        self.task_weights = of_tasks
        return self

    def _task(self, u):
        """What a task, a point of the unit ball, asks for of the scaled inputs."""
        matrix = ops.convert_to_tensor((self._root * self._scale[:, None]).astype("float32"))
        return ops.matmul(self._x, ops.matmul(matrix, u))

    def _risk(self, targets, representations, predictors):
        """Mean losses `(atoms,)` of predictors `(atoms, rank)` on representations `(atoms, d, rank)`."""
        columns = ops.einsum("adr,ar->da", representations, predictors)
        predicted = ops.matmul(self._x, columns)
        pairs = [
            mean_loss(self._loss, targets[:, None], predicted[:, i : i + 1])
            for i in range(columns.shape[1])
        ]
        return ops.stack(pairs)

    def _predictors(self, representations, u):
        """The best predictors for a task on each representation: least squares, then steps of the loss."""
        x, targets = ops.convert_to_numpy(self._x), ops.convert_to_numpy(self._task(_tensor(u)))
        fits = [np.linalg.lstsq(x @ r, targets, rcond=None)[0] for r in representations]
        start = np.array(fits, "float32")
        if self.loss in ("mean_squared_error", "mse"):
            return start
        fixed, targets = _tensor(np.array(representations)), _tensor(targets)

        def total(q):
            return ops.sum(self._risk(targets, fixed, q[0]))

        return self._search(total, [start], self.steps // 4 + 1)[0]

    def _matrix(self, representations, directions):
        """The loss of each representation at each task."""
        fixed, columns = _tensor(np.array(representations)), []
        for u in directions:
            q = _tensor(self._predictors(representations, u))
            columns.append(ops.convert_to_numpy(self._risk(self._task(_tensor(u)), fixed, q)))
        return np.array(columns, "float64").T

    def _worst(self, representations, weights, known, rng):
        """A task at which the mixture loses most: the best of searches from random and from known ones."""
        starts = [*rng.normal(size=(2, self._root.shape[1])), *known[-2:]]
        found = []
        for u in starts:
            best = (-np.inf, u)
            for _ in range(self.steps):
                u = u / max(np.linalg.norm(u), 1e-12)
                value, slope = self._loss_of_task(representations, weights, u)
                if value <= best[0] * (1.0 + 1e-6):
                    break
                # The loss is convex in the task: it rises up to the point of the ball furthest along the slope.
                best, u = (value, u), slope
            found.append(best)
        return max(found, key=lambda pair: pair[0])[1]

    def _loss_of_task(self, representations, weights, u):
        if not representations:

            def total(u):
                targets = self._task(u)[:, None]
                return mean_loss(self._loss, targets, 0.0 * targets)
        else:
            # The best predictors have no gradient of their own.
            q = _tensor(self._predictors(representations, u))
            fixed, shares = _tensor(np.array(representations)), _tensor(weights)

            def total(u):
                return ops.sum(shares * self._risk(self._task(u), fixed, q))

        value, slope = autodiff.value_and_grad(total)(_tensor(u))
        return float(ops.convert_to_numpy(value)), np.asarray(
            ops.convert_to_numpy(slope), "float64"
        )

    def _best(self, directions, of_tasks, rng, dim):
        """A representation for a mixture of tasks, found with a predictor for each."""
        targets = [self._task(_tensor(u)) for u in directions]
        shares = [float(share) for share in of_tasks]

        def total(values):
            r, q = values
            features = ops.matmul(self._x, r)
            predicted = ops.matmul(features, q)
            return sum(
                share * mean_loss(self._loss, y[:, None], predicted[:, k : k + 1])
                for k, (share, y) in enumerate(zip(shares, targets))
            )

        start = [rng.normal(size=(dim, self.rank)), rng.normal(size=(self.rank, len(directions)))]
        return self._search(total, start, 2 * self.steps)[0]

    def _search(self, objective, start, steps):
        """Adam from `start`; the best point it passes."""
        run = autodiff.value_and_grad(objective)
        values = [np.asarray(v, "float64") for v in start]
        moments = [np.zeros((2, *v.shape)) for v in values]
        best = (np.inf, values)
        for step in range(1, steps + 1):
            value, slopes = run([_tensor(v) for v in values])
            value = float(ops.convert_to_numpy(value))
            if value < best[0]:
                best = (value, [v.copy() for v in values])
            rate = self.learning_rate * min(1.0, 2.0 * (1.0 - (step - 1) / steps))
            values = [
                v - _adam(m, np.asarray(ops.convert_to_numpy(s), "float64"), step, rate)
                for v, m, s in zip(values, moments, slopes)
            ]
        return best[1]


def _tensor(x):
    return ops.convert_to_tensor(np.asarray(x, "float32"))


def _adam(moments, slope, step, rate):
    moments[0] = 0.9 * moments[0] + 0.1 * slope
    moments[1] = 0.99 * moments[1] + 0.01 * slope**2
    mean, square = moments[0] / (1 - 0.9**step), moments[1] / (1 - 0.99**step)
    return rate * mean / (np.sqrt(square) + 1e-12)


def _mixtures(losses, turns=4000):
    """Mean mixtures of the two players of a matrix game, rows to lose little, by multiplicative weights."""
    scaled = losses / max(losses.max(), 1e-30)
    rows, columns = (np.zeros(n) for n in losses.shape)
    total_rows, total_columns = np.zeros_like(rows), np.zeros_like(columns)
    rates = [np.sqrt(8 * np.log(max(n, 2)) / turns) for n in losses.shape]
    for _ in range(turns):
        p, q = np.exp(rows - rows.max()), np.exp(columns - columns.max())
        p, q = p / p.sum(), q / q.sum()
        total_rows, total_columns = total_rows + p, total_columns + q
        rows = rows - rates[0] * (scaled @ q)
        columns = columns + rates[1] * (p @ scaled)
    return total_rows / turns, total_columns / turns
