"""One small file per magic: parse, call, show."""
