"""Other stores under the same faults and checkers: etcd, which must come out linearizable, and Redis, which must be caught.

A checker that finds nothing in our store has shown little until it finds something in one that is known to lose writes, and
nothing in one that is known not to. `cluster` puts servers, proxies and the plane together; etcd_cluster.py and redis_cluster.py
say how each store is run, etcd_store.py and redis_store.py speak to it as `kvchaos.registers.Register`, and questions.py looks at
its links. The binaries are shared with the comparison of `make bench`."""
