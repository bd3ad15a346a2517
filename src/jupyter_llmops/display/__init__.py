"""Records to text and HTML; this room knows records only and does no I/O."""
