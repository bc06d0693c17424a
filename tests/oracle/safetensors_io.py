"""Reads and writes safetensors files with numpy alone.

The format: an 8-byte little-endian header length, a JSON header that gives each
tensor's dtype, shape and byte range, then the raw little-endian data.
"""

import json
import struct

import numpy as np

DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "U32": "<u4"}


def save(path, tensors, metadata=None):
    """Writes a dict of name -> numpy array; `metadata` is a dict of strings."""
    names = {np.dtype(code): name for name, code in DTYPES.items()}
    header = {"__metadata__": metadata} if metadata else {}
    blobs, offset = [], 0
    for key in sorted(tensors):
        # Not ascontiguousarray, which would turn a scalar into shape [1].
        array = np.asarray(tensors[key], order="C")
        blobs.append(array.tobytes())
        end = offset + len(blobs[-1])
        header[key] = {"dtype": names[array.dtype], "shape": list(array.shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # Aligns the data, so that it can be memory-mapped.
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + b"".join(blobs))


def load(path):
    """Reads a file into a dict of name -> numpy array; metadata is dropped."""
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
        data = file.read()
    header.pop("__metadata__", None)
    tensors = {}
    for key, entry in header.items():
        begin, end = entry["data_offsets"]
        tensors[key] = np.frombuffer(data[begin:end], DTYPES[entry["dtype"]]).reshape(entry["shape"]).copy()
    return tensors
