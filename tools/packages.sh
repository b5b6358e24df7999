#!/usr/bin/env bash
# Makes sure that what `make test` or `make lab` needs from Debian is here: installs it when root, otherwise says how.
# Usage: tools/packages.sh PYTHON [test|lab]...
set -euo pipefail

python=${1:?usage: tools/packages.sh PYTHON [test|lab]...}
shift
missing=()

# need PROGRAM PACKAGE: the package, unless the program is here already (root's programs lie in sbin).
need() {
    PATH="$PATH:/usr/sbin:/sbin" command -v "$1" >/dev/null || missing+=("$2")
}

need "$python" python3
"$python" -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
for purpose in "${@:-test}"; do
    case $purpose in
        test)
            need git git
            need systemd-analyze systemd
            ;;
        lab)
            need podman podman
            need runc runc
            need mmdebstrap mmdebstrap
            need iptables iptables
            need ip iproute2
            need ssh openssh-client
            [ -x /usr/lib/podman/netavark ] || [ -x /usr/libexec/podman/netavark ] || missing+=(netavark)
            ;;
        *)
            echo "$0: $purpose? test or lab" >&2
            exit 2
            ;;
    esac
done

[ ${#missing[@]} -eq 0 ] && exit 0
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
    echo "missing: ${missing[*]}; install them: sudo apt-get install --yes ${missing[*]}" >&2
    exit 1
fi
echo "==> installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install --yes -qq --no-install-recommends "${missing[@]}"
