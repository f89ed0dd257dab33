#!/usr/bin/env bash
# Runs a command in a network namespace of its own, which holds the loopback address and nothing else: whatever it
# listens on, no other machine can reach it, and it can reach no other machine.
#   in_namespace.sh COMMAND [ARGUMENT ...]
# Files, the user and the process id stay those of the caller.
set -euo pipefail
if [[ "${1:-}" == "--inside" ]]; then
    shift
    ip link set lo up
    exec "$@"
fi
[[ $# -gt 0 ]] || { sed -n '2,5s/^# \{0,1\}//p' "$0" >&2; exit 2; }
here="$(readlink -f "${BASH_SOURCE[0]}")"
for kind in "--net" "--net --user --map-root-user"; do # the second is for people who are not root
    # shellcheck disable=SC2086
    if unshare $kind true 2>/dev/null; then
        # shellcheck disable=SC2086
        exec unshare $kind "$here" --inside "$@"
    fi
done
echo "in_namespace.sh: this system allows no network namespaces (unshare --net --user --map-root-user failed). On" >&2
echo "Ubuntu: sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0; in Docker: --security-opt seccomp=unconfined" >&2
exit 125
