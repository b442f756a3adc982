"""Nets of the usual families with seeded weights, in every form that onnxruntime's tools write, and a table of how they do."""
