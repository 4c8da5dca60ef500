"""Failure detection as a node runs it: its clock, its inbox, its leases, its wire."""
