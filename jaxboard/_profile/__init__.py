"""Profiles: a window of training steps as a trace that TensorBoard's Profile tab shows."""

from jaxboard._profile._profiler import JAXProfiler as JAXProfiler
from jaxboard._profile._profiler import profile as profile
from jaxboard._profile._spans import trace as trace
