"""Writes what transformers computes from a GGUF file: ids, logits and greedy tokens.

    smollm2_reference.py MODEL.gguf --out FOLDER [--text FILE] [--prompt TEXT] [--time-step]

Transformers turns the file's quantised weights into float32. FOLDER gets `reference.json`
(the ids of a text; a prompt, 50 greedy tokens after it and their leads) and `logits.npy`, float32 [64, vocab].
--time-step also times training steps, forward, backward and AdamW, on two threads.
"""

import argparse
import json
import resource
import time
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

LOGIT_POSITIONS = 64
NEW_TOKENS = 50
# The model does not end its text within NEW_TOKENS of this, so programs that stop there write as much as those that go on.
PROMPT = "Gravity is"
# A page with what tokenizers stumble over: digits, contractions, runs of blanks, several scripts and emoji.
TEXT = """Once upon a time there was a lighthouse at the end of a long, narrow cape.
Its keeper, who wasn't young any more, climbed 217 steps every evening at 18:45.

    "You're late," said the gull.   "It's 1,024 waves past sunset."

Im Winter war es dort kälter als überall sonst; на севере горел огонь, 灯台の光が回る。 🙂👩‍🚀
The keeper lit the lamp,\tcounted to ten, and wrote one line in the log: x = (a + b) / 2.
In the morning the sea was flat. Ships had passed in the night, and none of them had stopped.
He thought about that while he boiled an egg. A light is only useful to those who do not need to come closer.
When the supply boat arrived it brought flour, paraffin, three newspapers and a letter from his sister,
who lived in the city and asked, as she did every year, whether he would not rather live near other people.
He answered that he did: every night some hundred people looked at the lamp he had lit, and that was near enough.
"""


def greedy(model, ids, count):
    """The likeliest token, `count` times, and its lead over the second, by whole forward passes without a cache.

    Another program may take the second where the lead is within its rounding.
    """
    ids, leads = list(ids), []
    with torch.no_grad():
        for _ in range(count):
            best = model(torch.tensor([ids])).logits[0, -1].topk(2)
            ids.append(int(best.indices[0]))
            leads.append((best.values[0] - best.values[1]).item())
    return ids[-count:], leads


def write_reference(model, tokenizer, text, prompt, folder):
    text_ids, prompt_ids = tokenizer.encode(text), tokenizer.encode(prompt)
    with torch.no_grad():
        logits = model(torch.tensor([text_ids[:LOGIT_POSITIONS]])).logits[0]
    produced, leads = greedy(model, prompt_ids, NEW_TOKENS)
    np.save(folder / "logits.npy", logits.numpy())
    content = {
        "text": text, "ids": text_ids, "decoded": tokenizer.decode(text_ids), "logit_positions": len(logits),
        "prompt": prompt, "prompt_ids": prompt_ids, "greedy_ids": produced, "greedy_text": tokenizer.decode(produced),
        "greedy_leads": leads,
    }
    (folder / "reference.json").write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    return content


def time_steps(model, ids, steps=3):
    """Seconds of each step at batch 1 and 256 tokens. The first also allocates AdamW's moments."""
    tokens = torch.tensor(ids)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
    seconds, losses = [], []
    for _ in range(steps):
        start = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        loss = F.cross_entropy(model(tokens[None, :-1]).logits[0], tokens[1:])
        loss.backward()
        optimizer.step()
        seconds.append(round(time.perf_counter() - start, 3))
        losses.append(loss.item())
    return {"tokens": len(tokens) - 1, "seconds": seconds, "losses": losses}


def peak_bytes():
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("gguf", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--text", type=Path, help="instead of the page in this file")
    parser.add_argument("--prompt", default=PROMPT)
    parser.add_argument("--time-step", action="store_true")
    arguments = parser.parse_args()
    logging.disable_progress_bar()
    torch.set_num_threads(2)
    arguments.out.mkdir(parents=True, exist_ok=True)
    source = {"pretrained_model_name_or_path": arguments.gguf.parent, "gguf_file": arguments.gguf.name}
    tokenizer = AutoTokenizer.from_pretrained(**source)
    model = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32, attn_implementation="eager").eval()
    text = TEXT if arguments.text is None else arguments.text.read_text()
    content = write_reference(model, tokenizer, text, arguments.prompt, arguments.out)
    report = {key: content[key] for key in ("prompt_ids", "greedy_ids", "greedy_text")}
    report["smallest_lead"] = min(content["greedy_leads"])
    report["parameters"] = sum(weight.numel() for weight in model.parameters())
    report["peak_bytes_inference"] = peak_bytes()
    if arguments.time_step:
        # From the first tokens of the text, repeated where it is short.
        report["training_step"] = time_steps(model.train(), np.resize(content["ids"], 257))
        report["peak_bytes_training"] = peak_bytes()
    print(json.dumps(report, ensure_ascii=False))


if __name__ == "__main__":
    main()
