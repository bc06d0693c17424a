"""Writes tests/tokenizer/fixtures: tiny tokenizers as models ship them, and the ids that Hugging Face's
tokenizers give to texts. Needs `tokenizers` (0.23.3 was used); no random numbers but seeded ones.

    python tests/tokenizer/make_fixtures.py
"""

import collections
import json
import pathlib
import random
import unicodedata

import tokenizers

FOLDER = pathlib.Path(__file__).parent / "fixtures"
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")

# What the merges are learnt from.
CORPUS = """The cat sat on the mat, and the other cat's hat wasn't there. I'LL SEE, he said:\n\n
  for (int i = 0; i < 1024; i++) {\n\treturn x[i] += 12345;\n    }\n\n\n2024-12-31 3.14159 99999
Der Müller hört naïve Café-Gäste. Les élèves ont été à l'école. Привет, мир! Приветствую.
日本語のテスト、中文测试。한국어 시험 안녕하세요 안녕 नमस्ते दुनिया 👍👍🏽 👨‍👩‍👧 ... ---- !!!??? (((x))) <|a|>
""" * 2

# Each is a kind of text that some pattern could cut wrongly.
TEXTS = [
    "", " ", "  ", "\n", "\r\n", "\t", "a", "1", "!", "The cat sat on the mat.", " The cat", "the cat's hat",
    "it's IT'S It'S we'Ve they'RE I'll I'LL i'm he'D 'twas 's 'S 'ſ 'ſick x'ſ", "'", "''", "'''s", "' s", "don’t",
    "'l", "'L", "'r", "'v 've've", "a'b'c'd", "'tis 'TIS", "x 's", "\n's", "1's 2'LL",
    "1 12 123 1234 12345 123456 1234567", "v1.2.3", "a1b22c333d4444", "3.14 1,000,000", " 1", "  1", "   12", "\n1",
    "1 ", "1\n", "1  a", "a  1", "a \n 1", "²½Ⅷ٣３ ①", "٣٤٥٦", "x²y³", "1\u0301 2", "𝟙𝟚𝟛𝟜", "!\U00011de0?", "  \U00011de1 1",
    "a b  c   d    e", "a\nb\n\nc\n\n\nd", "a \n b", "a\n  b", "a  \n\n  b", "a \r\n b\r\r\nc", "\n\n  x", "  \n", "x  \n",
    "x\t\ty", "\t\n\tx", " \u3000 x", "a\u00a0b\u2003\u2003c", "a\u0085b", "\x1c\x1d x", "a\u200bb", "\u2028\u2029\n!", "x \n\n ",
    "Hello, world!", "!!!", "! ! !", "!\n!\n\n!", "!!\r\n\r\nx", " !\n x", "...\n\n", "(a)(b) (c)", "((a))", "_a_b __c", "#!/bin/sh\n",
    "for (int i = 0; i < 10; i++) {\n\treturn x[i];\n}\n", "{\"a\": [1, 2]}", "a/b\\c", "--x=1 -y", "x+=1;y-=2", "<|a|> <|endoftext|",
    "naïve café Gäste", "Привет, мир!", "ПРИВЕТ'S", "日本語のテスト、123。", "中文 测试", "한국어 시험", "नमस्ते दुनिया", "สวัสดี", "مرحبا بالعالم ١٢٣", "שלום",
    "👍", "👍👍🏽 x", "👨‍👩‍👧 a", "a👍b", " 👍", "\U0010ffff\ue000", "\ufeffa", "e\u0301 é", "a\u0301\u0301b", "\u0301a", " \u0301a", "!\u0301a",
    # Normal form C: joined, reordered, singletons, Hangul, excluded and blocked ones.
    "e\u0301le\u0300ve", "cafe\u0301s", "A\u030a \u212b Å", "\u2126 \u212a", "q\u0307\u0323 q\u0323\u0307", "d\u0323\u0307", "s\u0323\u0307x", "a\u0327\u0301",
    "\u1100\u1161\u11a8 각", "가\u11a8", "\u0958 \u0915\u093c", "\ufb1d", "<\u0338 >\u0338 =\u0338", "\u0344", "\u2000x\u2001", "\u0340a", "\u1e9b\u0323", "e\u0301" * 6,
    "\x00\x01\x04\x06\x7f", "\x04 a\x06b", "\U00040000\U000d0000", "ÿ\u0100", "\uffff",
    # Special tokens, whole, broken and beside what could join them.
    "<|endoftext|>", "a<|endoftext|>b", "<|endoftext|><|endoftext|>", " <|endoftext|> ", "<|endoftext", "<|endoftext|>\n\nx",
    "<|im_start|>user\nHi<|im_end|>\n", "<|begin_of_text|>a<|eot_id|>", "<|pad|><|endoftext|><|pad|", "<<|pad|>|endoftext|>", "x<|pad|>|endoftext|>",
    "<tool_call>\n{}</tool_call>", "<tool_call>\u0338", "x<tool_call>y", "a->が b->か\u3099", "->が", "<|reserved_special_token_0|>", "<|im_end|>'s 12", "1<|endoftext|>2",
    "  <|endoftext|>  x", "word whole wholeword", " whole", "xwhole whole\n",
]


