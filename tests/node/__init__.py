"""One whole node on real files and sockets."""
