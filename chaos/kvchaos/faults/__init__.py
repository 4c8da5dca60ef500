"""Faults of real clusters: a plane whose calls break links and processes, and which believes in no fault that it has not seen.

plane.py is what scenarios are written against. toxiproxy_plane.py implements it over real nodes (nodes.py) whose links all go
through proxies of one Toxiproxy (server_binary.py, server.py, api.py, proxies.py); proxied_cluster.py puts both together.
link_state.py says what each fault is made of, expectations.py what must then be seen; probes.py and verification.py look.
"""
