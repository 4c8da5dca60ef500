"""Stubs of protos/etcd_kv.proto, by `python -m tests.bench.generate_stubs`; committed so that a run needs no generator."""
