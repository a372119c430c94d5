"""Prometheus exporter for InTarget's campaign statistics."""

__version__ = "0.1.0"
