"""Every code block of the pages in docs/ runs as printed, or is of a language that is not run.

Only `pytest docs` runs these tests. The Python blocks of a page are one program. A block that opens with
```` ```python NAME ```` needs the library NAME, and is run by a test that has it.
"""

from __future__ import annotations

import collections
import importlib.util
import inspect
import pathlib
import re
from collections.abc import Iterator

import jax
import pytest

import jaxboard as jb

DOCS = pathlib.Path(__file__).parent
PAGES = {path.relative_to(DOCS).as_posix(): path for path in sorted(DOCS.rglob("*.md"))}

# Commands, and what programs print.
NOT_RUN = {"bash", "text"}

# The page on migration has blocks for these, and test_other_loggers below runs them. wandb needs an account.
OTHER_LOGGERS = ("tensorboardX", "tensorflow", "clu", "flax")
MIGRATION = "coming_from.md"

# Page -> the test that runs its blocks for other libraries.
RUN_ELSEWHERE = {
    "equinox.md": "tests/real/test_module_libraries.py",
    "libraries.md": "tests/real/test_libraries_page.py",
    "nnx.md": "tests/integrations/test_nnx.py",
    "trackers.md": "tests/real/test_trackers.py",
}


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
    """Run the blocks of a page, at the lines of the page, so that errors show the line.

    The blocks for a library follow the first block of the page.
    """
    python = [block for block in blocks(page) if block[0] == "python"]
    if library:
        python = python[:1] + [block for block in blocks(page) if block[0] == f"python {library}"]
    shown = {number for _, start, end in python for number in range(start, end)}
    lines = PAGES[page].read_text().splitlines()
    text = "\n".join(line if number in shown else "" for number, line in enumerate(lines))
    exec(compile(text, PAGES[page], "exec"), {"__name__": "__main__"})


LANGUAGES = collections.Counter((page, block[0]) for page in PAGES for block in blocks(page))
PROGRAMS = [page for page, language in LANGUAGES if language == "python"]


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    # A reader's program has JAX's defaults, which the tests of `.ci/run real` in the same process do not.
    with jax.numpy_rank_promotion("allow"):
        yield


@pytest.mark.parametrize("page", PROGRAMS)
def test_a_page_runs(page: str) -> None:
    """The Python blocks of a page run as printed, without a warning, and close their runs."""
    run(page)
    assert jb.current_run() is None, "the page leaves its run open"


@pytest.mark.parametrize("library", OTHER_LOGGERS)
@pytest.mark.filterwarnings("ignore")  # those of the libraries
def test_other_loggers(library: str, tmp_path: pathlib.Path) -> None:
    """A program with another logger and the one that replaces it on the page write the same points."""
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    run(MIGRATION)
    run(MIGRATION, library)
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

    page = PAGES[MIGRATION].read_text()
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


def test_no_block_is_skipped_silently() -> None:
    """Each block is run by a test above, by the test that RUN_ELSEWHERE names, or is of a language that is not run."""
    run_here = {"python", *NOT_RUN}
    here = {(MIGRATION, f"python {library}"): 1 for library in (*OTHER_LOGGERS, "wandb")}
    others = {block: count for block, count in LANGUAGES.items() if block[1] not in run_here}
    elsewhere = {block for block in others if block[0] in RUN_ELSEWHERE}
    assert {block: count for block, count in others.items() if block not in elsewhere} == here
    for page, language in elsewhere:
        assert language.startswith("python "), page
        assert page in (DOCS.parent / RUN_ELSEWHERE[page]).read_text()
