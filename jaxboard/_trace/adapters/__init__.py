"""Adapters of ``instrument`` to the jit wrappers of other libraries."""
