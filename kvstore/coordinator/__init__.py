"""The story of each operation: put, get, scan. Whoever coordinates is a home replica of the key; everybody else forwards."""
