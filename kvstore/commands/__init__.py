"""The server's sub-commands of `kv`: serve (one node), dev (a local cluster) and demo. Shells: they start, print and end."""
