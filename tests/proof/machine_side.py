"""The machine's side of the comparison with the model: runs small functions on states, in a process of its own.

``python machine_side.py CODE STATES COUNT SIZE``: function i of the file CODE, `SIZE` bytes each, is called with the address of the `COUNT`
states that lie one after the other for it in the file STATES, which then holds what they have become. Needs nothing but Python.
"""

import ctypes
import mmap
import sys
from pathlib import Path

code, states, count, size, state_bytes = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:])
with Path(code).open("r+b") as stream:
    page = mmap.mmap(stream.fileno(), 0, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC, flags=mmap.MAP_PRIVATE)
with Path(states).open("r+b") as stream:
    data = mmap.mmap(stream.fileno(), 0)
at = ctypes.addressof(ctypes.c_char.from_buffer(page))
first = ctypes.addressof(ctypes.c_char.from_buffer(data))
for i in range(len(page) // size):
    function = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64)(at + i * size)
    function(first + i * count * state_bytes, count)
data.flush()
