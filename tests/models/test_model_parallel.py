"""Weights that are split over devices: what is as large as a weight is split as that is."""

import os
import pathlib
import subprocess
import sys

import keras
import pytest

SCRIPT = pathlib.Path(__file__).parent / "sharded_training.py"
ROOT = pathlib.Path(__file__).parents[2]


@pytest.mark.everywhere
@pytest.mark.skipif(keras.backend.backend() != "jax", reason="only JAX splits weights over devices")
def test_copies_lie_where_their_weights_do():
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=4"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "XLA_FLAGS": flags}
    run = subprocess.run(
        [sys.executable, SCRIPT],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    assert "equal to one device" in run.stdout
