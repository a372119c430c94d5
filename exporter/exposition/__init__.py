"""Snapshots as bytes, and the exporter's own metrics."""
