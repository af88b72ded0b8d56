"""Change the core in a sample of places and count the changes that the tests notice.

    python .ci/mutants.py --sample 40 --seed 1 --least 0.95

cargo-mutants makes the changes (https://mutants.rs). A sample, drawn from a seed, bounds the time:
each mutant is a build and a run of the tests. A change that does not compile is no mutant; one
whose tests do not end is noticed.
"""

import argparse
import json
import random
import re
import subprocess
import sys
from pathlib import Path

OUT = Path("target/mutants")
COMMAND = ["cargo", "mutants", "--features", "sqlite", "--exclude", "src/python/**"]


def main() -> None:
    """Test a sample of the mutants. Exits with 1 if fewer than the least share are noticed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sample", type=int, default=40, help="how many mutants")
    parser.add_argument("--seed", type=int, default=1, help="which ones")
    parser.add_argument("--least", type=float, default=0.95, help="the share that must be noticed")
    options = parser.parse_args()

    listed = subprocess.check_output([*COMMAND, "--list", "--json"], text=True)
    names = sorted(mutant["name"] for mutant in json.loads(listed))
    sample = random.Random(options.seed).sample(names, min(options.sample, len(names)))
    print(f"{len(sample)} of {len(names)} mutants, seed {options.seed}", flush=True)

    OUT.mkdir(parents=True, exist_ok=True)
    chosen = [argument for name in sample for argument in ("--re", f"^{re.escape(name)}$")]
    limits = ["--timeout", "600", "--output", str(OUT), "--no-shuffle", "--colors", "never"]
    # It exits with 2 if a mutant is missed; other failures write no outcomes.
    subprocess.run([*COMMAND, *limits, *chosen], check=False)
    outcomes = json.loads((OUT / "mutants.out/outcomes.json").read_text())

    noticed = outcomes["caught"] + outcomes["timeout"]
    viable = noticed + outcomes["missed"]
    if not viable:
        sys.exit("no mutant of the sample compiles")
    print(f"noticed: {noticed} of {viable}; {outcomes['unviable']} did not compile")
    for outcome in outcomes["outcomes"]:
        if outcome["summary"] == "MissedMutant":
            print("missed:", outcome["scenario"]["Mutant"]["name"])
    if noticed < options.least * viable:
        sys.exit(f"fewer than {options.least:.0%} were noticed")


main()
