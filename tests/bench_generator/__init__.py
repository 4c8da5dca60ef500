"""Tests of the load generator behind `kv bench`."""
