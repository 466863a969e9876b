"""An extension of Python-Markdown: formulas become MathML, and public names in text and code become links.

Runs on pages and docstrings alike. The links are cross-references, so that a name that does not exist fails a
strict build.
"""

import functools
import html
import re

from latex2mathml.converter import convert
from markdown import Markdown
from markdown.extensions import Extension
from markdown.postprocessors import Postprocessor

from docs.tools.reference import public_names

FORMULA = re.compile(
    r'<(?P<tag>span|div) class="arithmatex">\\[(\[](?P<tex>.*?)\\[)\]]</(?P=tag)>', re.DOTALL
)
#: What is left as it is: headings and links. Else a name in code: highlighted, or alone in the text.
NAME = re.compile(
    r"(?P<skip><h[1-6].*?</h[1-6]>|<a\b.*?</a>|<autoref.*?</autoref>)"
    r'|<span class="n">kr</span><span class="o">\.</span><span class="n">(?P<space>\w+)</span>'
    r'<span class="o">\.</span><span class="n">(?P<name>\w+)</span>'
    r"|<code>(?P<plain>(?:kr\.)?(?P<path>\w+(?:\.\w+)*)(?P<rest>[(\[][^<]*)?)</code>",
    re.DOTALL,
)


@functools.cache
def mathml(tex: str, display: bool) -> str:
    """A formula as MathML, in a frame that can scroll if it may be wider than a small screen."""
    formula = convert(html.unescape(tex).strip(), display="block" if display else "inline")
    wide = not display and len(re.sub(r"\\[a-z]+|[{}_^\s]", "", tex)) > 25
    return f'<span class="wide">{formula}</span>' if wide else formula


@functools.cache
def unique_names() -> dict[str, str]:
    """`{"MaxSup": "losses.MaxSup", …}`: the names that are in one namespace alone."""
    found: dict[str, list[str]] = {}
    for key in public_names():
        found.setdefault(key.split(".")[1], []).append(key)
    return {name: keys[0] for name, keys in found.items() if len(keys) == 1}


def _linked(found: re.Match) -> str:
    if found["skip"]:
        return found[0]
    if found["space"]:
        return _reference(f"{found['space']}.{found['name']}", found[0])
    key = _key(found["path"], found["plain"].startswith("kr."))
    return found[0] if key is None else f"<code>{_reference(key, found['plain'])}</code>"


def _key(path: str, full: bool) -> str | None:
    """The public name that a piece of code means, or None. One that begins with `kr.` must mean one."""
    parts = path.split(".")
    if full:
        return ".".join(parts[:2])
    if len(parts) == 1:
        # Lower-case words are arguments and variables more often than functions.
        return unique_names().get(path) if path[0].isupper() else None
    return ".".join(parts[:2]) if ".".join(parts[:2]) in public_names() else None


def _reference(key: str, text: str) -> str:
    return f'<autoref identifier="keras_regularize.{key}">{text}</autoref>'


class _Formulas(Postprocessor):
    def run(self, text: str) -> str:
        return FORMULA.sub(lambda found: mathml(found["tex"], found["tag"] == "div"), text)


class _Names(Postprocessor):
    def run(self, text: str) -> str:
        return NAME.sub(_linked, text)


class Site(Extension):
    def extendMarkdown(self, md: Markdown) -> None:
        # After raw HTML, which highlighted code is, came back (priority 30).
        md.postprocessors.register(_Formulas(md), "formulas", 5)
        md.postprocessors.register(_Names(md), "names", 4)


def makeExtension(**options) -> Site:
    return Site(**options)
