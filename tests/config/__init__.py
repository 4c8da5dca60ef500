"""What a node is told before it starts."""
