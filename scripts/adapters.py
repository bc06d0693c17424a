"""Writes the table of adapters from the JSON pages beside it, or says that it is stale.

Usage: adapters.py FOLDER [--check]
"""

import json
import os
import sys

HEAD = """# Adapters

Written by `make adapters` from the JSON files in this folder, one an adapter. `gpu-tlm bench all` measures and writes such a file; where figures come from elsewhere, the page's notes say so. Each page says what was not measured, and why.
[CONTRIBUTING.md](../../CONTRIBUTING.md#measurements-on-your-adapter) tells how to add one.

| adapter | driver | system | gpu-tlm | date | check | multiply-add, GFLOP/s | copy, GB/s |
|---|---|---|---|---|---|---|---|
"""

SPEED = """
Tokens a second in training (models S, M and G) and in generation (S and M), and the fastest of the matrix products.

| adapter | precision | train S | train M | train G | generate S | generate M | product, GFLOP/s | its shape |
|---|---|---|---|---|---|---|---|---|
"""

REMEDY = "`make adapters` writes it anew"


def escape(text):
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def number(value, digits=0):
    return "-" if value is None else f"{value:,.{digits}f}"


def load(folder):
    names = sorted(name for name in os.listdir(folder) if name.endswith(".json"))
    pages = []
    for name in names:
        with open(os.path.join(folder, name), encoding="utf-8") as file:
            pages.append((name.removesuffix(".json"), json.load(file)))
    return pages


def link(slug, page):
    return f"[{escape(page['adapter'])}]({slug}.md)"


def checked(check):
    if check["status"] != "measured":
        return check["status"]
    ran = check["passed"] + check["failed"]
    verdict = "FAIL" if check["failed"] else "part of it" if check["left_out"] else "PASS"
    return f"{verdict}, {check['passed']:,} of {ran:,}"


def overview(slug, page):
    ceilings = page["ceilings"]
    return (
        f"| {link(slug, page)} | {escape(page['driver'])} ({page['backend']}) | {escape(page['system'])} "
        f"| {page['version']} | {page['date']} | {checked(page['check'])} "
        f"| {number(ceilings.get('fma_gflops'))} | {number(ceilings.get('copy_gb_per_s'))} |\n"
    )


def precisions(page):
    """Those in which anything was measured, in the order of the page."""
    entries = page["training"] + page["generation"] + page["products"]
    return list(dict.fromkeys(e["precision"] for e in entries if e["status"] == "measured"))


def speed(slug, page, precision):
    def tokens(part, model):
        found = [e for e in page[part] if (e["name"], e["precision"]) == (model, precision)]
        return number(found[0].get("tokens_per_s") if found else None)

    best = (None, "-")
    for entry in page["products"]:
        if entry["precision"] == precision:
            for row in entry.get("kernels", []):
                if row["gflops"] is not None and (best[0] is None or row["gflops"] > best[0]):
                    best = (row["gflops"], entry["name"])
    return (
        f"| {link(slug, page)} | {precision} | {tokens('training', 'S')} | {tokens('training', 'M')} "
        f"| {tokens('training', 'G')} | {tokens('generation', 'S')} | {tokens('generation', 'M')} "
        f"| {number(best[0])} | {best[1]} |\n"
    )


def table(folder):
    pages = load(folder)
    rows = [speed(slug, page, precision) for slug, page in pages for precision in precisions(page)]
    return HEAD + "".join(overview(*page) for page in pages) + SPEED + "".join(rows)


def main(folder, *flags):
    path, text = os.path.join(folder, "README.md"), table(folder)
    if "--check" in flags:
        with open(path, encoding="utf-8") as file:
            if file.read() != text:
                sys.exit(f"{path} is not what the JSON pages say; {REMEDY}")
        return
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


if __name__ == "__main__":
    main(*sys.argv[1:])
