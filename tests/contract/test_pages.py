"""The pages link to files that exist, and name source files that exist."""

from __future__ import annotations

import pathlib
import re

import pytest

from jaxboard._emit import VerbMethods

ROOT = pathlib.Path(__file__).parents[2]
FOLDERS = ("docs", "benchmarks", "jaxboard", "notebooks", "tests")
PAGES = [
    path
    for path in sorted([*ROOT.glob("*.md"), *(p for f in FOLDERS for p in (ROOT / f).rglob("*"))])
    if path.suffix in (".md", ".ipynb") and ".ipynb_checkpoints" not in path.parts
]

FILE = re.compile(r"`(jaxboard/[\w/.]+?)`")
TEST = re.compile(r"`([\w/]+\.py)::(test_\w+)`")


def missing_links(page: pathlib.Path, text: str) -> list[str]:
    """Return the relative links of a page whose file or heading does not exist."""
    missing = []
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if link.startswith(("http://", "https://")):
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        if not target.exists() or (anchor and anchor not in anchors(target.read_text())):
            missing.append(link)
    return missing


def anchors(text: str) -> set[str]:
    """Return the anchors that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_exist(page: pathlib.Path) -> None:
    """Every relative link of a page leads to a file, and to a heading if it names one."""
    assert missing_links(page, page.read_text()) == []


def test_named_files_exist() -> None:
    """Every path in jaxboard/ that CONTRIBUTING.md names exists."""
    named = set(FILE.findall((ROOT / "CONTRIBUTING.md").read_text()))
    assert "jaxboard/_trace/masks.py" in named
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


@pytest.mark.parametrize(
    ("heading", "calls"),
    [
        ("Threads", r"threading\.Thread\(|\(ThreadPoolExecutor\)"),
        ("Locks", r"threading\.(?:R?Lock|Condition|Semaphore)\("),
        ("Forks", r"^on_fork\(|\bfork\.wait_for\("),
    ],
)
def test_threads_locks_and_forks_are_listed(heading: str, calls: str) -> None:
    """CONTRIBUTING.md names every file that starts a thread, makes a lock or has a hook for forks."""
    page = (ROOT / "CONTRIBUTING.md").read_text()
    section = page.split(f"\n### {heading}\n")[1].partition("\n### ")[0]
    package = ROOT / "jaxboard"
    files = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if re.search(calls, path.read_text(), re.MULTILINE)
    }
    assert len(files) > 5
    assert [file for file in sorted(files) if f"`{file}`" not in section] == []


@pytest.mark.parametrize("name", ["durability", "guarantees", "survival"])
def test_named_tests_exist(name: str) -> None:
    """Every test that a page on durability or guarantees names exists."""
    named = TEST.findall((ROOT / "docs" / f"{name}.md").read_text())
    assert len(named) > 15
    missing = [
        (file, test)
        for file, test in named
        if f"\ndef {test}(" not in (ROOT / "tests" / file).read_text()
    ]
    assert missing == []


def test_the_navigation_has_every_page() -> None:
    """The navigation of the site has an entry for every page in docs/."""
    navigation = (ROOT / "mkdocs.yml").read_text()
    pages = [path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")]
    assert [page for page in pages if f": {page}\n" not in navigation] == []


def test_the_gallery_is_complete() -> None:
    """The gallery calls every verb, and each of its sections has a picture."""
    page = (ROOT / "docs" / "gallery.md").read_text()
    verbs = [name for name in vars(VerbMethods) if not name.startswith("_")]
    assert [name for name in verbs if f".{name}(" not in page] == []
    sections = page.split("\n## ")[1:]
    assert [text.partition("\n")[0] for text in sections if "<img src=" not in text] == []
    pictures = re.findall(r'<img src="(.*?)"', page)
    assert [name for name in pictures if not (ROOT / "docs" / name).exists()] == []


def test_the_check_finds_a_missing_link() -> None:
    """A missing file and a missing heading are found; an existing heading is not."""
    page = ROOT / "CONTRIBUTING.md"
    text = "[a](nowhere.md) [b](README.md#nowhere) [c](README.md#install) [d](https://example.com)"
    assert missing_links(page, text) == ["nowhere.md", "README.md#nowhere"]
