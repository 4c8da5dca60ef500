"""Breaks a running cluster on purpose and judges what it did: fault planes, workloads and pure checkers.

Sees the product as a user does: through kvclient, through processes, never through the server's modules.
"""
