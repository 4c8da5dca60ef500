"""What several parts of the suite build on: clusters in one event loop, engines with gates, waiting for conditions."""
