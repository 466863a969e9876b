"""Runs the README's code and one contract from an installed wheel; `make release` calls it as `python -I`."""

import pathlib
import re
import sys

import keras

import keras_regularize as kr

installed = pathlib.Path(kr.__file__)
assert installed.is_relative_to(sys.prefix), f"imported from {installed}, not from the wheel"

readme = pathlib.Path(sys.argv[1]).read_text("utf-8")
blocks = re.findall(r"^```python\n(.*?)^```", readme, re.MULTILINE | re.DOTALL)
assert blocks, "README.md has no code"
exec("\n".join(blocks), {"__name__": "__example__"})
checks = kr.testing.check_loss(kr.losses.MaxSup(0.1))
assert "passed" in checks.values(), checks
passed = list(checks.values()).count("passed")
print(
    f"keras_regularize {kr.__version__} on Keras {keras.__version__}, {keras.backend.backend()}: "
    f"{len(blocks)} blocks of the README ran, {passed} checks of the contract passed"
)
