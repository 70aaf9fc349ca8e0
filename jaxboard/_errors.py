"""The exceptions that jaxboard raises. This module imports nothing.

::

    JaxboardError               every exception below
    ├── UsageError              an argument is invalid (also a ValueError)
    │   └── ReportError         an argument of a report is invalid
    ├── RunError                a run could not be opened or written (also a RuntimeError)
    │   └── NonFiniteError      a reported value is NaN or infinite and the run asked for an error
    └── ProfileError            a profile could not be recorded (also a RuntimeError)

    JaxboardWarning             a UserWarning: something works, but probably not as intended
"""


class JaxboardError(Exception):
    """Base class of every exception that jaxboard raises."""


class UsageError(JaxboardError, ValueError):
    """An argument of a jaxboard function is invalid.

    The message names the function, the argument and its value, and what is expected.
    """


class ReportError(UsageError):
    """An argument of a report is invalid: its tag, its value, or an option.

    Raised at the call. Under ``jax.jit`` that is while JAX traces the function.
    """


class RunError(JaxboardError, RuntimeError):
    """A run could not be opened, or some of its reports could not be written.

    Machine faults (a full disk, a directory that disappeared) never raise into the training step.
    They are logged immediately and retried. If they persist, :meth:`Run.flush` or :meth:`Run.close`
    raises this exception.
    """


class ProfileError(JaxboardError, RuntimeError):
    """A profile could not be recorded or saved.

    Raised only with ``on_error="raise"``, and only when the profiled block ends: a profile that fails
    does not stop the training.
    """


class NonFiniteError(RunError):
    """A reported value is NaN or infinite, in a run opened with ``on_nonfinite="raise"``."""


class JaxboardWarning(UserWarning):
    """Something works, but more slowly than it could, or not as the caller probably intended."""


# Tracebacks show the name that users import.
for _cls in (
    JaxboardError,
    UsageError,
    ReportError,
    RunError,
    NonFiniteError,
    ProfileError,
    JaxboardWarning,
):
    _cls.__module__ = "jaxboard"
del _cls
