"""What ``python -m pyint8dot`` offers, one module a command. Private to the package."""
