"""History as OpenMetrics files."""
