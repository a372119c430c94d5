# What people do here; `tests/run` does it, and says what it needs.
.PHONY: demo fast coverage test lint generate bench pythons

demo:
	python3 -m venv .venv && .venv/bin/pip install . && .venv/bin/intarget-exporter --demo

fast coverage lint generate bench:
	tests/run $@

test:
	tests/run

pythons:
	tests/pythons
