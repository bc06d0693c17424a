"""Holds `gpu-tlm tokenizer` against Hugging Face's tokenizers, transformers and llama.cpp.

For each folder with a tokenizer.json: the ids of drawn texts and of every character by gpu-tlm are those of
`tokenizers` with that file, and those of `transformers.AutoTokenizer` with what `gpu-tlm tokenizer convert` writes;
decoded texts are the same too. With --gguf FILE.gguf and --node, a folder with node-llama-cpp in it, the ids of
the last folder are those of llama.cpp with that file.

    python scripts/compare_tokenizers.py --gpu-tlm target/release/gpu-tlm tests/tokenizer/fixtures/*/

Needs tokenizers and transformers (0.23.3 and 5.24 were used).
"""

import argparse
import json
import pathlib
import random
import subprocess
import tempfile

import tokenizers
import transformers

NEW_DIGITS = {chr(code) for code in [*range(0x11DE0, 0x11DEA), *range(0x16FF4, 0x16FF7)]}

NODE = """
import {getLlama} from "%s/node_modules/node-llama-cpp/dist/index.js";
import fs from "node:fs";
const llama = await getLlama({gpu: false, build: "never", logLevel: "error"});
const model = await llama.loadModel({modelPath: process.argv[2], vocabOnly: true});
const texts = JSON.parse(fs.readFileSync(process.argv[3], "utf8"));
const ids = texts.map((text) => model.tokenize(text, true));
fs.writeFileSync(process.argv[4], JSON.stringify(ids));
process.exit(0);
"""


