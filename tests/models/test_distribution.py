"""Training on several devices equals training on one; each engine runs in processes of its own."""

import os
import socket
import subprocess
import sys

import keras
import pytest

BACKEND = keras.backend.backend()
SCRIPT = os.path.join(os.path.dirname(__file__), "distributed_training.py")
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))


def run(mode, *arguments, **environment):
    command = [sys.executable, SCRIPT, mode, *arguments]
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": ROOT, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def assert_succeeds(*processes):
    try:
        outputs = [process.communicate(timeout=900)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()  # Those that run out of time, or wait for one that failed.
            process.wait()
    for process, output in zip(processes, outputs):
        assert process.returncode == 0, output[-3000:]
        assert "equal to one device" in output


MODES = {
    "jax": "distributions",
    "tensorflow": "mirrored",
    "torch": "processes",
}


@pytest.mark.everywhere
def test_equals_one_device():
    mode = MODES[BACKEND]
    if mode == "processes":
        with socket.socket() as free:
            free.bind(("localhost", 0))
            port = str(free.getsockname()[1])
        address = {"MASTER_ADDR": "localhost", "MASTER_PORT": port, "WORLD_SIZE": "2"}
        assert_succeeds(*[run(mode, RANK=str(rank), **address) for rank in range(2)])
    else:
        flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=4"
        assert_succeeds(run(mode, XLA_FLAGS=flags))
