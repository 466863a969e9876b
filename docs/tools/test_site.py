"""The built site in a browser that reaches this machine alone: `make test-site`."""

import functools
import http.server
import pathlib
import re
import shutil
import threading
import urllib.parse
from html.parser import HTMLParser

import markdown
import pytest
from playwright.sync_api import sync_playwright

SITE = pathlib.Path(__file__).resolve().parents[2] / "site"
PAGES = sorted(path.relative_to(SITE).as_posix() for path in SITE.rglob("*.html"))
WIDTHS = (390, 1280)

#: What a reader types, and a page that must be among the first that are found.
SEARCHES = {
    "MaxSup": "api/calibration.html#keras_regularize.losses.MaxSup",
    "kr.losses.LDAM": "api/unequal_classes.html#keras_regularize.losses.LDAM",
    "noisy labels": "noisy_labels.html",
    "SAM": "api/flat_minima.html#keras_regularize.models.SAM",
    "adversarial training": "adversarial_training.html",
    "calibration error": "api/calibration.html",
    "pruning": "api/sparse_networks.html",
    "imbalance": "api/unequal_classes.html",
    "quantization": "api/few_bits.html",
    "several devices": "guides/several_devices.html",
    "weight decay": "weight_decay",
    "unlabelled": "virtual_adversarial_training.html",
}

#: Elements that stick out of the screen, but for those inside of what scrolls.
STICKS_OUT = """() => [...document.querySelectorAll("main *")].filter(element => {
    if (element.getBoundingClientRect().right <= window.innerWidth + 1) return false;
    for (let parent = element.parentElement; parent; parent = parent.parentElement)
        if (getComputedStyle(parent).overflowX != "visible") return false;
    return true;
}).map(element => element.outerHTML.slice(0, 200))"""

TEXT = """() => {
    const copy = document.querySelector("article").cloneNode(true);
    copy.querySelectorAll("pre, code, math").forEach(element => element.remove());
    return copy.textContent;
}"""


@pytest.fixture(scope="module")
def address():
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=SITE)
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(
            executable_path=shutil.which("chromium"),
            args=["--no-sandbox", "--disable-background-networking", "--disable-component-update"],
        )


@pytest.fixture(scope="module", params=WIDTHS)
def visit(request, browser, address):
    """Opens a page and returns it with what it asked of other hosts and what the console said."""
    context = browser.new_context(viewport={"width": request.param, "height": 900})
    page = context.new_page()
    complaints: list[str] = []

    def only_here(route):
        if route.request.url.startswith((address, "data:", "blob:")):
            return route.continue_()
        complaints.append(f"asks for {route.request.url}")
        return route.abort()

    page.route("**/*", only_here)
    page.on("console", lambda m: complaints.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))

    def open_page(path):
        complaints.clear()
        page.goto(address + path, wait_until="load")
        return page, complaints

    yield open_page
    context.close()


@pytest.mark.parametrize("path", [path for path in PAGES if path != "404.html"])
def test_a_page(visit, path):
    page, complaints = visit(path)
    assert complaints == []
    raw = re.findall(r".{0,30}(?:\\[(\[a-zA-Z]|\$\S[^$\n]*\$).{0,30}", page.evaluate(TEXT))
    assert raw == [], "formulas that are not rendered"
    assert page.locator("math merror").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert page.evaluate(STICKS_OUT) == []
    broken = "[...document.images].filter(i => i.complete && !i.naturalWidth).map(i => i.src)"
    assert page.evaluate(broken) == []


@pytest.mark.parametrize("words", SEARCHES)
def test_the_search_finds(visit, words):
    page, complaints = visit("index.html")
    if page.viewport_size["width"] < 600:
        page.locator("label.md-header__button[for=__search]").click()
    field = page.locator("input.md-search__input")
    field.click()
    field.type(words, delay=15)
    results = page.locator(".md-search-result__link")
    results.first.wait_for(timeout=15000)
    page.wait_for_timeout(300)
    links = [link.get_attribute("href") for link in results.all()[:60]]
    # On the first three pages: entries of a page stand below it, folded up.
    pages = list(dict.fromkeys(link.split("?")[0] for link in links))[:3]
    found = [link for link in links if link.split("?")[0] in pages]
    assert any(
        SEARCHES[words] in link.split("?")[0] + "#" + link.partition("#")[2] for link in found
    ), found
    assert complaints == []


class _Links(HTMLParser):
    def __init__(self):
        super().__init__()
        self.links, self.anchors = set(), {""}

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.anchors.update(attrs[name] for name in ("id", "name") if attrs.get(name))
        for name in ("href", "src"):
            if attrs.get(name) is not None and tag != "base":
                self.links.add(attrs[name])


@functools.cache
def _parsed(path: pathlib.Path) -> _Links:
    parser = _Links()
    parser.feed(path.read_text("utf-8"))
    return parser


@pytest.mark.parametrize("path", [path for path in PAGES if path != "404.html"])
def test_links_lead_somewhere(path):
    page, broken = SITE / path, []
    for link in _parsed(page).links:
        parts = urllib.parse.urlsplit(link)
        if parts.scheme or parts.netloc:
            continue
        target = (page.parent / urllib.parse.unquote(parts.path)).resolve() if parts.path else page
        if target.is_dir():
            target /= "index.html"
        if not target.exists():
            broken.append(link)
        elif (
            target.suffix == ".html"
            and urllib.parse.unquote(parts.fragment) not in _parsed(target).anchors
        ):
            broken.append(link)
    assert broken == []


def test_nothing_is_loaded_from_elsewhere():
    loads = re.compile(
        r"""<(?:script|img|iframe|source)[^>]+src=["']?https?:|<link[^>]+stylesheet[^>]+https?:"""
    )
    assert [path for path in PAGES if loads.search((SITE / path).read_text("utf-8"))] == []
    css = [
        path
        for path in SITE.rglob("*.css")
        if re.search(r"url\(['\"]?https?:", path.read_text("utf-8"))
    ]
    assert css == []


@pytest.mark.parametrize(
    "text, key",
    [
        ("`kr.losses.MaxSup(0.1)` is", "losses.MaxSup"),
        ("`SAM`", "models.SAM"),
        ("`losses.Entmax`", "losses.Entmax"),
        ("```python\nloss = kr.losses.MaxSup(0.1)\n```", "losses.MaxSup"),
        ("`kr.losses.NoSuchLoss`", "losses.NoSuchLoss"),  # Leads nowhere, which fails the build.
        ("`kr.losses`", "losses"),
        ("`Entmax`", None),  # There are several.
        ("`trades`", None),  # May be a variable.
        ("[`SAM`](sam.md)", None),
        ("# `SAM`", None),
    ],
)
def test_names_in_code_become_links(text, key):
    highlight = "pymdownx.highlight", "pymdownx.superfences"
    page = markdown.markdown(text, extensions=[*highlight, "docs.tools.markdown"])
    assert re.findall(r'<autoref identifier="keras_regularize\.([\w.]+)">', page) == (
        [key] if key else []
    )


def test_formulas_become_mathml():
    extensions = ["pymdownx.arithmatex", "docs.tools.markdown"]
    options = {"pymdownx.arithmatex": {"generic": True}}
    page = markdown.markdown(
        "$a < b$\n\n$$\\frac{1}{2}$$", extensions=extensions, extension_configs=options
    )
    assert page.count("<math") == 2 and "mfrac" in page and "arithmatex" not in page
