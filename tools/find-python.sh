#!/bin/sh
# Prints the Python interpreter to use: the system's own if it is new enough, else the newest versioned one.
set -u

for candidate in python3 python3.13 python3.12 python3.11 python3.14; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
        command -v "$candidate"
        exit 0
    fi
done
echo "nodeseal: no Python 3.11 or newer found; install one (apt-get install python3) or say make PYTHON=/path/to/python" >&2
exit 1
