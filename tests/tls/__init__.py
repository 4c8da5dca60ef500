"""TLS between nodes and to clients: who is let in, what is said to those who are not, and renewed certificates."""
