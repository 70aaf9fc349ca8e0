"""The part of the site that mkdocs.yml cannot express: pages from outside docs/, their links, and docstrings."""

from __future__ import annotations

import pathlib
import posixpath
import re
from typing import Any

import griffe
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = pathlib.Path(__file__).parents[1]

# Path on the site -> path in the repository.
ELSEWHERE = {
    "index.md": "README.md",
    "benchmarks.md": "benchmarks/README.md",
    "changelog.md": "CHANGELOG.md",
    "conformance.md": "tests/conformance/README.md",
    "contributing.md": "CONTRIBUTING.md",
    "images/screenshot.png": ".github/screenshot.png",
}
ON_SITE = {source: name for name, source in ELSEWHERE.items()}

LINK = re.compile(r"\[([^\[\]]*)\]\(([^)\s]+)\)")
SOURCE = re.compile(r'(?<= src=")[^"]+')
FENCED = re.compile(r"^(```.*?^```)", re.MULTILINE | re.DOTALL)
TEST = re.compile(r"(<code>[\w/]+\.py::)(?=\w)")
ROLE = re.compile(r":[a-z]+:`~?([^`]+)`")
REFERENCE = r'<autoref identifier="\1" optional><code>\1</code></autoref>'


def on_files(files: Files, config: MkDocsConfig) -> None:
    """Add the pages and pictures from outside docs/."""
    for name, source in ELSEWHERE.items():
        files.append(File.generated(config, name, abs_src_path=str(ROOT / source)))


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn the links of the repository into those of the site, outside of code."""
    name = page.file.src_uri
    source = ELSEWHERE.get(name, f"docs/{name}")
    parts = FENCED.split(markdown)
    parts[::2] = [_on_site(text, name, source) for text in parts[::2]]
    # The second word after a fence is for docs/test_pages.py.
    parts[1::2] = [re.sub(r"\A(```\w+) .*", r"\1", text) for text in parts[1::2]]
    return "".join(parts)


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let a line break between the file and the name of a test, so that tables with both are narrow enough."""
    return TEST.sub(r"\1<wbr>", html)


def _on_site(text: str, name: str, source: str) -> str:
    def target(link: str) -> str | None:
        """Return a link of the site, or None for a file that is only in the repository."""
        path, hash_sign, anchor = link.partition("#")
        if not path or ":" in path:
            return link
        wanted = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
        there = ON_SITE.get(wanted) or (wanted.startswith("docs/") and wanted[len("docs/") :])
        if not there:
            return None
        return posixpath.relpath(there, posixpath.dirname(name) or ".") + hash_sign + anchor

    def link(match: re.Match[str]) -> str:
        there = target(match[2])
        return match[1] if there is None else f"[{match[1]}]({there})"

    text = LINK.sub(link, text)
    return SOURCE.sub(lambda match: target(match[0]) or match[0], text)


class PublicNames(griffe.Extension):
    """The public names of the package, and its docstrings as the site's parser reads them."""

    def on_instance(self, *, obj: griffe.Object | griffe.Alias, **kwargs: Any) -> None:
        """Replace ``Example:`` and the roles of names, which the parser does not know."""
        if not obj.is_alias and obj.docstring is not None:
            text = re.sub(r"^Example:$", "Examples:", obj.docstring.value, flags=re.MULTILINE)
            obj.docstring.value = ROLE.sub(REFERENCE, text)

    def on_package(self, *, pkg: griffe.Module, loader: griffe.GriffeLoader, **kwargs: Any) -> None:
        """Let ``jaxboard.scalar`` be the function where a module of the same name is beside it."""
        for name, member in list(pkg.members.items()):
            if isinstance(member, griffe.Alias) and member.target_path.startswith(f"{pkg.path}."):
                target = pkg.modules_collection.get_member(member.target_path)
                if target.is_module and name in target.members:
                    path = f"{member.target_path}.{name}"
                    pkg.set_member(name, griffe.Alias(name, path, parent=pkg))
