"""gRPC channel and server options of both sides.

Keepalive alone notices a black hole only after a minute: `http2.ping_timeout_ms` is what makes it seconds, and the server has to
permit the pings or it answers with GOAWAY too_many_pings. Measured through Toxiproxy; see docs/performance.md.
"""

from __future__ import annotations

MESSAGE_BYTES_MAX = 64 * 1024 * 1024

Options = list[tuple[str, int]]

CHANNEL_OPTIONS: Options = [
    ("grpc.keepalive_time_ms", 2000),
    ("grpc.keepalive_timeout_ms", 1000),
    ("grpc.http2.ping_timeout_ms", 1500),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 500),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.enable_retries", 0),
]

HANDSHAKE_TIMEOUT_MS = 5000
"""A connection that has not said by then what it wants is closed; gRPC's own patience is two minutes."""

SERVER_OPTIONS: Options = [
    ("grpc.server_handshake_timeout_ms", HANDSHAKE_TIMEOUT_MS),
    ("grpc.keepalive_time_ms", 2000),
    ("grpc.keepalive_timeout_ms", 1000),
    ("grpc.http2.ping_timeout_ms", 1500),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 500),
    ("grpc.http2.max_ping_strikes", 0),
    ("grpc.so_reuseport", 0),
    ("grpc.max_concurrent_streams", 128),  # of one connection; a client's further calls wait there for one of them to end
    ("grpc.server_handshake_timeout_ms", 10_000),  # until HTTP/2 is spoken
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
]

EVENT_ENGINE_OFF = "-event_engine_client,-event_engine_listener"
"""For GRPC_EXPERIMENTS, set before grpc is imported by our own processes only; a library never edits its host's environment."""

GRPC_SILENT = "NONE"
"""For GRPC_VERBOSITY, likewise: gRPC writes a line to stderr for every handshake that fails, and any port scanner fails some."""
