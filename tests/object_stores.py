"""Object stores in memory: real fsspec file systems, which fsspec finds by their schemes."""

from __future__ import annotations

import itertools
import pathlib

import fsspec
from fsspec.implementations.memory import MemoryFileSystem

_numbers = itertools.count()


class Store(MemoryFileSystem):
    """An object store that lists its uploads and has faults on request.

    Attributes:
        uploads: the path and the size of each upload that succeeded, in order.
        faults: what the next uploads do: ``"refuse"`` stores nothing and raises, ``"interrupt"`` stores the object
            and raises, as if the answer had been lost.
    """

    uploads: list[tuple[str, int]]
    faults: list[str]

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(path.rpartition("://")[2])

    def pipe_file(self, path, value, mode="overwrite", **options):
        fault = self.faults.pop(0) if self.faults else ""
        if fault == "refuse":
            raise ConnectionError("refused")
        super().pipe_file(path, value, mode=mode, **options)
        if fault == "interrupt":
            raise ConnectionError("interrupted")
        self.uploads.append((path, len(value)))

    @classmethod
    def copy_to(cls, directory: pathlib.Path) -> None:
        """Copy all objects below a local directory."""
        for path, file in cls.store.items():
            target = directory / path.lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.getvalue())


def new_store() -> tuple[str, type[Store]]:
    """Return the scheme of a new, empty store, and its class."""
    scheme = f"store{next(_numbers)}"
    new: type[Store] = type(
        "NewStore",
        (Store,),
        {"protocol": scheme, "store": {}, "pseudo_dirs": [""], "uploads": [], "faults": []},
    )
    fsspec.register_implementation(scheme, new)
    return scheme, new
