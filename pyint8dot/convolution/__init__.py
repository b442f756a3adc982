"""How a convolution becomes matrix products. Private to the package; `pyint8dot.conv` has the public functions."""
