"""The autopsy: which operation of a program made the first value that is not finite."""

from jaxboard._autopsy.autopsy import autopsy as autopsy
from jaxboard._autopsy.findings import Autopsy as Autopsy
