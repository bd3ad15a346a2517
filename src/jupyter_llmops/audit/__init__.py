"""The trail: one hash-chained journal per session, its content beside it, and how to check it."""
