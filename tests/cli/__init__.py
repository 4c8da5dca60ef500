"""Tests of the `kv` command against a store in memory."""
