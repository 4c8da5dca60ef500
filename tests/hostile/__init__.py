"""What strangers, broken clients and other versions do to a port: each is told or cut off, and everybody else is served."""
