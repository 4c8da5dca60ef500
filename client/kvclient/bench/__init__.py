"""The load generator behind `kv bench`: a closed loop of callers, each with one operation in flight.

`loop` drives any `async op(i)` and knows no store, so that a comparison drives every store with it; `histogram` turns what it
measured into percentiles; `worker` runs one process's share of a run and `processes` several of them; `kv_operations` holds the
operations on this store, `report` what is printed.
"""
