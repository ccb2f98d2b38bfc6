"""Benchmarks: run as `python -m benchmarks.NAME`; no test waits for them."""
