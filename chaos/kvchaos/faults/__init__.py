"""Faults of real clusters: a plane whose calls break links and processes, and which believes in no fault that it has not seen.

plane.py is what scenarios are written against. link_plane.py implements it over real nodes (nodes.py) and an injector of link
faults: here that is one Toxiproxy (server_binary.py, server.py, api.py, proxies.py), beside it kvchaos.netns. linked_cluster.py
puts nodes and injector together, proxied_cluster.py with Toxiproxy. link_state.py says what each fault is made of,
expectations.py what must then be seen; probes.py and verification.py look.
"""
