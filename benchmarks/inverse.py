"""What solvers of inverse problems cost, 500 iterations compiled, beside NumPy with the same iterations."""

import keras
import numpy as np
from keras import ops
from rich.console import Group

import keras_regularize as kr
from benchmarks.losses import compiled
from benchmarks.timing import race, ratio_table

ITERATIONS = 500
#: Rows and columns of the matrix; images are of 32 rows.
SIZES = ((256, 512), (1024, 2048))
BASELINE, NUMPY = "NumPy, same BLAS", "NumPy"
#: At the smaller size; at the larger one it shall be no slower.
BARS = ({"kr": 1.2}, {"kr": 1.0})


def table(quick=False, on_turn=None):
    tables = []
    for (rows, columns), bar in zip(SIZES, BARS):
        rng = np.random.default_rng(0)
        matrix = (rng.normal(size=(rows, columns)) / np.sqrt(rows)).astype("float32")
        signal = rng.normal(size=columns) * (rng.uniform(size=columns) < 0.1)
        y = (matrix @ signal).astype("float32")
        solvers = {
            "FISTA": (numpy_fista, fista),
            "Chambolle-Pock": (numpy_chambolle_pock, chambolle_pock),
        }
        for name, (plain, solve) in solvers.items():
            runs = contestants(plain, solve, y, matrix)
            timings = race(runs, 3 if quick else 9, on_turn=on_turn)
            title = (
                f"{keras.backend.backend()}: {name}, {rows} × {columns}, {ITERATIONS} iterations"
            )
            tables.append(ratio_table(title, timings, BASELINE, bars=bar))
    return Group(*tables)


def fista(y, matrix):
    return kr.inverse.fista(y, matrix, 0.05, iterations=ITERATIONS)


def chambolle_pock(y, matrix):
    shape = (32, matrix.shape[1] // 32)
    return kr.inverse.chambolle_pock(y, matrix, 0.05, shape, iterations=ITERATIONS)


def contestants(plain, solve, y, matrix):
    """Both, with a look at whether they agree."""
    run = compiled(solve)
    data = ops.convert_to_tensor(y), ops.convert_to_tensor(matrix)
    np.testing.assert_allclose(
        np.reshape(ops.convert_to_numpy(run(*data)), -1),
        np.reshape(plain(y, matrix), -1),
        atol=1e-2,
    )
    found = {
        BASELINE: timed(lambda: plain(y, matrix, *products(matrix))),
        "kr": timed(lambda: ops.convert_to_numpy(run(*data))),
    }
    if keras.backend.backend() == "torch":
        found[NUMPY] = timed(lambda: plain(y, matrix))
    return found


def products(matrix):
    """`matrix @ x` and `r @ matrix`, on PyTorch by its BLAS, which takes longer than NumPy's for vectors."""
    if keras.backend.backend() != "torch":
        return matrix.__matmul__, matrix.__rmatmul__
    import torch

    tensor = torch.from_numpy(matrix)
    return (
        lambda x: torch.mv(tensor, torch.from_numpy(x)).numpy(),
        lambda r: torch.mv(tensor.T, torch.from_numpy(r)).numpy(),
    )


def timed(run):
    """A contestant, which returns nothing."""

    def turn():
        run()

    return turn


def norm_of(matrix):
    v = np.random.default_rng(7).normal(size=matrix.shape[1]).astype("float32")
    for _ in range(50):
        v = matrix.T @ (matrix @ v)
        v = v / np.sqrt(v @ v)
    image = matrix @ v
    return np.sqrt(image @ image)


def numpy_fista(y, matrix, forward=None, back=None):
    forward, back = forward or matrix.__matmul__, back or matrix.__rmatmul__
    step = np.float32(1.0 / (1.01 * norm_of(matrix)) ** 2)
    threshold = np.float32(0.05) * step
    x = z = np.zeros(matrix.shape[1], "float32")
    t = 1.0
    for _ in range(ITERATIONS):
        r = z - step * back(forward(z) - y)
        new = r - np.clip(r, -threshold, threshold)
        following = 0.5 * (1.0 + (1.0 + 4.0 * t * t) ** 0.5)
        z = new + np.float32((t - 1.0) / following) * (new - x)
        x, t = new, following
    return x


def numpy_chambolle_pock(y, matrix, forward=None, back=None):
    forward, back = forward or matrix.__matmul__, back or matrix.__rmatmul__
    shape = (32, matrix.shape[1] // 32)
    size = norm_of(matrix)
    primal, of_data, of_jumps = (np.float32(s) for s in (1.9 / size, 0.25 / size, size / 32))
    x = ahead = np.zeros(shape, "float32")
    p, down, right = np.zeros_like(y), np.zeros_like(x), np.zeros_like(x)
    for _ in range(ITERATIONS):
        p = (p + of_data * (forward(ahead.ravel()) - y)) / (1 + of_data)
        down[:-1] += of_jumps * (ahead[1:] - ahead[:-1])
        right[:, :-1] += of_jumps * (ahead[:, 1:] - ahead[:, :-1])
        scale = np.minimum(np.float32(0.05) / np.sqrt(down * down + right * right + 1e-30), 1)
        down *= scale
        right *= scale
        slope = back(p).reshape(shape) - down - right
        slope[1:] += down[:-1]
        slope[:, 1:] += right[:, :-1]
        new = np.maximum(x - primal * slope, 0)
        ahead, x = 2 * new - x, new
    return x
