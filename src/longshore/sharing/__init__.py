"""Results as tables: the endpoints of the Delta Sharing protocol.

https://github.com/delta-io/delta-sharing/blob/main/PROTOCOL.md

A share is a chain in the scope of the token, named by its number; its one schema is `exports`; a table is a task with
`share_as`, a version of it a run. Clients may send parameters and keys that this version does not know: they are
ignored, unlike those of other endpoints, so that later versions of the protocol work.
"""
