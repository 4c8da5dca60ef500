"""Linearizable registers, one a key: CASPaxos under ballots of a partition, batch-wide (consistency.md, section 4). Pure.

`ballot` orders proposers, `payload` is what a register holds, `changes` what operations make of it, `held` what an acceptor stores,
`messages` what travels, `acceptor` one replica's decisions, `proposer` the machine of whoever coordinates. A *group* is the first
six bytes of a store key, partition and namespace: promises, floors and sequences are per group.
"""
