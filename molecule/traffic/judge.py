"""Says whether services under load lost a message, ran one twice or failed a call, out of the records of all machines.

    judge.py DIRECTORY

Records are named NODE-casts-listen and so on. Machines that are containers of one kernel share its monotonic clock.
"""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "soak"))

import records

TIMEOUT = 10.0


def main() -> None:
    place = Path(sys.argv[1])
    casts = records.judge_casts(records.read(sorted(place.glob("*-casts-*"))))
    calls = records.judge_calls(records.read(sorted(place.glob("*-calls-*"))), TIMEOUT)
    casts.require(not casts.figures["raised"], f"{casts.figures['raised']} casts raised")
    failed = calls.figures["begun"] - calls.figures["replied"]
    calls.require(not failed, f"{failed} calls failed")
    print(json.dumps({"casts": casts.figures, "calls": calls.figures}, indent=2))
    broken = [*casts.broken, *calls.broken]
    if broken:
        sys.exit("\n".join(broken))


if __name__ == "__main__":
    main()
