"""Patterns of a graph that become fewer, quantised nodes. Private to the package."""
