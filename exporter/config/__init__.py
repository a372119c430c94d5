"""YAML and environment to a frozen configuration."""
