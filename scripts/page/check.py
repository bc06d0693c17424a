#!/usr/bin/env python3
"""Uses the page of `gpu-tlm serve` in a headless Chromium, with keys and mouse, and takes pictures.

Usage: check.py PROGRAM RUN FOLDER
where RUN is the folder of a training run, and FOLDER takes the pictures. Exits 0 if all went well.
"""

import pathlib
import subprocess
import sys
import tempfile

from chromium import Chromium

KEY = "a-key-for-this-test"
FOCUSED = "document.activeElement"
TEXT = "document.getElementById('text').innerText"
STATUS = "document.getElementById('status').textContent"
TOKENS = "document.querySelectorAll('#text .token').length"
LOOK = "document.getElementById('look').textContent"
SEEN = "!document.getElementById('attention-seen').hidden && document.getElementById('picture').width > 0"
PIXELS = "document.getElementById('picture').toDataURL()"
# Different colours of the picture, and pixels that are painted above its diagonal.
COLOURS = """(canvas => {
    const { width, height } = canvas;
    const pixels = new Uint32Array(canvas.getContext('2d').getImageData(0, 0, width, height).data.buffer);
    const above = pixels.filter((pixel, i) => pixel !== 0 && i % width > Math.floor(i / width) + width / 10);
    return { shades: new Set(pixels).size, above: above.length };
})(document.getElementById('picture'))"""
IS_DONE = "document.getElementById('stop').disabled"
# Tokens that a text has at least, to be looked at.
LEAST = 14


