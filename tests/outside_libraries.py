"""The modules of jaxboard that need a library outside of the extra ``test``."""

MODULES = {"jaxboard.integrations.clu": "clu"}
"""Module -> library. tests/real runs their examples."""
