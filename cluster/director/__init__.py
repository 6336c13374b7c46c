"""Does: makes one director's kernel hold what a signed order says. No Django, no database."""
