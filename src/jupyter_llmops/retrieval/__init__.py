"""Chunk, embed, keep in a collection, search, and find anything of the catalog by meaning."""
