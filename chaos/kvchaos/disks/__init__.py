"""Disks that lose or change what was written: what a power cut leaves of files, and damage to those of LevelDB.

build.py compiles shim.c, which writes down what a process asks of its files; synced.py makes of that what was durable when;
cutting.py takes everything else away; recorded.py has both for one node. damage.py flips bits and shortens files, tables.py knows
where in a table users' records lie. Only faults/nodes.py calls these, and the proof of durability in the tests.
"""