def bytes_to_unicode():
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    codes = dict(zip(printable, printable)) | {byte: 256 + n for n, byte in enumerate(others)}
    return {byte: chr(code) for byte, code in codes.items()}, [*printable, *others]


ALPHABET, BYTE_ORDER = bytes_to_unicode()


def byte_level(uses_regex):
    return {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": uses_regex}


def by_pattern(pattern):
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    return {"type": "Sequence", "pretokenizers": [split, byte_level(False)]}


def learn(pattern, n_merges):
    """Merges of the corpus; of equally frequent pairs the first by text."""
    split = tokenizers.pre_tokenizers.Split(tokenizers.Regex(pattern), "isolated")
    words = collections.Counter(text for text, _ in split.pre_tokenize_str(CORPUS))
    words = {tuple(ALPHABET[byte] for byte in word.encode()): count for word, count in words.items()}
    merges = []
    for _ in range(n_merges):
        pairs = collections.Counter()
        for word, count in words.items():
            for pair in zip(word, word[1:]):
                pairs[pair] += count
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        merged = {}
        for word, count in words.items():
            parts, at = [], 0
            while at < len(word):
                joined = word[at : at + 2] == best
                parts.append("".join(word[at : at + 1 + joined]))
                at += 1 + joined
            merged[tuple(parts)] = merged.get(tuple(parts), 0) + count
        words = merged
    return merges


def added(token_id, content, special=True, normalized=False):
    return {"id": token_id, "content": content, "single_word": False, "lstrip": False, "rstrip": False,
            "normalized": normalized, "special": special}


def tokenizer(tokens, merges, added_tokens, **parts):
    ignore_merges = parts.pop("ignore_merges", False)
    model = {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
             "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": ignore_merges,
             "vocab": {token: token_id for token_id, token in enumerate(tokens)}, "merges": [list(pair) for pair in merges]}
    file = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added_tokens, "normalizer": None,
            "pre_tokenizer": None, "post_processor": None, "decoder": byte_level(True), "model": model}
    return file | parts


def gpt2():
    """As GPT-2 ships it: its special token is a normalized one; beside it one that a user added."""
    merges = learn(GPT2, 100)
    tokens = [ALPHABET[byte] for byte in BYTE_ORDER] + ["".join(pair) for pair in merges] + ["<|endoftext|>"]
    end = len(tokens) - 1
    file = tokenizer(tokens, merges, [added(end, "<|endoftext|>", normalized=True), added(end + 1, "<|pad|>")],
                     pre_tokenizer=byte_level(True), post_processor=byte_level(True))
    config = {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>",
              "add_bos_token": False, "tokenizer_class": "PreTrainedTokenizerFast"}
    return file, {"tokenizer_config.json": config}


def smollm():
    """As SmolLM2: special tokens first, in the vocabulary, and bytes without a token."""
    missing = [0x04, 0x06, 0xC0, 0xC1, 0xF1, 0xF2, *range(0xF5, 0x100)]
    pattern = rf"\p{{N}}|{GPT2}"
    merges = learn(pattern, 100)
    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    tokens = specials + [ALPHABET[byte] for byte in BYTE_ORDER if byte not in missing] + ["".join(pair) for pair in merges]
    digits = {"type": "Digits", "individual_digits": True}
    file = tokenizer(tokens, merges, [added(token_id, token) for token_id, token in enumerate(specials)],
                     pre_tokenizer={"type": "Sequence", "pretokenizers": [digits, byte_level(True)]})
    template = "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    config = {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>", "pad_token": "<|im_end|>", "unk_token": "<|endoftext|>",
              "chat_template": template, "tokenizer_class": "PreTrainedTokenizerFast"}
    return file, {"tokenizer_config.json": config}


