"""Texts and documents that say a table."""
