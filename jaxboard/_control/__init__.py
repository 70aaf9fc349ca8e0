"""Requests to an open run, by files in its log directory: ``python -m jaxboard ask`` (docs/asking_a_run.md)."""
