"""Every code block of the pages in docs/ runs as printed, or is of a language that is not run.

Only `pytest docs` runs these tests. The Python blocks of a page are one program. A block that opens with
```` ```python NAME ```` needs the library NAME: these blocks follow the first block of the page, and are skipped where the
library is missing.
"""

from __future__ import annotations

import collections
import importlib.util
import inspect
import pathlib
import re

import pytest

import jaxboard as jb

DOCS = pathlib.Path(__file__).parent
PAGES = {path.relative_to(DOCS).as_posix(): path for path in sorted(DOCS.rglob("*.md"))}

# Commands, and what programs print.
NOT_RUN = {"bash", "text"}

# Libraries that report to an account of the reader -> number of blocks.
NEED_AN_ACCOUNT = {"wandb": 1}


def blocks(page: str) -> list[tuple[str, int, int]]:
    """Return what follows each opening fence, and the first and last line of the block, without the fences."""
    fences = [
        (number, line.strip().removeprefix("```"))
        for number, line in enumerate(PAGES[page].read_text().splitlines())
        if line.lstrip().startswith("```")
    ]
    assert len(fences) % 2 == 0, f"{page}: a code block does not end"
    pairs = zip(fences[::2], fences[1::2], strict=True)
    return [(language, start + 1, end) for (start, language), (end, _) in pairs]


def run(page: str, library: str = "") -> None:
    """Run the blocks of a page, at the lines of the page, so that errors show the line."""
    python = [block for block in blocks(page) if block[0] == "python"]
    if library:
        python = python[:1] + [b for b in blocks(page) if b[0] == f"python {library}"]
    shown = {number for _, start, end in python for number in range(start, end)}
    lines = PAGES[page].read_text().splitlines()
    text = "\n".join(line if number in shown else "" for number, line in enumerate(lines))
    exec(compile(text, PAGES[page], "exec"), {"__name__": "__main__"})


LANGUAGES = collections.Counter((page, block[0]) for page in PAGES for block in blocks(page))
PROGRAMS = [page for page, language in LANGUAGES if language == "python"]
WITH_LIBRARIES = [
    (page, language.removeprefix("python "))
    for page, language in LANGUAGES
    if language.startswith("python ") and language.removeprefix("python ") not in NEED_AN_ACCOUNT
]


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("page", PROGRAMS)
def test_a_page_runs(page: str) -> None:
    """The Python blocks of a page run as printed, without a warning, and close their runs."""
    run(page)
    assert jb.current_run() is None, "the page leaves its run open"


@pytest.mark.parametrize(("page", "library"), WITH_LIBRARIES)
@pytest.mark.filterwarnings("ignore")  # those of the libraries
def test_a_page_runs_with_a_library(page: str, library: str, tmp_path: pathlib.Path) -> None:
    """The blocks for a library run; on the page on migration, both programs of a pair write the same points."""
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    if page != "coming_from.md":
        run(page, library)
        return
    run(page)
    run(page, library)
    before, after = (
        jb.read(tmp_path / "runs" / when / library)[["tag", "step", "value"]]
        for when in ("before", "after")
    )
    assert len(before) == 100
    assert before.equals(after)


def test_methods_of_other_loggers() -> None:
    """The page on migration has a row for each method of other loggers, and the calls in its rows exist."""
    import tensorboardX
    from flax.metrics import tensorboard as flax_tensorboard

    page = PAGES["coming_from.md"].read_text()
    rows = re.findall(r"^\| (`.*?) \| (.*) \|$", page, re.MULTILINE)
    left = " ".join(row[0] for row in rows)
    for writer in (tensorboardX.SummaryWriter, flax_tensorboard.SummaryWriter):
        methods = [name for name, _ in inspect.getmembers(writer, callable) if name[0] != "_"]
        assert [name for name in methods if f"`{name}(" not in left] == []
    calls = [call for _, right in rows for call in re.findall(r"`jb\.(\w+)\((.*?)\)`", right)]
    assert len(calls) > 80
    for name, arguments in calls:
        accepted = inspect.signature(getattr(jb, name)).parameters
        assert set(re.findall(r"(\w+)=", arguments)) <= set(accepted), name


def test_every_block_has_a_language_that_is_known() -> None:
    """No block is skipped silently: each is run by a test above, or is listed as not run."""
    unknown = [
        (page, language)
        for page, language in LANGUAGES
        if not re.fullmatch(rf"python( \w+)?|{'|'.join(NOT_RUN)}", language)
    ]
    assert unknown == []
    accounts = collections.Counter()
    for (_, language), count in LANGUAGES.items():
        if language.removeprefix("python ") in NEED_AN_ACCOUNT:
            accounts[language.removeprefix("python ")] += count
    assert accounts == NEED_AN_ACCOUNT
