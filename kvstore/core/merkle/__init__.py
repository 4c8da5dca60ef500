"""Anti-entropy's trees: which keys differ between two replicas, found without comparing those that do not.

tree.py       one tree: leaves that are XORs, folds, bytes
forest.py     all trees of a node: one update for each record that changes, rebuilds in the background
exchange.py   two nodes find the keys that differ
"""
