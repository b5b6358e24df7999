"""catalog: a store's topics (Consul's catalog, most often) -> the ring file of this node, once or for ever.

Read `shape` first: what is known of topics becomes a ring and its side-car, and back. `quiescence` says when to write, `changes`
what was changed: these three are pure. `disk` reads and replaces the two files, `follower` asks the store and holds what looks
like an accident, `sync` puts them together. `telling` runs a command or a webhook after a change, `release` carries an operator's
word to whoever syncs, `copy` is the whole ring as one key in Consul.

`watch` follows a catalog for whoever redeploys: `news` is what it tells (pure), `ways` how, `nodes` are Consul's own.
"""
