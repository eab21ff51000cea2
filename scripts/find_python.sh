#!/usr/bin/env bash
# Prints the first Python that this project runs on and that really runs here. A version manager's shim may exist and
# fail, and a distribution's Python may lack venv, so each candidate is asked rather than looked up.
set -u

check='import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))'
for candidate in python3.11 python3.12 python3.13 python3 python; do
  if "$candidate" -c "$check" >/dev/null 2>&1; then
    command -v "$candidate"
    exit 0
  fi
done
echo "poet-planner needs Python 3.11, 3.12 or 3.13 with its venv module: install one, or name one with 'make PYTHON=/path/to/python3.11'." >&2
exit 1
