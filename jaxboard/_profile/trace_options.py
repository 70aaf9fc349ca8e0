"""The checks of ``profile(advanced=...)``: options of the tracers that jaxboard has no argument for."""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Mapping
from typing import TypeAlias, cast

import jax

from jaxboard._errors import UsageError
from jaxboard._safe_repr import safe_repr

Value: TypeAlias = "int | bool | str"

_ARGUMENTS = {
    "host_tracer_level": "host_level=",
    "python_tracer_level": "python=",
    "enable_hlo_proto": "hlo=",
    "session_id": "name=",
    "duration_ms": "max_seconds=",
    "repository_path": "logdir=",
}
"""Fields of JAX's options that arguments of ``profile`` set."""

# https://docs.jax.dev/en/latest/profiling.html and
# https://github.com/openxla/xprof/blob/master/docs/advanced_profiler_options.md
_CONFIGURATION = (
    "gpu_dump_graph_node_mapping",
    "gpu_enable_cupti_activity_graph_trace",
    "gpu_enable_nvtx_tracking",
    "gpu_max_activity_api_events",
    "gpu_max_annotation_strings",
    "gpu_max_callback_api_events",
    "gpu_num_chips_to_profile_per_task",
    "gpu_pm_sample_buffer_size_per_gpu_mb",
    "gpu_pm_sample_counters",
    "gpu_pm_sample_interval_us",
    "max_trace_buffers",
    "tpu_circular_buffer_tracing",
    "tpu_cmn_perf_counter_sampling_options",
    "tpu_cpu_perf_counter_configs",
    "tpu_cpu_perf_counter_profile_events",
    "tpu_e2e_enable_fw_power_level_event",
    "tpu_e2e_enable_fw_thermal_event",
    "tpu_e2e_enable_fw_throttle_event",
    "tpu_enable_fw_pcie_utilization_event",
    "tpu_enable_periodic_counter_sampling",
    "tpu_icr_perf_counter_sampling_options",
    "tpu_num_chips_to_profile_per_task",
    "tpu_num_sparse_core_tiles_to_trace",
    "tpu_num_sparse_cores_to_trace",
    "tpu_perf_counters",
    "tpu_power_trace_level",
    "tpu_sc_dma",
    "tpu_scs_perf_counter_sampling_options",
    "tpu_sctc_perf_counter_sampling_options",
    "tpu_sctd_perf_counter_sampling_options",
    "tpu_tc_perf_counter_sampling_options",
    "tpu_trace_mode",
    "tpu_tracemark_lower",
    "tpu_tracemark_upper",
    "tpu_watched_sync_flag_mask",
    "tpu_watched_sync_flag_number",
)
"""The documented keys of ``ProfileOptions.advanced_configuration``. JAX has no list of them: plugins read them."""


def check_advanced(advanced: object) -> dict[str, Value | dict[str, Value]]:
    """Return the fields of ``jax.profiler.ProfileOptions`` that these options set.

    Args:
        advanced: options by name: fields of ``ProfileOptions``, or keys of its ``advanced_configuration``; None for none.

    Raises:
        UsageError: it is not such a mapping, an option is unknown, or a value is of another type.
    """
    fields = _fields()
    found: dict[str, Value | dict[str, Value]] = {}
    configuration: dict[str, Value] = {}
    for name, value in _items(advanced).items():
        if name == "advanced_configuration" and name in fields:
            for key, setting in _items(value).items():
                configuration[_name(key)] = _checked(key, setting)
        elif name in fields:
            found[_name(name)] = _checked(name, value, type(fields[_name(name)]))
        elif isinstance(name, str) and name in _CONFIGURATION:
            configuration[name] = _checked(name, value)
        else:
            raise _unknown(name, [*fields, *_CONFIGURATION])
    if configuration:
        found["advanced_configuration"] = configuration
    return found


def _items(options: object) -> dict[object, object]:
    """Return options as a dict."""
    if options is None:
        return {}
    # A mapping of the user may raise, and its keys may not be hashable.
    with contextlib.suppress(Exception):
        if isinstance(options, Mapping):
            return {key: options[key] for key in options}
    raise UsageError(
        f"profile(advanced={safe_repr(options)}): expected options by name, such as "
        '{"gpu_max_activity_api_events": 10_000_000}.'
    )


def _fields() -> dict[str, object]:
    """Return the fields that ``ProfileOptions`` has in this version of JAX, with their defaults."""
    options = jax.profiler.ProfileOptions()
    names = (name for name in dir(options) if not name.startswith("_") and name not in _ARGUMENTS)
    return {name: getattr(options, name) for name in names}


def _name(key: object) -> str:
    if not isinstance(key, str):
        raise UsageError(
            f"profile(advanced={{{safe_repr(key)}: ...}}): expected the name of an option."
        )
    return key


def _checked(name: object, value: object, kind: type | None = None) -> Value:
    expected = (int, bool, str) if kind is None else (kind,)
    if type(value) not in expected:
        names = " or ".join(each.__name__ for each in expected)
        raise UsageError(
            f"profile(advanced={{{safe_repr(name)}: {safe_repr(value)}}}): expected {names}."
        )
    return cast("Value", value)


def _unknown(name: object, known: list[str]) -> UsageError:
    if isinstance(name, str) and name in _ARGUMENTS:
        return UsageError(f"profile(advanced={{{name!r}: ...}}): use {_ARGUMENTS[name]} instead.")
    close = difflib.get_close_matches(name, known, 1, 0.8) if isinstance(name, str) else []
    meant = f" Did you mean {close[0]!r}?" if close else ""
    return UsageError(
        f"profile(advanced={{{safe_repr(name)}: ...}}): the installed JAX has no such option.{meant} The options are "
        f"{', '.join(sorted(known))}. A newer key of a plugin goes into 'advanced_configuration'."
    )
