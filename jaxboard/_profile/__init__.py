"""Profiles: a range of training steps as a trace for TensorBoard's Profile tab."""

from jaxboard._profile.profiler import JAXProfiler as JAXProfiler
from jaxboard._profile.profiler import profile as profile
from jaxboard._profile.spans import trace as trace
