"""matchmaker: which hosts serve a topic, and where a host listens. Only the receiver asks it.

`base` is the interface and what a lookup answers; one module per backend: `dummy`, `ring`. `ring_file` is the
format of the ring on disk, shared with Ansible's modules.
"""
