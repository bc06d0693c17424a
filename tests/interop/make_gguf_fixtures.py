"""Writes the fixtures of the GGUF reader, by the package `gguf` of llama.cpp:

    python tests/interop/make_gguf_fixtures.py

`types.gguf` has a tensor of each type that is read, and beside each what it widens to as f32.
`rows.gguf` has rows of f32, and beside them what they are as each type that is written.
`metadata.gguf` has a value of each type, and tensors at another alignment; `version_2.gguf` is the same file as one
of version 2.
"""

from pathlib import Path

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type
from gguf import GGUFValueType as Value

FOLDER = Path(__file__).parent / "fixtures" / "gguf"
RANDOM = np.random.default_rng(20)


def write(name, add, alignment=None):
    path = FOLDER / name
    writer = gguf.GGUFWriter(path, "llama")
    if alignment is not None:
        writer.add_custom_alignment(alignment)
    add(writer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def stored(values, kind):
    """As bytes, in rows."""
    return gguf.quantize(np.ascontiguousarray(values, np.float32), kind).view(np.uint8)


def super_blocks(kind, rows):
    """Any bytes are sound, but for scales that are infinite or no numbers."""
    size = gguf.GGML_QUANT_SIZES[kind][1]
    blocks = RANDOM.integers(0, 256, (rows, size), np.uint8)
    scales = RANDOM.normal(0, 0.01, (rows, 2)).astype(np.float16).view(np.uint8)
    if kind == Type.Q4_K:
        blocks[:, :4] = scales
    else:
        blocks[:, -2:] = scales[:, :2]
    return blocks


def types(writer):
    values = RANDOM.normal(0, 1, (2, 64)).astype(np.float32)
    for kind in [Type.F32, Type.F16, Type.BF16, Type.Q8_0, Type.Q4_0, Type.Q4_1, Type.Q4_K, Type.Q6_K]:
        whole = kind in (Type.Q4_K, Type.Q6_K)
        tensor = super_blocks(kind, 3) if whole else stored(values, kind)
        writer.add_tensor(kind.name, tensor, raw_dtype=kind)
        # The package takes bytes for f32 and f16 as they are.
        rows = tensor.view(np.float32) if kind == Type.F32 else tensor.view(np.float16) if kind == Type.F16 else tensor
        writer.add_tensor(f"{kind.name}.values", gguf.dequantize(rows, kind))
    wide = RANDOM.normal(0, 1, (2, 3))
    writer.add_tensor("F64", wide)
    writer.add_tensor("F64.values", wide.astype(np.float32))


def rows(writer):
    rows = [
        np.zeros(32),
        RANDOM.normal(0, 1, 32),
        RANDOM.normal(0, 1e-3, 32),
        # Scales that are subnormal, or nothing, as an f16.
        RANDOM.normal(0, 1e-5, 32),
        RANDOM.normal(0, 1e-9, 32),
        # One over the scale is infinite.
        RANDOM.normal(0, 1e-40, 32),
        # Values that are infinite, and scales that are, as an f16.
        RANDOM.normal(0, 1e5, 32),
        RANDOM.normal(0, 1e9, 32),
        # The largest is negative, and positive, and both; the first one counts.
        np.arange(-32, 0) / 7,
        np.arange(32) / 7,
        np.tile([3.5, -3.5], 16),
        np.tile([-3.5, 3.5], 16),
        # Halves between quants, on both sides of 0.
        np.arange(-127, 127, 8)[:32] + 0.5 + np.where(np.arange(32) == 0, -0.5, 0),
        np.concatenate([[127], np.arange(31) - 15.5]),
        np.concatenate([[-8], (np.arange(31) - 15) / 2]),
        # Halves between f16, and between bf16: to the even one.
        1 + (np.arange(32) * 2 + 1) / 2**11,
        1 + (np.arange(32) * 2 + 1) / 2**8,
        # Signed zeros, behind a number.
        np.concatenate([[1.0], np.tile([-0.0, 0.0], 15), [-0.0]]),
    ]
    rows = np.array(rows + list(RANDOM.standard_cauchy((15, 32))), np.float32)
    writer.add_tensor("rows", rows)
    for kind in [Type.F16, Type.BF16, Type.Q8_0, Type.Q4_0]:
        with np.errstate(over="ignore", invalid="ignore"):
            writer.add_tensor(f"rows.{kind.name}", stored(rows, kind), raw_dtype=kind)


def metadata(writer):
    writer.add_uint8("a.u8", 200)
    writer.add_int8("a.i8", -100)
    writer.add_uint16("a.u16", 60_000)
    writer.add_int16("a.i16", -30_000)
    writer.add_uint32("a.u32", 4_000_000_000)
    writer.add_int32("a.i32", -2_000_000_000)
    writer.add_float32("a.f32", 1e-5)
    writer.add_bool("a.true", True)
    writer.add_bool("a.false", False)
    writer.add_string("a.text", "naïve ☃")
    writer.add_uint64("a.u64", 2**63 + 1)
    writer.add_int64("a.i64", -(2**62))
    writer.add_float64("a.f64", 0.1)
    writer.add_array("a.texts", ["<s>", "Ġa", "", "☃"])
    for kind, values in [
        (Value.UINT8, [0, 255]),
        (Value.INT8, [-128, 127]),
        (Value.UINT16, [1, 65_535]),
        (Value.INT16, [-32_768]),
        (Value.UINT32, [1, 2, 4_294_967_295]),
        (Value.INT32, [1, 3, -6]),
        (Value.FLOAT32, [0.5, -1e-6]),
        (Value.BOOL, [True, False, True]),
        (Value.UINT64, [2**63 - 1]),
        (Value.INT64, [-(2**63)]),
        (Value.FLOAT64, [0.1, 1e300]),
    ]:
        name = kind.name.lower()
        writer.add_key_value(f"a.array.{name}", values, Value.ARRAY, kind)
    writer.add_array("a.nested", [[[1, 2], [3]], [[4]]])
    writer.add_tensor("one", np.arange(7, dtype=np.float32))
    writer.add_tensor("two", np.arange(24, dtype=np.float32).reshape(2, 3, 4))
    writer.add_tensor("ids", np.array([1, 2, 3], np.int32))


FOLDER.mkdir(parents=True, exist_ok=True)
write("types.gguf", types)
write("rows.gguf", rows)
path = write("metadata.gguf", metadata, alignment=64)
content = bytearray(path.read_bytes())
content[4] = 2
(FOLDER / "version_2.gguf").write_bytes(content)
