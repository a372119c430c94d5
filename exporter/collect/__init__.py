"""A complete answer from an API that has no pages."""
