"""gRPC services: decode, delegate, encode. Nothing is decided here."""
