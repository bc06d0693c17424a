#!/usr/bin/env python3
"""Compiles the HLSL files that `gpu-tlm shaders --format hlsl` wrote with DirectX's compiler.

Usage: dxc.py LIBDXCOMPILER FOLDER

The library's COM-like interface is called through ctypes. Arguments are wgpu's; the library
validates the DXIL that it makes. Any error fails, and so does a manifest without shaders.
"""

import ctypes
import json
import pathlib
import sys
import uuid


def guid(text):
    return ctypes.create_string_buffer(uuid.UUID(text).bytes_le, 16)


# Kept for the whole run, since the library is given their addresses.
CLSID_COMPILER = guid("73e22d93-e6ce-47f3-b5bf-f0664f39c1b0")
IID_COMPILER3 = guid("228b4687-5a6a-4730-900c-9702b2203f54")
IID_RESULT = guid("58346cda-dde7-4497-9461-6f87af5e0659")
UTF8 = 65001

# Places in the tables of virtual functions; 0 to 2 are IUnknown's.
RELEASE = 2
COMPILER_COMPILE = 3
RESULT_STATUS, RESULT_OBJECT, RESULT_ERRORS = 3, 4, 5
BLOB_POINTER, BLOB_SIZE = 3, 4


class Buffer(ctypes.Structure):
    _fields_ = [("pointer", ctypes.c_char_p), ("size", ctypes.c_size_t), ("encoding", ctypes.c_uint32)]


def call(this, index, result, *arguments):
    """Calls virtual function `index` of the object `this`; arguments are (type, value) pairs."""
    table = ctypes.cast(this, ctypes.POINTER(ctypes.POINTER(ctypes.c_void_p))).contents
    types = [kind for kind, _ in arguments]
    function = ctypes.CFUNCTYPE(result, ctypes.c_void_p, *types)(table[index])
    return function(this, *[value for _, value in arguments])


def out(this, index):
    """Calls a function whose only argument is where to put an object."""
    found = ctypes.c_void_p()
    status = call(this, index, ctypes.c_int32, (ctypes.c_void_p, ctypes.addressof(found)))
    return found if status == 0 and found.value else None


def blob(this):
    if this is None:
        return b""
    pointer = call(this, BLOB_POINTER, ctypes.c_void_p)
    size = call(this, BLOB_SIZE, ctypes.c_size_t)
    data = ctypes.string_at(pointer, size) if size else b""
    call(this, RELEASE, ctypes.c_uint32)
    return data


def compile_hlsl(compiler, source, entry_point, model):
    """Gives DXIL, and what the compiler said."""
    words = ["-E", entry_point, "-T", model, "-HV", "2018", "-no-warnings", "-Ges"]
    arguments = (ctypes.c_wchar_p * len(words))(*words)
    buffer = Buffer(source, len(source), UTF8)
    result = ctypes.c_void_p()
    status = call(
        compiler,
        COMPILER_COMPILE,
        ctypes.c_int32,
        (ctypes.c_void_p, ctypes.addressof(buffer)),
        (ctypes.c_void_p, ctypes.addressof(arguments)),
        (ctypes.c_uint32, len(words)),
        (ctypes.c_void_p, None),
        (ctypes.c_void_p, ctypes.addressof(IID_RESULT)),
        (ctypes.c_void_p, ctypes.addressof(result)),
    )
    if status != 0:
        return b"", f"Compile gave {status & 0xFFFFFFFF:#x}"
    compiled = ctypes.c_int32(-1)
    call(result, RESULT_STATUS, ctypes.c_int32, (ctypes.c_void_p, ctypes.addressof(compiled)))
    said = blob(out(result, RESULT_ERRORS)).rstrip(b"\0").decode(errors="replace").strip()
    # The library that signs DXIL for release is Windows' own.
    said = "\n".join(line for line in said.splitlines() if "DXIL signing library" not in line)
    dxil = blob(out(result, RESULT_OBJECT)) if compiled.value == 0 else b""
    call(result, RELEASE, ctypes.c_uint32)
    if compiled.value != 0 and not said:
        said = f"status {compiled.value & 0xFFFFFFFF:#x}"
    return dxil, said


def main():
    library, folder = sys.argv[1], pathlib.Path(sys.argv[2])
    create = ctypes.CDLL(library).DxcCreateInstance
    compiler = ctypes.c_void_p()
    status = create(CLSID_COMPILER, IID_COMPILER3, ctypes.byref(compiler))
    if status != 0:
        sys.exit(f"DxcCreateInstance gave {status & 0xFFFFFFFF:#x}")
    shaders = json.loads((folder / "manifest.json").read_text())["shaders"]
    failed = 0
    for shader in shaders:
        source = (folder / shader["file"]).read_bytes()
        dxil, said = compile_hlsl(compiler, source, shader["entry_point"], "cs_6_0")
        if said or not dxil.startswith(b"DXBC"):
            failed += 1
            print(f"{shader['file']}: {said or 'no DXIL'}")
    print(f"{len(shaders) - failed} passed, {failed} failed")
    sys.exit(1 if failed or not shaders else 0)


if __name__ == "__main__":
    main()
