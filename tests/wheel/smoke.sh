#!/bin/sh
# Runs on a machine that has Python and nothing else: installs a wheel, then uses it.
#
#     smoke.sh PYTHON WHEEL
set -eu
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
cd "$work"
"$1" -m venv venv
venv/bin/python -m pip install --quiet --no-index "$2"

venv/bin/treadle --version
venv/bin/treadle demo | tail -n 3

if venv/bin/python "$here/orders.py" sqlite:///orders.db 2>/dev/null; then
    echo 'the process was not killed' >&2
    exit 1
fi
[ -e killed ]
result=$(venv/bin/python "$here/orders.py" sqlite:///orders.db)
[ "$result" = '(7, 1)' ] || { echo "the run returned $result" >&2; exit 1; }
echo "after kill -9: $result"

venv/bin/python - <<'PYTHON'
import subprocess
import sys
import time


def seconds(code):
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.perf_counter() - started


# The shortest of several: whatever else the machine does makes it longer.
bare, whole = (min(seconds(code) for _ in range(9)) for code in ("pass", "import treadle"))
print(f"import treadle: {1000 * (whole - bare):.0f} ms")
PYTHON
rm -rf "$work"
