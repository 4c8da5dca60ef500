"""The namespaces that were made at run time, as one value that all nodes agree on (safety rule 6). Pure.

`settings` says what a namespace may be and what is refused, `catalog` which there are and which ids are gone, `encoding` how it is
stored and sent. Who makes versions agreed is cluster/catalog_changes.py; a node goes by committed versions only.
"""
