"""Stubs of protos/etcd_kv.proto, by `python -m kvchaos.targets.generate_stubs`; committed so that a run needs no generator."""
