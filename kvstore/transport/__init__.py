"""Node to node: the contract, the link that keeps it, and gRPC underneath."""
