#!/usr/bin/env python3
"""Tasks for EleutherAI's lm_eval on the built-in stories, and its results against `gpu-tlm score`'s.

Usage: lm_eval_tasks.py write STORIES FOLDER
       lm_eval_tasks.py compare FOLDER

`write` makes FOLDER/tasks for lm_eval, FOLDER/texts.jsonl with the same texts for `gpu-tlm score`, and
FOLDER/prompts.jsonl for `gpu-tlm generate`. `compare` reads what they gave: FOLDER/results of lm_eval,
FOLDER/scores.json and FOLDER/generated.jsonl.
"""

import json
import math
import pathlib
import sys

END = "<|endoftext|>"
# Answers to choose from, each a few words of a story. One word is now and then the likeliest of all.
N_CHOICES = 4
CHOICE_WORDS = (1, 6)
# So few that a context and a choice are less than the model's own context.
CONTEXT_WORDS = 30
# Where a generated text ends.
STOPS = [".", "!", "?", "\n\n", "The end"]
MAX_TOKENS = 24
# Of a log-probability; the server computes a prompt by other kernels than `score`, in another order.
TOLERANCE = 1e-3

CHOICE_TASK = """\
task: stories_choice
dataset_path: json
dataset_kwargs: {data_files: {test: %s}}
test_split: test
output_type: multiple_choice
doc_to_text: "<|endoftext|>{{context}}"
doc_to_choice: "{{choices}}"
doc_to_target: label
target_delimiter: ""
metric_list: [{metric: acc}, {metric: acc_norm}]
"""
ROLLING_TASK = """\
task: stories_rolling
dataset_path: json
dataset_kwargs: {data_files: {test: %s}}
test_split: test
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{text}}"
metric_list: [{metric: word_perplexity}, {metric: byte_perplexity}, {metric: bits_per_byte}]
"""
GENERATE_TASK = """\
task: stories_generate
dataset_path: json
dataset_kwargs: {data_files: {test: %s}}
test_split: test
output_type: generate_until
doc_to_text: "<|endoftext|>{{context}}"
doc_to_target: ""
target_delimiter: ""
generation_kwargs: {until: STOPS, max_gen_toks: MAX_TOKENS, do_sample: false}
metric_list: [{metric: exact_match}]
"""


def main():
    match sys.argv[1:]:
        case ["write", stories, folder]:
            write(pathlib.Path(stories).read_text(), pathlib.Path(folder).resolve())
        case ["compare", folder]:
            compare(pathlib.Path(folder))
        case _:
            sys.exit(__doc__)


def write(text, folder):
    stories = [story.strip() for story in text.split(END) if story.strip()]
    choices = [choice_of(stories, number) for number in range(len(stories))]
    # A word, what the tokenizer has no words for, and more than several contexts.
    rolling = [*stories, "Once", "Zoë dit « naïve » à 日本 🐕.", "\n".join(stories[:5])]
    tasks = folder / "tasks"
    tasks.mkdir(parents=True, exist_ok=True)
    lines(tasks / "choice.jsonl", choices)
    lines(tasks / "rolling.jsonl", [{"text": text} for text in rolling])
    generate = GENERATE_TASK.replace("STOPS", json.dumps(STOPS)).replace("MAX_TOKENS", str(MAX_TOKENS))
    for name, task, data in [
        ("choice", CHOICE_TASK, "choice"),
        ("rolling", ROLLING_TASK, "rolling"),
        ("generate", generate, "choice"),
    ]:
        (tasks / f"{name}.yaml").write_text(task % json.dumps(str(tasks / f"{data}.jsonl")))
    contexts = contexts_of(choices)
    whole = [choice["context"] + answer for choice in choices for answer in choice["choices"]]
    lines(folder / "texts.jsonl", [{"text": text} for text in [*contexts, *whole, *rolling]])
    ask = {"max_new_tokens": MAX_TOKENS, "stop": STOPS}
    lines(folder / "prompts.jsonl", [{"prompt": END + context, **ask} for context in contexts])


def choice_of(stories, number):
    """How a story goes on, among how others do at that place."""
    words = [stories[(number + other) % len(stories)].split(" ") for other in range(N_CHOICES)]
    n_words = CHOICE_WORDS[number % len(CHOICE_WORDS)]
    answers = [" " + " ".join(other[CONTEXT_WORDS:][:n_words]) for other in words]
    label = number % N_CHOICES
    answers[0], answers[label] = answers[label], answers[0]
    return {"context": " ".join(words[0][:CONTEXT_WORDS]), "choices": answers, "label": label}


def lines(path, values):
    path.write_text("".join(json.dumps(value) + "\n" for value in values))


def compare(folder):
    tasks = folder / "tasks"
    choices = read_lines(tasks / "choice.jsonl")
    rolling = [line["text"] for line in read_lines(tasks / "rolling.jsonl")]
    results = json.loads(newest(folder, "results_*.json").read_text())["results"]
    documents = json.loads((folder / "scores.json").read_text())["documents"]
    expected = len(choices) * (1 + N_CHOICES) + len(rolling)
    check("score has each text as one document", len(documents) == expected, len(documents), expected)
    contexts, rest = documents[: len(choices)], documents[len(choices) :]
    whole, rolled = rest[: len(choices) * N_CHOICES], rest[len(choices) * N_CHOICES :]
    compare_choices(folder, results["stories_choice"], choices, contexts, whole)
    compare_rolling(folder, results["stories_rolling"], rolling, rolled)
    compare_generated(folder, choices)


