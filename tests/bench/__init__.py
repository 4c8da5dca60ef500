"""The peer comparison of docs/performance.md: `python -m tests.bench.compare`, which `make bench` calls."""
