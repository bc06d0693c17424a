"""Compares the losses of two runs, iteration by iteration.

    compare_losses.py OURS.jsonl THEIRS.jsonl [--first 1e-5] [--all 1e-3]

OURS is the metrics.jsonl of a gpu-tlm run, THEIRS the output of train.py. Prints the
worst relative difference and its iteration; exits with 1 where one is over its limit.
"""

import argparse
import json
import sys

FIRST_ITERATIONS = 10


def read_losses(path):
    """Iteration -> loss, from the lines that are training steps; a later line for an iteration replaces an earlier."""
    losses = {}
    with open(path) as file:
        for line in file:
            record = json.loads(line)
            if record.get("kind", "train") == "train":
                # A loss that is not a number is written as null, and must not pass.
                loss = record["loss"]
                losses[record["iteration"]] = float("nan") if loss is None else float(loss)
    return losses


def worst_difference(ours, theirs, iterations):
    """The largest relative difference and its iteration; a NaN counts as infinite."""
    worst, where = -1.0, None
    for iteration in iterations:
        relative = abs(ours[iteration] - theirs[iteration]) / abs(theirs[iteration])
        if not relative <= worst:
            worst, where = (relative if relative >= 0 else float("inf")), iteration
    return worst, where


def report(label, ours, theirs, iterations, limit):
    """Prints one line; returns whether the difference is within the limit."""
    if not iterations:
        print(f"{label}: no iteration is in both files")
        return False
    worst, where = worst_difference(ours, theirs, iterations)
    passed = worst <= limit
    print(f"{label} ({len(iterations)} compared): worst relative difference {worst:.3e} at iteration {where} "
          f"(ours {ours[where]!r}, theirs {theirs[where]!r}), limit {limit:g}: {'ok' if passed else 'TOO LARGE'}")
    return passed


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ours")
    parser.add_argument("theirs")
    parser.add_argument("--first", type=float, default=1e-5, help=f"limit for the first {FIRST_ITERATIONS} iterations")
    parser.add_argument("--all", type=float, default=1e-3, help="limit for every iteration")
    arguments = parser.parse_args()
    ours, theirs = read_losses(arguments.ours), read_losses(arguments.theirs)
    print(f"ours: {len(ours)} iterations in {arguments.ours}; theirs: {len(theirs)} in {arguments.theirs}")
    common = sorted(ours.keys() & theirs.keys())
    first = [iteration for iteration in common if iteration < FIRST_ITERATIONS]
    passed = [
        report(f"first {FIRST_ITERATIONS}", ours, theirs, first, arguments.first),
        report("all", ours, theirs, common, arguments.all),
    ]
    sys.exit(0 if all(passed) else 1)


if __name__ == "__main__":
    main()
