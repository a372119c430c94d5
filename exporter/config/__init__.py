"""YAML, environment and flags to a frozen configuration."""
