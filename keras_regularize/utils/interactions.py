"""Interactions of users and items in the order of time, in batches that can be computed at once."""

from typing import Any

import numpy as np


def t_batches(users: Any, items: Any) -> np.ndarray:
    r"""The batch of each interaction of a stream, such that no user or item is twice in a batch.

    Going through the interactions in their order,

    $$b_k = \max(\mathrm{last}[u_k], \mathrm{last}[i_k]) + 1,$$

    with the last batches of its user and item, at first -1. In the order of batches each user and each item then
    has its interactions in the order of time, and what a batch needs of the past is in those before.

    Args:
        users: Users `(n,)`, in the order of time; numbers or names.
        items: Items `(n,)`.

    Returns:
        Batches from 0 on, `(n,)`, 32-bit integers.

    Raises:
        ValueError: If users and items are not as many.

    Cost: one pass over the stream.

    Example:

    ```python
    import keras_regularize as kr

    kr.utils.t_batches([0, 1, 0, 2], [0, 0, 1, 2])  # 0, 1, 1, 0
    ```

    Reference: Srijan Kumar, Xikun Zhang and Jure Leskovec, *Predicting Dynamic Embedding Trajectory in Temporal
    Interaction Networks*, KDD 2019, arXiv:1908.01207.
    """
    users, items = np.asarray(users), np.asarray(items)
    if users.ndim != 1 or users.shape != items.shape:
        raise ValueError(
            "`users` and `items` must be `(n,)` both. "
            f"Received: shapes {users.shape} and {items.shape}"
        )
    _, users = np.unique(users, return_inverse=True)
    _, items = np.unique(items, return_inverse=True)
    last_of_user: dict[int, int] = {}
    last_of_item: dict[int, int] = {}
    found = np.zeros(len(users), "int32")
    for k, (user, item) in enumerate(zip(users.tolist(), items.tolist())):
        batch = max(last_of_user.get(user, -1), last_of_item.get(item, -1)) + 1
        found[k] = last_of_user[user] = last_of_item[item] = batch
    return found
