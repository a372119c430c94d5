# What people do here; `tests/run` does it, and says what it needs.
.PHONY: demo fast test lint generate bench pythons

demo:
	python3 -m venv .venv && .venv/bin/pip install . && .venv/bin/intarget-exporter --demo

fast lint generate bench:
	tests/run $@

test:
	tests/run

pythons:
	tests/pythons
