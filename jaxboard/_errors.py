"""The exceptions jaxboard raises. This module imports nothing."""


class JaxboardError(Exception):
    """Base of every exception that jaxboard raises itself."""


class ReportError(JaxboardError, ValueError):
    """A report was called with something it cannot take: a tag, a rank, a dtype, an option.

    Raised at the call, which under ``jax.jit`` means while the function is traced.
    """


class RunError(JaxboardError, RuntimeError):
    """A run could not be opened, or something it was given could not be written.

    Faults of the machine (a full disk, a directory that went away) are never raised into the
    training step. They are shown on standard error at once, retried, and raised from
    :meth:`Run.flush` or :meth:`Run.close` as this exception if they could not be mended.
    """


class ProfileError(JaxboardError, RuntimeError):
    """A profile could not be made, or not be saved.

    Raised only where ``on_error="raise"`` was asked for, and then on leaving the profiled block: a
    profile that fails doesn't stop the training.
    """


class NonFiniteError(RunError):
    """Something reported was NaN or infinite, in a run that has ``on_nonfinite="raise"``."""


class JaxboardWarning(UserWarning):
    """Something works, but not as well as it could, or not as the caller may think."""


# Users should meet these under the name they import them by.
for _cls in (JaxboardError, ReportError, RunError, NonFiniteError, ProfileError, JaxboardWarning):
    _cls.__module__ = "jaxboard"
del _cls
