"""Talks: what the panel and the directors say to each other, and how it is signed."""
