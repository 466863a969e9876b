"""Which method for which task: comparisons at equal budget, and the pages that tell their results.

A task is a module with the name in `TASKS` and a `TASK` in it. `python -m benchmarks.comparisons TASK` runs it;
`page(name)` writes its page from what is kept in `results/`.
"""

from benchmarks.comparisons._comparison import TASKS, load, page

__all__ = ["TASKS", "load", "page"]
