"""Counts what the Autobahn suite says, and exits with 1 when a case failed.

Strict is what the suite calls OK. The service closes with 4400 (docs/protocol.md) where RFC 6455 has 1002 and 1007, which
the suite calls a wrong code: such a case passes, and is counted apart, if one of those was expected and 4400 came. Cases with
messages above the limit of a frame are not run (cases.json), nor those of compression that take longest.
"""

import collections
import json
import os
import sys

folder = os.path.dirname(sys.argv[1])
with open(sys.argv[1]) as index:
    cases = json.load(index)["restante"]


def judge(case):
    words = {case["behavior"], case["behaviorClose"]}
    if words == {"OK"}:
        return "strict"
    if words <= {"OK", "NON-STRICT", "INFORMATIONAL"}:
        return "not strict, or for information"
    with open(os.path.join(folder, case["reportfile"])) as report:
        expected = set(json.load(report)["expectedClose"]["closeCode"])
    if case["behaviorClose"] == "WRONG CODE" and case["remoteCloseCode"] == 4400 and expected and expected <= {1002, 1007}:
        return "refused, with 4400 for 1002 or 1007"
    return "failed"


verdicts = {name: judge(case) for name, case in cases.items()}
for verdict, count in collections.Counter(verdicts.values()).most_common():
    print(f"{count:5}  {verdict}")
failed = sorted(name for name, verdict in verdicts.items() if verdict == "failed")
print(f"{len(cases) - len(failed)} of {len(cases)} cases pass" + (f"; not: {', '.join(failed)}" if failed else ""))
sys.exit(1 if failed else 0)
