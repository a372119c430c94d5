"""What polls and scrapes cost, beside programs that do the same: `python -m bench`, see docs/benchmarks.md."""
