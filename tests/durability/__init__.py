"""Proof of fsync: no acknowledgement before the sync that covers it (docs/durability.md)."""
