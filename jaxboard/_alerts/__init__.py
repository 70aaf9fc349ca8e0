"""Alerts: rules about reported values, spikes, and who receives them."""

from jaxboard._alerts.alert import Alert as Alert
