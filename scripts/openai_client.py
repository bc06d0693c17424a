#!/usr/bin/env python3
"""Asks a server by OpenAI's client for all that docs/serve.md says of it.

Usage: openai_client.py ADDRESS KEY
"""

import sys

import openai


def check(claim, holds, seen=None):
    """Says what was found out."""
    print(f"{'ok  ' if holds else 'FAIL'} {claim}", flush=True)
    if not holds:
        sys.exit(f"{claim}: saw {seen!r}")


def refused(client, kind, **fields):
    """The error that a request is refused with."""
    try:
        answer = client.completions.create(**{"model": "stories", "prompt": "Once", **fields})
    except kind as error:
        return error
    sys.exit(f"{fields} was answered: {answer}")


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    address, key = sys.argv[1:]
    client = openai.OpenAI(base_url=f"{address}/v1", api_key=key, max_retries=0)
    names = [model.id for model in client.models.list()]
    check("the model is listed", names == ["stories"], names)
    check("and found", client.models.retrieve("stories").id == "stories")

    ask = {"model": "stories", "prompt": "Once upon", "max_tokens": 12, "seed": 7}
    whole = client.completions.create(**ask)
    text = whole.choices[0].text
    check("a completion has its tokens", whole.usage.completion_tokens <= 12 and text, whole)
    again = client.completions.create(**ask)
    check("a seed gives the same text again", again.choices[0].text == text, again)
    parts = list(client.completions.create(**ask, stream=True, stream_options={"include_usage": True}))
    streamed = "".join(choice.text for part in parts for choice in part.choices)
    check("a stream gives the same text", streamed == text, streamed)
    check("and its usage", parts[-1].usage == whole.usage, parts[-1])
    check("in several parts", len(parts) > 3, len(parts))

    several = client.completions.create(**{**ask, "prompt": ["Once", "One day"]}, n=2)
    indices = [choice.index for choice in several.choices]
    check("two prompts, two samples", indices == [0, 1, 2, 3], indices)
    more = client.completions.create(**ask, extra_body={"top_k": 1, "min_p": 0.1})
    greedy = client.completions.create(**{**ask, "temperature": 0})
    check("top_k 1 is greedy", more.choices[0].text == greedy.choices[0].text, more)

    scored = client.completions.create(**{**ask, "max_tokens": 0}, echo=True, logprobs=2)
    logprobs = scored.choices[0].logprobs
    check("an echo is the prompt", scored.choices[0].text == "Once upon", scored)
    check("its first token follows nothing", logprobs.token_logprobs[0] is None, logprobs)
    check("the others have log-probabilities", all(p <= 0 for p in logprobs.token_logprobs[1:]), logprobs)
    check("and their likeliest", all(len(top) >= 2 for top in logprobs.top_logprobs[1:]), logprobs)

    error = refused(client, openai.BadRequestError, logit_bias={"5": 1})
    check("an unsupported field is named", error.param == "logit_bias", error)
    error = refused(client, openai.BadRequestError, max_tokens=100000)
    check("a context that is too short is said", error.code == "context_length_exceeded", error)
    error = refused(client, openai.NotFoundError, model="other")
    check("another model is not found", error.code == "model_not_found", error)
    stranger = openai.OpenAI(base_url=f"{address}/v1", api_key="wrong", max_retries=0)
    error = refused(stranger, openai.AuthenticationError)
    check("another key is refused", error.code == "invalid_api_key", error)


if __name__ == "__main__":
    main()