class Server:
    """A server on a free port."""

    def __init__(self, program, run, *more):
        run = pathlib.Path(run)
        self.process = subprocess.Popen(
            [program, "serve", "--port", "0", "--no-tune",
             "--checkpoint", run / "checkpoints/latest.safetensors",
             "--tokenizer", run / "tokenizer", "--model-name", "stories", *more],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.url = self.process.stdout.readline().strip()
        if not self.url:
            sys.exit(self.process.stderr.read())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.communicate(timeout=60)


def check(claim, holds, seen=None):
    """Says what was found out."""
    print(f"{'ok  ' if holds else 'FAIL'} {claim}", flush=True)
    if not holds:
        sys.exit(f"{claim}: saw {seen!r}")


def tab_to(page, expression, most=30):
    """Presses Tab until what has the focus fulfils an expression."""
    for _ in range(most):
        if page.value(expression):
            return
        page.press("Tab")
    sys.exit(f"not reached by Tab: {expression}")


def generate(page, begin):
    """Generates by what a person does for it; again where chance ends the text after a few tokens."""
    for _ in range(9):
        begin()
        page.wait(IS_DONE)
        if page.value(TOKENS) >= LEAST:
            return
    sys.exit(f"no text had {LEAST} tokens: {page.value(STATUS)}")


def generate_by_keys(page):
    tab_to(page, f"{FOCUSED}.id === 'prompt'")
    page.press("a", control=True)
    page.ask("Input.dispatchKeyEvent", type="rawKeyDown", key="a", code="KeyA", modifiers=2,
             commands=["selectAll"])
    page.type("One day")
    generate(page, lambda: page.press("Enter", control=True))
    text = page.value(TEXT)
    check("the text follows the prompt", text.startswith("One day") and len(text) > 20, text)
    check("the speed is shown", "tokens/s" in page.value(STATUS), page.value(STATUS))
    shares = page.value("[...document.querySelectorAll('#text .token')]"
                        ".map(e => Number(e.style.getPropertyValue('--p')))")
    check("each token has its probability", all(0 <= p <= 1 for p in shares) and max(shares) > 0, shares)
    colours = page.value("new Set([...document.querySelectorAll('#text .token')]"
                         ".map(e => getComputedStyle(e).backgroundColor)).size")
    check("tokens have colours of their own", colours > 1, colours)


def look_at_tokens(page):
    tab_to(page, f"{FOCUSED}.className.includes('token')")
    check("Tab reaches the tokens", not page.value("document.getElementById('token').hidden"))
    for _ in range(3):
        page.press("ArrowRight")
    place = f"[...document.querySelectorAll('#text .token')].indexOf({FOCUSED})"
    check("the arrow keys move between them", page.value(place) == 3, page.value(place))
    rows = page.value("[...document.querySelectorAll('#likeliest tr')].map(r => r.innerText)")
    check("the likeliest tokens are listed", 8 <= len(rows) <= 9, rows)
    check("the one that was drawn is marked", sum("(drawn)" in row for row in rows) == 1, rows)
    page.point("#text .token:nth-of-type(8)")
    shown = "[...document.querySelectorAll('#text .token')].findIndex(e => e.matches('.shown'))"
    check("pointing at a token shows it", page.value(shown) == 6, page.value(shown))


def look_at_attention(page):
    tab_to(page, f"{FOCUSED}.matches('#attention summary')")
    page.press("Enter")
    page.ask("Input.dispatchKeyEvent", type="char", text="\r", key="Enter")
    page.wait(SEEN)
    sizes = page.value("[document.getElementById('layer').length, document.getElementById('head').length]")
    check("every layer and head can be chosen", sizes == [2, 2], sizes)
    check("a token looks at another", ": " in page.value(LOOK) and "looks at" in page.value(LOOK), page.value(LOOK))
    weights = page.value("[...document.querySelectorAll('#keys .share')].map(e => parseFloat(e.textContent))")
    check("the strongest come first", 
          weights == sorted(weights, reverse=True) and len(weights) == 8 and weights[0] > weights[7], weights)
    colours = page.value(COLOURS)
    check("the picture has shades and an empty half", colours["shades"] > 4 and colours["above"] == 0, colours)

    tab_to(page, f"{FOCUSED}.id === 'picture-frame'")
    page.press("Home")
    first = page.value(LOOK)
    check("Home goes to the first token", "looks at “One” (1)" in first or "(1):" in first, first)
    page.press("ArrowRight")
    check("an arrow key goes to the next", "(2):" in page.value(LOOK), page.value(LOOK))
    row = page.value(LOOK).split(" looks at ")[0]
    page.press("ArrowUp")
    check("and to the row above", page.value(LOOK).split(" looks at ")[0] != row, page.value(LOOK))
    page.press("End")
    ends = page.value(LOOK).replace(":", "").split()
    check("no token looks at a later one", ends[ends.index("looks") - 1] == ends[-3], ends)

    # Line ends and parts of characters have other names than texts. The prompt is the first of the spans.
    texts = page.value("[...document.querySelectorAll('#text .token')].map(e => e.textContent)")
    place = next(i for i, text in enumerate(texts) if i > 2 and text.isascii() and text.strip().isalpha())
    page.point(f"#text .token:nth-of-type({place + 2})")
    shown = page.value("document.getElementById('keys-title').textContent")
    check("pointing at a token of the text marks its row",
          shown.startswith(f"“{texts[place].replace(' ', '␣')}”"), [texts[place], shown])
    before = page.value(LOOK)
    page.point("#picture")
    check("pointing at the picture says what is there", page.value(LOOK) != before, before)

    before = page.value(PIXELS)
    page.value("(e => { e.value = 1; e.dispatchEvent(new Event('change')) })(document.getElementById('head'))")
    page.wait("document.getElementById('picture').ariaBusy === 'false'")
    check("another head has another picture", page.value(PIXELS) != before)


def use_sliders(page):
    for slider in ["temperature", "top-p", "top-k", "length"]:
        page.value(f"document.getElementById('{slider}').focus()")
        before = page.value(f"document.querySelector('output[for={slider}]').textContent")
        page.press("ArrowLeft" if slider != "top-k" else "ArrowRight")
        after = page.value(f"document.querySelector('output[for={slider}]').textContent")
        check(f"the keys move {slider}", before != after, [before, after])


def slide(page, slider, value):
    page.value(f"(e => {{ e.value = {value}; e.dispatchEvent(new Event('input', {{ bubbles: true }})) }})"
               f"(document.getElementById('{slider}'))")


def stop_half_way(page, way):
    slide(page, "length", 120)
    for _ in range(9):
        page.point("#generate", click=True)
        page.wait(f"{TOKENS} > 2 || {IS_DONE}")
        # Chance may have ended it before.
        way()
        page.wait(IS_DONE)
        if "ended by itself" not in page.value(STATUS):
            break
    check("the text stops half-way", "stopped after" in page.value(STATUS), page.value(STATUS))
    check("fewer tokens came", page.value(TOKENS) < 120, page.value(TOKENS))
    page.wait("fetch('api/info').then(r => r.json()).then(i => i.active === 0)")
    check("the server stops too", True)


def meet_an_error(page):
    page.value("document.getElementById('prompt').value = 'word '.repeat(500)")
    page.point("#generate", click=True)
    error = "document.getElementById('error').textContent"
    page.wait(f"{error} !== ''")
    check("a prompt that is too long is said", "context" in page.value(error), page.value(error))
    # That the browser logs the status is no complaint.
    page.complaints = [text for text in page.complaints if "400" not in text]
    page.value("document.getElementById('prompt').value = 'Once upon a time'")
    slide(page, "length", 70)


def take_pictures(page, folder):
    for slider, value in [("temperature", 0.9), ("top-p", 1), ("top-k", 0)]:
        slide(page, slider, value)
    generate(page, lambda: page.point("#generate", click=True))
    page.wait(SEEN)
    page.point("#text .token:nth-of-type(12)", click=True)
    for name, width, height in [("desktop", 1280, 800), ("phone", 360, 740)]:
        for dark in [False, True]:
            page.shape(width, height, dark)
            page.wait("true")
            wide = page.value("document.documentElement.scrollWidth")
            check(f"nothing is cut at {width} pixels", wide <= width, wide)
            path = folder / f"{name}-{'dark' if dark else 'light'}.png"
            page.picture(path)
            print(f"     {path}")
    small = page.value("[...document.querySelectorAll('button, input, select, summary')].filter(e => e.offsetParent)"
                       ".filter(e => e.getBoundingClientRect().height < 24).map(e => e.id)")
    check("what is touched is large enough", small == [], small)


def give_the_key(page, url, folder):
    page.shape(360, 740, False)
    page.open(url)
    page.wait("!document.getElementById('key-form')?.hidden && document.activeElement?.id === 'key'")
    check("a page without a key asks for it", page.value("document.getElementById('main').hidden"))
    page.picture(folder / "key.png")
    page.type("wrong")
    page.press("Enter")
    page.ask("Input.dispatchKeyEvent", type="char", text="\r")
    page.wait("document.getElementById('key-error').textContent.includes('wrong')")
    check("a wrong key is said", True)
    page.value("document.getElementById('key').value = ''")
    page.type(KEY)
    page.ask("Input.dispatchKeyEvent", type="char", text="\r")
    page.wait("document.getElementById('model').textContent === 'stories'")
    generate(page, lambda: page.point("#generate", click=True))
    check("with the key it generates", True)
    page.complaints = [text for text in page.complaints if "401" not in text]


def main():
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    program, run, folder = sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3])
    page = Chromium()
    try:
        with Server(program, run) as server:
            page.shape(1280, 800, False)
            page.open(server.url)
            page.wait("document.getElementById('model')?.textContent === 'stories'")
            state = page.value("document.getElementById('state').innerText")
            check("the model's state is shown", "Adapter" in state and "Vocabulary" in state, state)
            generate_by_keys(page)
            look_at_tokens(page)
            look_at_attention(page)
            use_sliders(page)
            stop_half_way(page, lambda: page.press("Escape"))
            stop_half_way(page, lambda: page.point("#stop", click=True))
            meet_an_error(page)
            take_pictures(page, folder)
            elsewhere = [u for u in page.requests if not u.startswith((server.url, "about:"))]
            check("nothing is asked of anyone else", elsewhere == [], elsewhere)
        with tempfile.NamedTemporaryFile("w", suffix=".key") as file:
            file.write(KEY)
            file.flush()
            with Server(program, run, "--api-key-file", file.name) as server:
                give_the_key(page, server.url, folder)
        check("the browser complained of nothing", page.complaints == [], page.complaints)
    finally:
        page.close()


if __name__ == "__main__":
    main()
