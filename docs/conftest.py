"""Settings of the tests of the pages: the same compiler and devices as for all other tests."""

import jax_environment

jax_environment.set_variables()
