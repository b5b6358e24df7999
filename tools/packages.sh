#!/usr/bin/env bash
# Makes sure that what `make test` needs from Debian is here: installs it when root, otherwise says how.
# Usage: tools/packages.sh PYTHON
set -euo pipefail

python=${1:?usage: tools/packages.sh PYTHON}
missing=()
command -v git >/dev/null || missing+=(git)
command -v "$python" >/dev/null || missing+=(python3)
command -v systemd-analyze >/dev/null || missing+=(systemd)
"$python" -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)

[ ${#missing[@]} -eq 0 ] && exit 0
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
    echo "missing: ${missing[*]}; install them: sudo apt-get install --yes ${missing[*]}" >&2
    exit 1
fi
echo "==> installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install --yes -qq --no-install-recommends "${missing[@]}"
