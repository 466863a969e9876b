"""Writes the pages of the site, hand-written and generated, into `build/docs`, where `mkdocs build` finds them."""

import importlib.util
import json
import pathlib
import re
import shutil

import keras_regularize as kr
from docs.tools import guides, reference

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = ROOT / "build" / "docs"
COMPARISONS = ROOT / "benchmarks" / "comparisons" / "results"


def card(title: str, page: str, picture: str) -> str:
    """An entry of a gallery: a small picture and a title that lead to a page."""
    return f"- [![]({picture}){{ loading=lazy }} {title}]({page})"


def gallery(entries: list[tuple]) -> str:
    """Entries side by side."""
    lines = "\n".join(card(*entry) for entry in entries)
    return f'<div class="gallery" markdown>\n\n{lines}\n\n</div>'


def cards(recorded: list[guides.Recorded], compared: dict[str, str]) -> dict[str, tuple[str, ...]]:
    """`{name: (title, page, picture)}` of the guides and comparisons."""
    found = {
        guide.name: (
            guide.title,
            f"guides/{guide.name}.md",
            f"guides/images/{guide.picture}" if guide.picture else "images/code.svg",
        )
        for guide in recorded
    }
    for name, title in compared.items():
        found[f"choose/{name}"] = (title, f"choose/{name}.md", f"choose/images/{name}.png")
    return found


def uses(cards: dict) -> dict[str, list[str]]:
    """For each public name, the cards of the guides that use it and of the comparisons that it is part of."""
    found: dict[str, list[str]] = {}
    texts = {path.stem: path.read_text("utf-8") for path in guides.scripts()}
    methods = {
        f"choose/{path.stem}": {row["key"] for row in json.loads(path.read_text("utf-8"))["rows"]}
        for path in sorted(COMPARISONS.glob("*.json"))
    }
    for key in reference.public_names():
        name = re.compile(rf"\bkr\.{re.escape(key)}\b")
        pages = [page for page, text in texts.items() if name.search(text)]
        pages += [page for page, keys in methods.items() if key in keys]
        if pages:
            found[key] = [
                card(title, f"../{page}", f"../{picture}")
                for title, page, picture in (cards[name] for name in pages)
            ]
    return found


def comparisons() -> dict[str, str]:
    """Writes the pages of the comparisons; `{name: title}`."""
    if importlib.util.find_spec("benchmarks.comparisons") is None:
        return {}
    from benchmarks.comparisons import page

    folder = BUILD / "choose"
    (folder / "images").mkdir(parents=True)
    titles = {}
    for path in sorted(COMPARISONS.glob("*.json")):
        text = page(path.stem)
        titles[path.stem] = text.splitlines()[0].removeprefix("# ")
        (folder / f"{path.stem}.md").write_text(text, "utf-8")
        shutil.copy(path.with_suffix(".png"), folder / "images")
    return titles


def main() -> None:
    shutil.rmtree(BUILD, ignore_errors=True)
    ignored = shutil.ignore_patterns("tools", "__pycache__")
    shutil.copytree(ROOT / "docs", BUILD, ignore=ignored)
    found = cards(guides.write(BUILD / "guides"), comparisons())
    (BUILD / "api").mkdir()
    (BUILD / "catalog.md").write_text(reference.catalog(), "utf-8")
    (BUILD / "api" / "namespaces.md").write_text(reference.namespaces(), "utf-8")
    at_work = uses(found)
    for title in reference.families():
        text = reference.family_page(title, at_work)
        (BUILD / "api" / f"{reference.slug(title)}.md").write_text(text, "utf-8")
    for name in ("index.md", "choose.md"):
        text = (BUILD / name).read_text("utf-8")
        for kind, is_comparison in (("guides", False), ("comparisons", True)):
            chosen = [entry for key, entry in found.items() if ("/" in key) == is_comparison]
            text = text.replace(f"<!-- {kind} -->", gallery(chosen))
        (BUILD / name).write_text(text, "utf-8")
    changelog = (ROOT / "CHANGELOG.md").read_text("utf-8").replace("](docs/", "](")
    (BUILD / "changelog.md").write_text(changelog, "utf-8")
    about = (BUILD / "cite.md").read_text("utf-8").replace("VERSION", kr.__version__)
    (BUILD / "cite.md").write_text(about, "utf-8")


if __name__ == "__main__":
    main()
