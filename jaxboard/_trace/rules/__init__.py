"""The harvest rules, one for each JAX primitive that may contain reports."""
