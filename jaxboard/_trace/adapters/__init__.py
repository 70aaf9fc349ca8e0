"""`instrument` over the jit wrappers of other libraries."""
