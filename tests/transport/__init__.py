"""The peer transport without a network."""
