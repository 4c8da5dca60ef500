"""What both sides of a wire share: stubs (v1), columns, the coalescing link, partitions and errors. Imports neither side."""

PROTOCOL = 1
"""The wire protocol's version; a peer that speaks a higher one only adds fields."""
