"""The store inside the caller's process."""
