"""The range that NVIDIA's Nsight Systems records: ``cudaProfilerStart`` and ``cudaProfilerStop``."""

from __future__ import annotations

import contextlib
import ctypes
import glob
import os
import sys
from collections.abc import Iterator

from jaxboard._errors import ProfileError, UsageError

_NAMES = ("libcudart.so", "libcudart.so.13", "libcudart.so.12")
"""The names under which the linker may find the CUDA runtime."""

_IN_PACKAGES = ("nvidia/cuda_runtime/lib", "nvidia/cu1[23]/lib")
"""Where JAX's wheels of CUDA have it, below ``site-packages``."""


class CudaProfiler:
    """The profiler of the CUDA runtime, which controls ``nsys profile --capture-range=cudaProfilerApi``.

    Raises:
        UsageError: there is no CUDA runtime.
    """

    def __init__(self) -> None:
        for name in _candidates():
            with contextlib.suppress(OSError):
                self._library = ctypes.CDLL(name)
                return
        raise UsageError(
            "profile(nsys=True): there is no CUDA runtime (libcudart) for cudaProfilerStart. It is part of CUDA, and of "
            "'jax[cuda13]'. If it is elsewhere, add its directory to LD_LIBRARY_PATH."
        )

    def start(self) -> None:
        """Begin the range.

        Raises:
            ProfileError: CUDA reports an error.
        """
        self._call("cudaProfilerStart")

    def stop(self) -> None:
        """End the range.

        Raises:
            ProfileError: CUDA reports an error.
        """
        self._call("cudaProfilerStop")

    def _call(self, name: str) -> None:
        code = getattr(self._library, name)()
        if code:
            describe = self._library.cudaGetErrorString
            describe.restype = ctypes.c_char_p
            raise ProfileError(f"{name} failed: {describe(code).decode()} (error {code})")


def _candidates() -> Iterator[str]:
    """Yield what to load: first the library that JAX itself would load."""
    for folder in sys.path:
        for place in _IN_PACKAGES:
            yield from sorted(glob.glob(os.path.join(folder, place, "libcudart.so.*")))
    yield from _NAMES
