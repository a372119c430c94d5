"""Judge the rules: ``python -m grafana.rules.analysis`` prints the tables of runbook.md."""

from __future__ import annotations

import argparse

from grafana.rules.analysis.judge import KINDS, run, table


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(prog="python -m grafana.rules.analysis", description=__doc__)
    parser.add_argument("--calm", type=int, default=120, help="calm account-months")
    parser.add_argument("--incidents", type=int, default=30, help="of each kind")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kind", action="append", choices=KINDS, help="only this kind; may be repeated")
    args = parser.parse_args()
    report = run(calm=args.calm, incidents=args.incidents, seed=args.seed, kinds=args.kind or KINDS)
    print(table(report))
    for (kind, name), tally in report.kinds.items():
        if name == "shipped" and tally.missed:
            print(f"missed: {kind}: seeds {tally.missed}")


if __name__ == "__main__":
    main()
