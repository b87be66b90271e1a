"""The documentation site: built without a complaint, and every link and anchor leads somewhere."""

import os
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from urllib.parse import unquote, urlsplit

import pytest

import bodypose_client
from tests.pages import ROOT

PACKAGES = (ROOT, ROOT / "client", ROOT / "tools", ROOT / "loadtest")


class Page(HTMLParser):
    """What a page is called by, and what it asks for."""

    def __init__(self, text):
        super().__init__()
        self.ids, self.links, self.parts = set(), [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.ids |= {given[key] for key in ("id", "name") if given.get(key)}
        if tag == "a" and given.get("href"):
            self.links.append(given["href"])
        if tag in ("script", "img", "iframe", "source"):
            self.parts.append(given.get("src") or "")
        if tag == "link" and given.get("rel") in ("stylesheet", "preload", "preconnect", "icon"):
            self.parts.append(given["href"])


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    pytest.importorskip("zensical", reason="needs the extra `docs`")
    folder = tmp_path_factory.mktemp("docs")
    shutil.copyfile(ROOT / "mkdocs.yml", folder / "mkdocs.yml")
    programs = [
        [sys.executable, str(ROOT / "docs/site.py"), "build/pages"],
        [sys.executable, "-m", "zensical", "build", "--strict", "-f", "mkdocs.yml"],
    ]
    path = os.pathsep.join(map(str, PACKAGES))
    for program in programs:
        done = subprocess.run(
            program,
            cwd=folder,
            env={**os.environ, "PYTHONPATH": path},
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stdout + done.stderr
    return folder / "build/site"


@pytest.fixture(scope="module")
def pages(site):
    return {path: Page(path.read_text()) for path in site.rglob("*.html")}


def test_every_page_of_the_repository_is_on_the_site(site):
    expected = {path.stem for path in (ROOT / "docs").rglob("*.md")} | {"index", "model-card"}
    assert expected <= {path.stem for path in site.rglob("*.html")}


def test_every_link_and_anchor_leads_somewhere(site, pages):
    lost = []
    for path, page in pages.items():
        for link in page.links:
            there = urlsplit(link)
            if there.scheme or there.netloc or path.name == "404.html":
                continue
            target = (path.parent / unquote(there.path)).resolve() if there.path else path
            anchor = unquote(there.fragment)
            if not target.exists() or (
                anchor and target in pages and anchor not in pages[target].ids
            ):
                lost.append(f"{path.relative_to(site)}: {link}")
    assert lost == []


def test_nothing_is_fetched_from_elsewhere(site, pages):
    elsewhere = {part for page in pages.values() for part in page.parts if urlsplit(part).netloc}
    assert elsewhere == set()


def test_the_reference_has_every_public_name(site):
    text = (site / "reference/bodypose_client.html").read_text()
    missing = [name for name in bodypose_client.__all__ if f'.{name}"' not in text]
    assert missing == []
    runtime = (site / "reference/pose_runtime.html").read_text()
    assert 'id="pose_runtime.letterbox.Letterbox"' in runtime
    assert "centre of the upper left pixel" in runtime  # docstrings, not names alone
