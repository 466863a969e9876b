"""Wrapped optimizers on several replicas: only TensorFlow's see gradients of a part of the batch."""

import os
import pathlib
import subprocess
import sys

import keras

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent

if keras.backend.backend() == "tensorflow":

    def test_two_replicas_equal_one_device():
        result = subprocess.run(
            [sys.executable, str(pathlib.Path(__file__).parent / "replicas.py")],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
        )
        assert "equal to one device" in result.stdout, result.stderr[-3000:]
