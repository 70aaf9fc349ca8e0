"""Profiles: a window of training steps as a trace that TensorBoard's Profile tab shows."""

from jaxboard._profile.profiler import JAXProfiler as JAXProfiler
from jaxboard._profile.profiler import profile as profile
from jaxboard._profile.spans import trace as trace
