"""The reasons why a run is slow, or broke, from what jaxboard wrote about it: ``python -m jaxboard why``."""
