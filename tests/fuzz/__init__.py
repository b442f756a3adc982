"""Mutated models: real ones, changed at random, must run, or end in an error of this package, within time and memory."""
