"""Conflict policies: what becomes of concurrent writes to a key of an eventual namespace (ADR 10).

    siblings   every concurrent value is kept and shown (versions.py, as it stands)
    lww        the value with the latest stamp is kept; concurrent updates are lost, by name            plain.py
    merge      siblings, shown as what a registered function makes of them; never stored                merging.py
    counter    increments add up                                                                        counters.py
    set        an add wins over a concurrent remove                                                     sets.py
    map        fields that are registers, counters and sets                                             typed.py

`operations.py` has the shapes (what a client asks, what the coordinator adds, what a get answers), `items.py` the bytes of values,
`events.py` how one event changes a record. Each policy is a `Policy`: `apply` mints, at the coordinator; `join` merges two records,
anywhere, and never mints (safety rule 13); `read` says what a client is told.
"""
