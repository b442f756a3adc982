"""The engine: kernels, layouts, programs and what calls them. Private to the package; nobody outside sees an address."""
