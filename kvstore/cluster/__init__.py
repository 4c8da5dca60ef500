"""What a node knows of the others: the ring it goes by, and the namespaces."""
