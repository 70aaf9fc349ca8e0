"""The project is written in plain English: one word per idea, and sentences that open with their subject."""

from __future__ import annotations

import json
import pathlib
import re

ROOT = pathlib.Path(__file__).parents[2]

# Phrase (a regular expression) -> the plain phrase to use instead.
PHRASES = {
    r"tell|tells|telling|told": "report, log, record, notify or show: software does not speak",
    r"say|says|saying|said": "report, log, state or mean: software does not speak",
    r"aloud": "nothing: name the log message or the counter",
    r"nobody|somebody|whoever": "users, callers or the passive voice",
    r"beneath": "under or below",
    r"midst": "within or during",
    r"mend|mends|mended": "fix",
    r"apart(?! from)": "separate or separately; 'distinguish' instead of 'tell apart'",
    r"lie|lies": "is, is stored at",
    r"stands?(?! for)": "is",
    r"lest|whence|thereof": "so that, from where, of it",
    r"at once": "immediately, or 'at the same time'",
    r"in force": "active",
    r"to the letter": "exactly",
    r"to the bit": "bit-identical",
    r"in so many words": "explicitly",
    r"nothing[_ ]like": "empty_like: 'nothing like X' means 'very unlike X'",
}

# A sentence or a name that opens with one of these has to be read twice: they postpone the subject or drop the verb.
OPENINGS = r"Of|What|Whether|Whoever|So|Not\s+to"
DOCSTRING_OPENINGS = rf"{OPENINGS}|Which|How|Those"

# Attribute access, as in `file.tell()`, names another library's function: hence the dot.
PHRASE = re.compile(
    rf"(?<![A-Za-z.])(?P<phrase>{'|'.join(f'(?:{p})' for p in PHRASES)})(?![A-Za-z-])",
    re.IGNORECASE,
)
OPENING = re.compile(rf"(?<![A-Za-z])(?P<phrase>{OPENINGS})\s")
DOCSTRING = re.compile(rf'"""(?P<phrase>{DOCSTRING_OPENINGS})\s')


def written_files() -> list[pathlib.Path]:
    """Return every file of prose or code that the project writes, except this list of phrases."""
    folders = ("jaxboard", "tests", "benchmarks", "notebooks", "docs", ".github")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*")]
    files += [ROOT / ".ci" / "run", ROOT / "pyproject.toml", *ROOT.glob("*.md")]
    suffixes = ("", ".py", ".md", ".ipynb", ".toml", ".yml", ".yaml")
    return sorted(
        path
        for path in files
        if path.is_file()
        and path.suffix in suffixes
        and path != pathlib.Path(__file__)
        and not {".ipynb_checkpoints", "__pycache__"} & set(path.parts)
    )


def prose(path: pathlib.Path) -> str:
    """Return the text of a file; of a notebook, the sources of its cells."""
    text = path.read_text()
    if path.suffix != ".ipynb":
        return text
    return "\n\n".join("".join(cell["source"]) for cell in json.loads(text)["cells"])


def offences(text: str) -> list[tuple[int, str]]:
    """Return the banned phrases of a text, each with its line number."""
    found = [
        (text.count("\n", 0, match.start("phrase")) + 1, " ".join(match["phrase"].split()))
        for pattern in (PHRASE, OPENING, DOCSTRING)
        for match in pattern.finditer(text)
    ]
    return sorted(set(found))


def advice(phrase: str) -> str:
    """Return what to write instead of a phrase."""
    for pattern, instead in PHRASES.items():
        if re.match(pattern, phrase, re.IGNORECASE):
            return f"use {instead}"
    return "open the sentence with its subject, or the docstring with a verb"


def test_language() -> None:
    """No file contains a banned phrase or a sentence with a banned opening."""
    found = [
        f"{path.relative_to(ROOT)}:{line}: {phrase!r}: {advice(phrase)}"
        for path in written_files()
        for line, phrase in offences(prose(path))
    ]
    assert not found, "\n".join(["", *found])


def test_the_check_finds_an_offence() -> None:
    """Phrases are found in prose, in names and across line breaks; similar ordinary words are not."""
    assert offences("It is\ntold once.") == [(2, "told")]
    assert offences("def is_told(x):") == [(1, "told")]
    assert offences("Written at once.") == [(1, "at once")]
    assert offences("Kept. Of lanes, each is kept.") == [(1, "Of")]
    assert offences("# Not\n# to wait") == []
    assert offences("Not\n  to wait.") == [(1, "Not to")]
    assert offences('"""Which lanes are kept."""') == [(1, "Which")]
    assert offences("essay, file.tell(), apart from, stands for, stand-in, of what, retold") == []


def test_the_check_reads_every_kind_of_file() -> None:
    """Code, notebooks, pages, settings and workflows are all read."""
    names = {path.relative_to(ROOT).as_posix() for path in written_files()}
    assert names >= {
        ".ci/run",
        ".github/workflows/ci.yml",
        "CHANGELOG.md",
        "README.md",
        "benchmarks/README.md",
        "jaxboard/__init__.py",
        "notebooks/01_quickstart.ipynb",
        "pyproject.toml",
        "tests/conftest.py",
    }