def llama3():
    """As Llama 3: merges from ranks, every way to part a token that the vocabulary has; tokens that no merge makes;
    special tokens outside of the vocabulary; a template that begins a text; several tokens that end one."""
    tokens = [ALPHABET[byte] for byte in BYTE_ORDER] + ["".join(pair) for pair in learn(LLAMA3, 100)]
    tokens += ["Ġwhole", "!!!!", "<|a", "12345"]
    # Its parts are in the vocabulary, but one of them comes later.
    tokens += ["xyz", "yz"]
    ids = {token: token_id for token_id, token in enumerate(tokens)}
    merges = []
    for token in tokens[256:]:
        ways = [(token[:at], token[at:]) for at in range(1, len(token)) if token[:at] in ids and token[at:] in ids]
        merges += sorted(ways, key=lambda way: (ids[way[0]], ids[way[1]]))
    specials = ["<|begin_of_text|>", "<|end_of_text|>", "<|reserved_special_token_0|>", "<|eot_id|>"]
    specials = [added(len(tokens) + n, token) for n, token in enumerate(specials)]
    bos = specials[0]["id"]
    template = {"type": "TemplateProcessing",
                "single": [{"SpecialToken": {"id": "<|begin_of_text|>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
                "pair": [{"SpecialToken": {"id": "<|begin_of_text|>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
                         {"SpecialToken": {"id": "<|begin_of_text|>", "type_id": 1}}, {"Sequence": {"id": "B", "type_id": 1}}],
                "special_tokens": {"<|begin_of_text|>": {"id": "<|begin_of_text|>", "ids": [bos], "tokens": ["<|begin_of_text|>"]}}}
    file = tokenizer(tokens, merges, specials, pre_tokenizer=by_pattern(LLAMA3), ignore_merges=True,
                     post_processor={"type": "Sequence", "processors": [byte_level(True), template]})
    config = {"bos_token": {"content": "<|begin_of_text|>", "special": True}, "eos_token": "<|eot_id|>",
              "tokenizer_class": "PreTrainedTokenizerFast"}
    generation = {"bos_token_id": bos, "eos_token_id": [bos + 1, bos + 3]}
    return file, {"tokenizer_config.json": config, "generation_config.json": generation}


def qwen2():
    """As Qwen2: normal form C, added tokens that are text, one of them found in normal form, and a gap before them."""
    merges = learn(QWEN2, 100)
    tokens = [ALPHABET[byte] for byte in BYTE_ORDER] + ["".join(pair) for pair in merges]
    first = len(tokens) + 3
    specials = [added(first, "<|endoftext|>"), added(first + 1, "<|im_start|>"), added(first + 2, "<|im_end|>"),
                added(first + 3, "<tool_call>", special=False), added(first + 4, "</tool_call>", special=False),
                added(first + 5, "->が", special=False, normalized=True)]
    file = tokenizer(tokens, merges, specials, normalizer={"type": "NFC"}, pre_tokenizer=by_pattern(QWEN2),
                     post_processor=byte_level(False))
    config = {"bos_token": None, "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", "add_bos_token": False,
              "tokenizer_class": "PreTrainedTokenizerFast"}
    template = "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    return file, {"tokenizer_config.json": config, "generation_config.json": {"eos_token_id": [first + 2, first]},
                  "chat_template.jinja": template}


def drawn_texts(n_texts):
    """Short texts of pieces that meet each other in every way."""
    random.seed(336)
    pieces = [" ", "  ", "\n", "\r\n", "\t", "a", "The", " cat", "é", "e\u0301", "日", "1", "23", "²", "!", "?!", "'s", "'LL", "'",
              "ſ", "👍", "\u0301", "\u0338", "<", ">", "<|endoftext|>", "<tool_call>", "->", "_", "Ω", "\u3000", "가", "\u11a8"]
    return ["".join(random.choices(pieces, k=random.randint(2, 12))) for _ in range(n_texts)]


def main():
    texts = TEXTS + drawn_texts(60)
    cases = {"texts": texts, "normal_forms": [unicodedata.normalize("NFC", text) for text in texts], "ids": {}}
    for name, make in [("gpt2", gpt2), ("smollm", smollm), ("llama3", llama3), ("qwen2", qwen2)]:
        file, others = make()
        folder = FOLDER / name
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(file, ensure_ascii=False, separators=(",", ":"))
        (folder / "tokenizer.json").write_text(text + "\n", encoding="utf-8")
        for other, value in others.items():
            value = value if isinstance(value, str) else json.dumps(value) + "\n"
            (folder / other).write_text(value, encoding="utf-8")
        # Ids of added tokens are Hugging Face's to give; with a gap it would give others than the file says.
        for token in file["added_tokens"]:
            file["model"]["vocab"].setdefault(token["content"], token["id"])
        built = tokenizers.Tokenizer.from_str(json.dumps(file))
        encoded = built.encode_batch(texts, add_special_tokens=False)
        cases["ids"][name] = [" ".join(map(str, encoding.ids)) for encoding in encoded]
    # A line a value, so that a change of one shows.
    text = json.dumps(cases, ensure_ascii=True, indent=0)
    (FOLDER / "cases.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
