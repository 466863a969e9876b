"""Adds the registered names of new symbols to `tests/registered_names.txt`: `make names`.

What the file lists once is in saved models and stays loadable for ever; a name leaves it never.
"""

import pathlib

import keras

from keras_regularize.registration import public_symbols

PATH = pathlib.Path(__file__).parent / "registered_names.txt"


def main() -> None:
    known = set(PATH.read_text("utf-8").split())
    found = {keras.saving.get_registered_name(symbol) for symbol in public_symbols().values()}
    PATH.write_text("\n".join(sorted(known | found)) + "\n", "utf-8")
    for name in sorted(found - known):
        print(name)


if __name__ == "__main__":
    main()
