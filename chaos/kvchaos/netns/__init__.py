"""Faults of real networks: every node in a network namespace of its own, joined by a bridge, and packets that the kernel drops.

A cut loses SYN packets too, which no proxy can. For Linux and root with `ip` and `iptables` (`why_not` says what is missing).
namespaces.py makes and removes the network, rules.py is the injector below faults/link_plane.py, sights.py looks from inside a
namespace (by the program glance.py), cluster.py puts all of it together.
"""
