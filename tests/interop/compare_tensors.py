"""Checks that two models hold the same tensors: names, types, shapes and every byte.

    compare_tensors.py A B

A and B are safetensors files or Hugging Face folders, sharded or not. Each difference is one
line; exits with 1 where there is one. How tensors lie in shards and the metadata do not matter.
"""

import json
import struct
import sys
from pathlib import Path


def read_file(path):
    """Name -> (dtype, shape, bytes); parsed here, so that types numpy lacks (BF16) are compared too."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)
    start = 8 + length
    return {
        name: (entry["dtype"], entry["shape"], data[start + entry["data_offsets"][0] : start + entry["data_offsets"][1]])
        for name, entry in header.items()
    }


def read_sharded(index):
    """The tensors that an index names, each from the shard it names, and nothing else in those shards."""
    tensors, files = {}, {}
    for name, file in json.loads(index.read_text())["weight_map"].items():
        if file not in files:
            files[file] = read_file(index.parent / file)
        if name not in files[file]:
            raise SystemExit(f"{index}: {name} should be in {file}, but is not")
        tensors[name] = files[file][name]
    unnamed = {name for shard in files.values() for name in shard} - tensors.keys()
    if unnamed:
        raise SystemExit(f"{index}: the shards hold {sorted(unnamed)}, which the index does not name")
    return tensors


def read_tensors(path):
    if path.is_dir():
        index = path / "model.safetensors.index.json"
        return read_sharded(index) if index.exists() else read_file(path / "model.safetensors")
    return read_sharded(path) if path.name.endswith(".index.json") else read_file(path)


def differences(ours, theirs):
    """One line for each tensor that is absent on one side or not the same."""
    lines = [f"{name}: only in the first" for name in sorted(ours.keys() - theirs.keys())]
    lines += [f"{name}: only in the second" for name in sorted(theirs.keys() - ours.keys())]
    for name in sorted(ours.keys() & theirs.keys()):
        (dtype, shape, data), (their_dtype, their_shape, their_data) = ours[name], theirs[name]
        if (dtype, shape) != (their_dtype, their_shape):
            lines.append(f"{name}: {dtype} {shape} in the first, {their_dtype} {their_shape} in the second")
        elif data != their_data:
            # Zipped, so that files cut short count as different too.
            first = next((at for at, pair in enumerate(zip(data, their_data)) if pair[0] != pair[1]), "the end")
            lines.append(f"{name}: {dtype} {shape} differs from byte {first} on")
    return lines


def main():
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    ours, theirs = (read_tensors(Path(path)) for path in sys.argv[1:])
    lines = differences(ours, theirs)
    print("\n".join([*lines, f"{len(ours)} and {len(theirs)} tensors, {len(lines)} differ"]))
    sys.exit(1 if lines or not ours else 0)


if __name__ == "__main__":
    main()
