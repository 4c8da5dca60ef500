"""The server of kvstore: a replicated key-value store whose place between CP and AP is chosen per namespace and per request."""

__version__ = "0.1.0"
