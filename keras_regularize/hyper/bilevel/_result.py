"""What the solvers of bilevel problems return."""

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True, eq=False)
class BilevelResult:
    """Where a search for hyperparameters ended.

    Attributes:
        weights: The weights, as arrays in the structure that was given.
        hyperparameters: The hyperparameters, as arrays in the structure that was given.
        outer_loss: The outer objective there.
        converged: Whether the search ended where there was nothing more to gain.
        history: Lists with an entry for each iteration: `outer_loss`, `hyperparameters` (flat), `gradient_norm`,
            `accuracy`, `inner_iterations` (gradients of the inner objective so far).
    """

    weights: Any
    hyperparameters: Any
    outer_loss: float
    converged: bool
    history: dict[str, list[Any]]

    def plot(self, ax: Any = None) -> Any:
        """Draws the outer objective against the work so far.

        Args:
            ax: Axes of Matplotlib to draw on; `None` for the current ones.

        Returns:
            The axes.
        """
        import matplotlib.pyplot as plt

        ax = plt.gca() if ax is None else ax
        ax.plot(self.history["inner_iterations"], self.history["outer_loss"], marker=".")
        ax.set(xlabel="gradients of the inner objective", ylabel="outer objective")
        return ax


class History:
    """Collects what happened in each iteration, and hands it to a user's callback."""

    def __init__(self, problem, callback):
        self._problem, self._callback = problem, callback
        self.records: dict[str, list[Any]] = {}
        self.work = 0

    def add(self, a, **entries):
        """Notes an iteration at the flat hyperparameters `a`."""
        entry = {**entries, "hyperparameters": a.copy(), "inner_iterations": self.work}
        for name, value in entry.items():
            self.records.setdefault(name, []).append(value)
        if self._callback is not None:
            self._callback(len(self.records["outer_loss"]) - 1, entry)

    def result(self, w, a, value, converged):
        """The end of the search."""
        problem = self._problem
        return BilevelResult(
            problem.weights(w), problem.hyperparameters(a), value, converged, self.records
        )
