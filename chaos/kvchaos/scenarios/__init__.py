"""Scenarios on real clusters: one fault, every consistency setting side by side, a promised outcome for each, and a verdict.

`columns` are the settings that are judged, `cells` what is promised of each side, `load` the clients, `stage` one cluster under one
fault from warm-up to the last read, `figures` what was measured, `verdict` whether promises held, `catalogue` the faults F0 to F20,
`command` is `kv chaos`. Knows the store as its users do: by its client and its processes.
"""
