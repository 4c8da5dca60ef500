"""Values and decisions, pure: no asyncio, time, random, grpc, plyvel or os. Everything here can be run by hand."""
