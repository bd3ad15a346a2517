"""The one way every prompt takes: render → guard → cache → engine → record."""
