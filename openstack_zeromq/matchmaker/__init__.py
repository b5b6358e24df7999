"""matchmaker: which hosts serve a topic, and where a host listens. Only the receiver asks it, and `catalog`, which writes rings.

`base` is the interface and what a lookup answers, `choose` makes the one that the options ask for.

Without a server: `dummy`, and `ring` (`ring_file` is the format on disk, shared with Ansible's modules). With one: `store` is
what it does for us, `redis` and `consul` are such stores, `following` asks one in a thread of its own, `holding` decides what of
its answers to believe (pure), `snapshot` keeps what was known for a start without it.
"""
