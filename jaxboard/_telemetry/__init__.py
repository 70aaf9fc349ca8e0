"""Telemetry of a run: compilations, step times, memory and jaxboard's own cost, all under ``jaxboard/``."""
