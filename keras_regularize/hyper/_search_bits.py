"""A genetic search for the bits of every layer."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from keras_regularize.validation import check_integer, check_number


def search_bits(
    predictor: Callable[[Any], Any],
    num_genes: int,
    bits: Sequence[int] = (2, 3, 4, 5, 6, 7, 8),
    average_bits: float = 4.0,
    flags: Sequence[int] = (),
    population: int = 100,
    generations: int = 500,
    seed: int | None = None,
) -> tuple[np.ndarray, float]:
    r"""Finds the bits of every layer of the best predicted accuracy at a given average number of bits.

    A genetic algorithm: each generation keeps the best quarter as parents and refills the population with
    mutated ones, every gene drawn anew with probability 0.1, and with uniform crossovers of two, half each.
    Only rows with an average in $(\bar b - 0.5, \bar b]$ live.

    Args:
        predictor: Function of an array `(rows, num_genes + flags)` of bits and flags that returns what to
            maximize, `(rows,)`: a `kr.hyper.AccuracyPredictor`, or one that measures.
        num_genes: Numbers to choose, for instance the bits of the weights and of the inputs of all layers.
        bits: The bit widths to choose from, ascending.
        average_bits: $\bar b$, the largest average.
        flags: Appended to every row, see `AccuracyPredictor`.
        population: Rows in a generation, at least 4.
        generations: Number of generations, at least 1.
        seed: Seed of the search.

    Returns:
        The best row found, `(num_genes,)` integers, and its predicted value.

    Raises:
        ValueError: If an argument is out of range, or no row can have such an average.

    Cost: `generations` calls of the predictor on `population` rows.

    Example:

    ```python
    import keras_regularize as kr

    # The first gene matters most.
    row, value = kr.hyper.search_bits(
        lambda rows: rows @ [4.0, 2.0, 1.0], 3, bits=(2, 4, 8), average_bits=5, generations=20, seed=0
    )
    # row is [8, 4, 2]
    ```

    Reference: Xu, Han, Tian, Yang and Zhang, *EQ-Net: Elastic Quantization Neural Networks*, ICCV 2023,
    arXiv:2308.07650.
    """
    check_integer("num_genes", num_genes, minimum=1)
    check_integer("population", population, minimum=4)
    check_integer("generations", generations, minimum=1)
    check_number("average_bits", average_bits)
    choices = np.array(list(bits) if np.ndim(bits) else [])
    if not choices.size or list(choices) != sorted(set(choices.tolist())):
        raise ValueError(f"`bits` must be bit widths in ascending order. Received: bits={bits!r}")
    rng = np.random.default_rng(seed)
    rows = np.stack([_first_row(rng, choices, num_genes, average_bits) for _ in range(population)])
    best: Any = None
    best_value = -np.inf
    for _ in range(generations):
        fixed = np.broadcast_to(np.asarray(flags, rows.dtype), (len(rows), len(flags)))
        values = np.asarray(predictor(np.concatenate([rows, fixed], axis=1)), "float64")
        order = np.argsort(-values, kind="stable")
        if values[order[0]] > best_value:
            best, best_value = rows[order[0]].copy(), float(values[order[0]])
        parents = rows[order[: population // 4]]
        missing = population - len(parents)
        mutated = _children(rng, _mutate, parents, choices, average_bits, missing // 2)
        crossed = _children(rng, _cross, parents, choices, average_bits, missing - missing // 2)
        rows = np.concatenate([parents, mutated, crossed])
    return best, best_value


def _within(row, average_bits):
    return average_bits - 0.5 < row.mean() <= average_bits


def _first_row(rng, choices, num_genes, average_bits):
    """A random row whose genes move by a step towards the average until it fits."""
    positions = rng.integers(0, len(choices), num_genes)
    for _ in range(20 * num_genes * len(choices)):
        row = choices[positions]
        if _within(row, average_bits):
            return row
        direction = -1 if row.mean() > average_bits else 1
        movable = np.flatnonzero(
            (positions + direction >= 0) & (positions + direction < len(choices))
        )
        if not movable.size:
            break
        positions[rng.choice(movable)] += direction
    raise ValueError(
        f"No {num_genes} bit widths of {choices.tolist()} were found with an average above "
        f"{average_bits - 0.5} and at most {average_bits}."
    )


def _mutate(rng, parents, choices):
    row = parents[rng.integers(len(parents))]
    return np.where(rng.random(row.shape) < 0.1, rng.choice(choices, row.shape), row)


def _cross(rng, parents, choices):
    first, second = parents[rng.integers(len(parents), size=2)]
    return np.where(rng.random(first.shape) < 0.5, first, second)


def _children(rng, make, parents, choices, average_bits, count):
    """As many as asked for that fit; where few do, parents fill up."""
    found: list[np.ndarray] = []
    for _ in range(50 * count):
        if len(found) == count:
            break
        row = make(rng, parents, choices)
        if _within(row, average_bits):
            found.append(row)
    found.extend(parents[rng.integers(len(parents))] for _ in range(count - len(found)))
    return np.array(found).reshape((count, parents.shape[1]))
