"""Integrations with other libraries, one module each. A module is imported only if the user imports it."""
