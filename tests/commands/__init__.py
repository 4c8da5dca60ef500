"""The server's sub-commands, run against a small stand-in for a node (fake_node.py) where a real one is not the point."""
