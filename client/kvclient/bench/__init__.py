"""The load generator behind `kv bench`: callers that each have one operation in flight, or operations that begin at a fixed rate.

`loop` and `open_loop` drive any `async op(i)` and know no store, so that a comparison drives every store with them; `histogram`
turns what they measured into percentiles; `worker` runs one process's share of a run and `processes` several of them. `workloads`
is the table of what can be asked for and `distributions` which key comes next; `kv_operations` holds the operations on this store,
`null_store` a store that does nothing, `report` and `gates` what is printed and judged.
"""