def compare_choices(folder, results, choices, contexts, whole):
    samples = samples_of(folder, "stories_choice")
    check("lm_eval has asked all questions", len(samples) == len(choices), len(samples), len(choices))
    worst, right, right_norm, n_greedy = 0.0, 0, 0, 0
    for number, (choice, context, sample) in enumerate(zip(choices, contexts, samples)):
        behind = len(context["tokens"])
        scored = whole[number * N_CHOICES :][:N_CHOICES]
        own = [sum(document["token_logprobs"][behind:]) for document in scored]
        greedy = [
            all(top[0][0] == token for top, token in zip(document["top"][behind:], document["tokens"][behind:]))
            for document in scored
        ]
        theirs = [float(response[0][0]) for response in sample["resps"]]
        their_greedy = [response[0][1] in (True, "True") for response in sample["resps"]]
        worst = max(worst, *(difference(a, b) for a, b in zip(own, theirs)))
        check(f"question {number}: the same choice", best(own) == best(theirs), own, theirs)
        check(f"question {number}: the same are the likeliest", greedy == their_greedy, greedy, their_greedy)
        norm = [logprob / len(answer) for logprob, answer in zip(own, choice["choices"])]
        right += best(own) == choice["label"]
        right_norm += best(norm) == choice["label"]
        n_greedy += sum(greedy)
    check("log-probabilities of choices", worst <= TOLERANCE, worst, TOLERANCE)
    for name, count in [("acc", right), ("acc_norm", right_norm)]:
        check_close(name, count / len(choices), results[f"{name},none"])
    check("some choices are the likeliest tokens, and most are not", 0 < n_greedy < len(whole) / 2, n_greedy)
    print(f"    {len(choices)} questions, worst relative difference of a choice {worst:.1e}, {n_greedy} greedy")


def compare_rolling(folder, results, texts, documents):
    samples = samples_of(folder, "stories_rolling")
    check("lm_eval has scored all texts", len(samples) == len(texts), len(samples), len(texts))
    own = [document["logprob"] for document in documents]
    theirs = [float(sample["resps"][0][0]) for sample in samples]
    worst = max(difference(a, b) for a, b in zip(own, theirs))
    check("log-probabilities of texts", worst <= TOLERANCE, worst, TOLERANCE)
    check_close("sum of log-probabilities", sum(own), sum(theirs))
    n_bytes = sum(document["n_bytes"] for document in documents)
    given = sum(len(text.encode()) for text in texts)
    check("the bytes are those of the texts", n_bytes == given, n_bytes, given)
    words = sum(len(text.split()) for text in texts)
    bits = -sum(own) / math.log(2) / n_bytes
    check_close("bits per byte", bits, results["bits_per_byte,none"])
    check_close("byte perplexity", 2**bits, results["byte_perplexity,none"])
    check_close("word perplexity", math.exp(-sum(own) / words), results["word_perplexity,none"], 1e-2)
    lengths = [document["n_tokens"] for document in documents]
    print(f"    {len(texts)} texts of {min(lengths)} to {max(lengths)} tokens, worst relative difference {worst:.1e}")


def compare_generated(folder, choices):
    samples = samples_of(folder, "stories_generate")
    texts = [line["text"] for line in read_lines(folder / "generated.jsonl")]
    check("each generated text begins with its prompt", all(map(str.startswith, texts, contexts_of(choices))), texts)
    own = [text.removeprefix(context) for text, context in zip(texts, contexts_of(choices), strict=True)]
    theirs = [sample["resps"][0][0] for sample in samples]
    check(f"{len(own)} generated texts", own == theirs, own, theirs)


def contexts_of(choices):
    return [choice["context"] for choice in choices]


def best(values):
    return values.index(max(values))


def difference(want, got):
    """Relative; infinite where one is no number."""
    error = abs(want - got) / max(abs(want), 1.0)
    return error if error == error else math.inf


def check_close(name, want, got, tolerance=TOLERANCE):
    check(f"{name}: {want:.6g} by gpu-tlm, {got:.6g} by lm_eval", difference(want, got) <= tolerance)


def check(claim, holds, *seen):
    """Says what was found out; single questions only where they fail."""
    if not holds:
        sys.exit(f"FAIL {claim}: {' '.join(map(repr, seen))}")
    if not claim.startswith("question"):
        print(f"ok   {claim}", flush=True)


def samples_of(folder, task):
    samples = read_lines(newest(folder, f"samples_{task}_*.jsonl"))
    return sorted(samples, key=lambda sample: sample["doc_id"])


def newest(folder, pattern):
    found = sorted((folder / "results").rglob(pattern))
    if not found:
        sys.exit(f"{folder}/results has no {pattern}")
    return found[-1]


def read_lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


if __name__ == "__main__":
    main()
