"""Linearizability of registers: reads, writes, compare-and-set, deletes and increments of one key after another.

operations.py turns calls into operations. zones.py decides keys of reads and unique writes in n log n; just_in_time.py searches
for an order of any others, within a budget; verdicts.py chooses, and explanation.py makes what was found small. A history is
linearizable if each of its keys is (Herlihy and Wing, TOPLAS 12, 1990, theorem 1), so keys are judged one by one."""