def drawn_texts(n_texts, specials):
    """Every character between others, and texts in which pieces of all kinds meet."""
    characters = [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000]
    texts = ["".join(f"{c} {c}a" for c in characters[at : at + 64]) for at in range(0, len(characters), 64)]
    texts += ["".join(characters[at : at + 256]) for at in range(0, len(characters), 256)]
    random.seed(1)
    pieces = [" ", "  ", "   ", "\n", "\r\n", "\n\n", "\t", "\u3000", "\xa0", "\x85", "\u2028", "\x1c", "a", "bc", "The", " the", "é",
              "e\u0301", "\u0301", "\u0338", "\u0323", "<", ">", "日", "語", "ア", "가", "\u1100", "\u1161", "\u11a8", "ß", "ſ", "K", "\u212a",
              "1", "23", "456", "7890", "²", "Ⅷ", "٣", "\U00011de0", "!", "?!", "...", "'", "'s", "'S", "'ll", "'LL", "'Re", "'ve", "'d",
              "’", "_", "-", "(", ")", "/", "#", "{", "}", "👍", "👍🏽", "\u200d", "\ufe0f", "नम", "स्ते", "ไทย", "\ufeff", "\u0958", "\ufb1d",
              "\x00", "\x04", "\x7f", "\U00040000", "\ue000", *specials, *(text[:-1] for text in specials)]
    texts += ["".join(random.choices(pieces, k=random.randint(1, 20))) for _ in range(n_texts)]
    ranges = [(0x20, 0x7F), (0x20, 0x250), (0x370, 0x600), (0x900, 0xE00), (0x1E00, 0x2100), (0x3040, 0x3100), (0x4E00, 0x4F00), (0xAC00, 0xAD00)]
    for _ in range(n_texts // 4):
        low, high = random.choice(ranges)
        texts.append("".join(chr(random.randrange(low, high)) for _ in range(random.randint(1, 30))))
    return texts


def run(*command, **kwargs):
    return subprocess.run([str(part) for part in command], check=True, capture_output=True, **kwargs).stdout


def our_ids(args, folder, texts, separator, separator_id, scratch):
    """Ids of each text; gpu-tlm puts the separator between documents."""
    path = scratch / "texts.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    out = run(args.gpu_tlm, "tokenizer", "encode", "--tokenizer", folder, "--input", path, "--end-of-text", separator)
    ids, document = [], []
    for token in map(int, out.split()):
        if token == separator_id:
            ids.append(document)
            document = []
        else:
            document.append(token)
    return ids + ([document] if document or len(ids) < len(texts) else [])


def our_text(args, folder, ids):
    out = run(args.gpu_tlm, "tokenizer", "decode", "--tokenizer", folder, input=" ".join(map(str, ids)).encode())
    return out.decode()


def compare(name, texts, ours, theirs):
    different = [n for n, (a, b) in enumerate(zip(ours, theirs, strict=True)) if list(a) != list(b)]
    print(f"  {name}: {len(texts)} texts, {sum(map(len, ours))} tokens, {len(different)} differ")
    for n in different[:10]:
        at = next((at for at, (a, b) in enumerate(zip(ours[n], theirs[n])) if a != b), 0)
        near = slice(max(at - 10, 0), at + 20)
        print(f"    {texts[n][:40]!r}, at {at}:\n      gpu-tlm {ours[n][near]!r}\n      other   {theirs[n][near]!r}")
    return len(different)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gpu-tlm", required=True, type=pathlib.Path)
    parser.add_argument("--texts", type=int, default=20_000, help="how many are drawn")
    parser.add_argument("--gguf", type=pathlib.Path)
    parser.add_argument("--node", type=pathlib.Path)
    parser.add_argument("folders", nargs="+", type=pathlib.Path)
    args = parser.parse_args()
    n_different = 0
    for folder in args.folders:
        print(folder)
        file = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
        specials = [token["content"] for token in file["added_tokens"]]
        # Hugging Face gives ids to added tokens that are not in the vocabulary, without gaps.
        for token in file["added_tokens"]:
            file["model"]["vocab"].setdefault(token["content"], token["id"])
        built = tokenizers.Tokenizer.from_str(json.dumps(file))
        separator = next(text for text in specials if built.token_to_id(text) is not None)
        texts = [text for text in drawn_texts(args.texts, specials[1:]) if text and separator not in text]
        with tempfile.TemporaryDirectory() as scratch:
            scratch = pathlib.Path(scratch)
            theirs = [encoding.ids for encoding in built.encode_batch(texts, add_special_tokens=False)]
            # Those of bytes without tokens have no ids, and gpu-tlm leaves out empty documents.
            texts = [text for text, ids in zip(texts, theirs) if ids]
            theirs = [ids for ids in theirs if ids]
            ours = our_ids(args, folder, texts, separator, built.token_to_id(separator), scratch)
            n_different += compare("tokenizers", texts, ours, theirs)
            run(args.gpu_tlm, "tokenizer", "convert", "--tokenizer", folder, "--to", "hugging-face", "--out", scratch / "out")
            auto = transformers.AutoTokenizer.from_pretrained(scratch / "out")
            theirs = auto(texts, add_special_tokens=False)["input_ids"]
            n_different += compare("AutoTokenizer", texts, ours, theirs)
            # In pieces, so that one difference is seen apart from the others.
            step = 2_000
            pieces = [[token for ids in ours[at : at + step] for token in ids] for at in range(0, len(ours), step)]
            decoded = [auto.decode(ids) for ids in pieces]
            n_different += compare("decoded", decoded, [our_text(args, scratch / "out", ids) for ids in pieces], decoded)
            if args.gguf and folder == args.folders[-1]:
                # Around a byte that has no token llama.cpp merges nothing, and Hugging Face's tokenizers do; digits
                # of Unicode 17 are none to llama.cpp.
                whole = [n for n, text in enumerate(auto.batch_decode(ours)) if text == texts[n]]
                whole = [n for n in whole if not NEW_DIGITS.intersection(texts[n])]
                texts, ours = [texts[n] for n in whole], [ours[n] for n in whole]
                (scratch / "texts.json").write_text(json.dumps(texts), encoding="utf-8")
                (scratch / "ids.mjs").write_text(NODE % args.node.resolve())
                run("node", scratch / "ids.mjs", args.gguf.resolve(), scratch / "texts.json", scratch / "ids.json")
                n_different += compare("llama.cpp", texts, ours, json.loads((scratch / "ids.json").read_text()))
    raise SystemExit(n_different > 0)


if __name__ == "__main__":
    main()
