"""An extension of Griffe: the sections of docstrings that its parser does not know.

`Call arguments:`, as Keras calls them, are read as arguments; `Cost:`, `Example:` and `Reference:` become bold.
"""

import re

import griffe


class Sections(griffe.Extension):
    def on_object(self, *, obj: griffe.Object, **kwargs) -> None:
        if obj.docstring is not None:
            text = obj.docstring.value
            text = re.sub(
                r"^( *)Call arguments:", r"\1Other Parameters: Call arguments:", text, flags=re.M
            )
            text = re.sub(r"^( *)(Cost|Example|References?):(?=\s)", r"\1**\2:**", text, flags=re.M)
            obj.docstring.value = text
