"""Writes a GGUF file again with every tensor as F32, so that llama.cpp computes with the exact weights.

    dequantise_gguf.py FROM.gguf TO.gguf

llama.cpp multiplies quantised weights with activations that it rounds to 8 bits, which moves a
logit by about 1. From an F32 file it rounds nothing and comes within 1e-4 of transformers.
"""

import sys

import gguf
import numpy as np

# Written by GGUFWriter itself, or untrue of the new file.
LEFT_OUT = ("general.architecture", "general.file_type", "general.quantization_version")


def main():
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    reader = gguf.GGUFReader(sys.argv[1])
    writer = gguf.GGUFWriter(sys.argv[2], reader.fields["general.architecture"].contents())
    for key, field in reader.fields.items():
        if key.startswith("GGUF.") or key in LEFT_OUT:
            continue
        is_array = field.types[0] == gguf.GGUFValueType.ARRAY
        writer.add_key_value(key, field.contents(), field.types[0], field.types[-1] if is_array else None)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, gguf.dequantize(tensor.data, tensor.tensor_type).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main()
