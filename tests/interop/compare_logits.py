"""Compares logits with those of transformers for a Hugging Face folder, and its tokenizer with given ids.

    compare_logits.py MODEL TOKENS.json LOGITS.safetensors|LOGITS.npy [--limit 1e-4] [--texts TEXTS.json]

MODEL is a Hugging Face folder or a GGUF file, whose weights transformers turns into float32.
TOKENS holds a list of ids, or a list of such lists of one length. LOGITS is [time, vocab] or
[batch, time, vocab]; in a safetensors file it is the tensor `logits`. TEXTS holds a list of
{"text", "ids"} and, where decoding does not give the text back, "decoded".
Exits with 1 where the worst absolute difference is over the limit or a text differs.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import torch
import transformers
from safetensors.numpy import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

TOKENIZER_FILES = ("tokenizer.json", "vocab.json", "tokenizer.model")


def read_logits(path):
    """Logits as float64 [batch, time, vocab]."""
    logits = np.load(path) if path.suffix == ".npy" else load_file(path)["logits"]
    return logits.astype(np.float64).reshape((-1, *logits.shape[-2:]))


def source_of(path):
    """What `from_pretrained` takes for a folder or a GGUF file."""
    if path.suffix == ".gguf":
        return {"pretrained_model_name_or_path": path.parent, "gguf_file": path.name}
    return {"pretrained_model_name_or_path": path}


def theirs_of(path, tokens):
    """The model's logits by transformers, in float32 with the plain attention."""
    model, loading = AutoModelForCausalLM.from_pretrained(
        **source_of(path), dtype=torch.float32, attn_implementation="eager", output_loading_info=True)
    # A name that transformers does not find is filled at random, with a warning only.
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if loading[kind]:
            raise SystemExit(f"{path}: {kind}: {sorted(map(str, loading[kind]))}")
    with torch.no_grad():
        return model.eval()(torch.tensor(tokens)).logits.double().numpy()


def compare_logits(ours, theirs, limit):
    """Prints the worst difference and where it is; returns whether it is within the limit."""
    if ours.shape != theirs.shape:
        print(f"logits: ours are {list(ours.shape)}, transformers' {list(theirs.shape)}: TOO LARGE")
        return False
    difference = np.abs(ours - theirs)
    difference[np.isnan(difference)] = np.inf
    where = np.unravel_index(difference.argmax(), difference.shape)
    passed = bool(difference[where] <= limit)
    same = (ours.argmax(-1) == theirs.argmax(-1)).mean()
    print(f"logits {list(ours.shape)}: worst difference {difference[where]:.3e} at {[int(i) for i in where]} "
          f"(ours {float(ours[where])!r}, theirs {float(theirs[where])!r}), the likeliest token agrees at {same:.2%}, "
          f"limit {limit:g}: {'ok' if passed else 'TOO LARGE'}")
    return passed


def compare_texts(path, texts):
    """Prints each text whose ids or spelling differ; returns whether none does."""
    tokenizer = AutoTokenizer.from_pretrained(**source_of(path))
    wrong = 0
    for entry in texts:
        # Special tokens that a tokenizer adds of itself (BOS) are not part of a text's ids.
        ids = tokenizer.encode(entry["text"], add_special_tokens=False)
        # Without the clean-up, which takes blanks away before punctuation in some older tokenizers.
        decoded = tokenizer.decode(entry["ids"], clean_up_tokenization_spaces=False)
        if ids != entry["ids"] or decoded != entry.get("decoded", entry["text"]):
            wrong += 1
            print(f"{entry['text']!r}: ours {entry['ids']}, theirs {ids}; they decode ours to {decoded!r}")
    print(f"texts: {len(texts)} compared, {wrong} differ: {'ok' if texts and not wrong else 'DIFFERENT'}")
    return bool(texts) and not wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("tokens", type=Path)
    parser.add_argument("logits", type=Path)
    parser.add_argument("--limit", type=float, default=1e-4, help="largest absolute difference of a logit")
    parser.add_argument("--texts", type=Path, help="texts and their ids by the other program")
    arguments = parser.parse_args()
    transformers.utils.logging.disable_progress_bar()
    tokens = json.loads(arguments.tokens.read_text())
    tokens = tokens if isinstance(tokens[0], list) else [tokens]
    passed = compare_logits(read_logits(arguments.logits), theirs_of(arguments.model, tokens), arguments.limit)
    has_tokenizer = any((arguments.model / name).exists() for name in TOKENIZER_FILES)
    if arguments.texts:
        passed &= compare_texts(arguments.model, json.loads(arguments.texts.read_text()))
    elif has_tokenizer:
        print("texts: the model has a tokenizer, but --texts is not given, so it was not compared")
    sys.exit(0 if passed else 1)


if __name__ == "__main__":
    main()
