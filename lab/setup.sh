#!/bin/sh
# Installs what the project needs on this machine: `setup.sh run` for the demo, `setup.sh dev` for the tests,
# `setup.sh bench` for the measurements.
# Does nothing, and fast, where all of it is there. Everything long is written to a log and shows that it goes on.
set -eu
umask 022  # the lab's guest reads the project as an unprivileged user

what=${1:-run}
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
cd "$root"
unset PYTHONHOME PYTHONPATH
log=$root/.venv.log
python=/usr/bin/python3  # not the first on PATH: one below /root could not be started by the lab's guest

packages="python3-venv redis-server ipvsadm iptables kmod iproute2 curl user-mode-linux"
requirements="requirements.txt"
if [ "$what" = dev ]; then
    packages="$packages chromium fonts-liberation procps postgresql keepalived"
    packages="$packages slapd gcc libc6-dev python3-dev libldap-dev libsasl2-dev"
    requirements="requirements-dev.txt"
elif [ "$what" = bench ]; then
    packages="$packages gcc libc6-dev keepalived"
    what=run
fi

main() {
    case $root in
        *[!A-Za-z0-9/._,+=@~\ -]*) fail "The path $root has letters that sockets and addresses cannot carry. \
Clone the project to a path of plain letters, digits and -_.,+=@~" ;;
    esac
    # One at a time in a clone. The lock is on this very file, and so leaves none behind.
    exec 9<"lab/setup.sh"
    flock -n 9 || { say "waiting for another set-up of this folder"; flock 9; }
    if [ -n "$(missing_packages)" ]; then install_packages; fi
    if ! is_venv_ready; then make_venv; fi
}

install_packages() {
    if ! command -v apt-get >/dev/null; then
        fail "This is no Debian. Install what these packages hold by your own means:$(missing_packages)"
    fi
    if [ "$(id -u)" != 0 ]; then
        fail "Debian packages are missing. Run: sudo apt-get install --no-install-recommends$(missing_packages)"
    fi
    # One at a time on a machine: apt-get update has no lock that can be waited for.
    exec 8</etc/debian_version
    flock -n 8 || { say "waiting for another set-up of this machine"; flock 8; }
    missing=$(missing_packages)
    if [ -z "$missing" ]; then return; fi

    # Packages ask these to start their services, and to make a first cluster of PostgreSQL; here nobody listens,
    # so that no server of the machine's own takes a port. Nothing of the machine's own policy is touched, and there is nothing to put back.
    deaf=$(mktemp -d)
    for name in invoke-rc.d deb-systemd-invoke pg_createcluster; do
        printf '#!/bin/sh\nexit 0\n' >"$deaf/$name"
        chmod 755 "$deaf/$name"
    done
    apt="apt-get --yes --quiet -o DPkg::Lock::Timeout=900 -o Acquire::Retries=3"
    export DEBIAN_FRONTEND=noninteractive
    if [ -z "$(find /var/lib/apt/lists -name '*_Packages*' -mtime -1 2>/dev/null | head -n 1)" ]; then
        step "reading Debian's package lists" $apt update || say "going on with the old lists"
    fi
    had_redis=$(command -v redis-server || true)
    set -- $apt -o "DPkg::Path=$deaf:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" \
        install --no-install-recommends $missing
    if ! step "installing Debian packages:$missing" "$@"; then
        step "reading Debian's package lists" $apt update || true
        step "installing Debian packages once more" "$@" || {
            rm -rf "$deaf"
            fail "The Debian packages could not be installed; the end of $log is above. \
Run this to see why, then try again: apt-get install --no-install-recommends$missing"
        }
    fi
    rm -rf "$deaf"
    if [ -z "$had_redis" ] && command -v systemctl >/dev/null; then
        systemctl disable --quiet redis-server >/dev/null 2>&1 || true  # nor at the next boot
    fi
    exec 8<&-
}

missing_packages() {
    if command -v dpkg-query >/dev/null; then
        for name in $packages; do
            case $(dpkg-query --show --showformat='${db:Status-Status}' "$name" 2>/dev/null || true) in
                installed) ;;
                *) printf ' %s' "$name" ;;
            esac
        done
    else
        for name in python3 redis-server; do
            command -v "$name" >/dev/null || printf ' %s' "$name"
        done
    fi
}

# Of the folder too: a virtual environment that was moved with it no longer works.
stamp() {
    { cat requirements-director.txt requirements.txt; [ "$1" = run ] || cat requirements-ldap.txt requirements-dev.txt
      echo "$root"; "$python" --version; } | sha256sum | cut -d ' ' -f 1
}

is_venv_ready() {
    [ "$(cat ".venv/installed-$what" 2>/dev/null)" = "$(stamp "$what")" ] &&
        [ "$(.venv/bin/python -c 'import sys; print(sys.base_prefix)' 2>/dev/null)" = /usr ]
}

make_venv() {
    # One that was interrupted, is broken, or was made with another Python is not mended but made anew.
    if [ -e .venv/unfinished ] || ! .venv/bin/python -c 'import sys, pip; sys.exit(sys.base_prefix != "/usr")' \
        2>/dev/null; then
        rm -rf .venv
        step "making the virtual environment .venv" "$python" -m venv .venv ||
            fail "The virtual environment could not be made. Run: apt-get install python3-venv"
    fi
    touch .venv/unfinished
    rm -f .venv/installed-run .venv/installed-dev
    step "installing Python packages from $requirements" \
        .venv/bin/python -m pip install --no-input --disable-pip-version-check --progress-bar off \
        -r "$requirements" ||
        fail "The Python packages could not be installed; the end of $log is above. Is the package index reachable? \
Try again with: make ${MAKECMDGOALS:-demo}"
    stamp run >.venv/installed-run
    if [ "$what" = dev ]; then stamp dev >.venv/installed-dev; fi
    rm -f .venv/unfinished
}

# step TEXT COMMAND...: run it with its words in the log, and say every ten seconds that it goes on.
step() {
    text=$1
    shift
    say "$text ..."
    began=$(date +%s)
    "$@" >"$log" 2>&1 8<&- 9<&- </dev/null &
    job=$!
    seconds=0
    while kill -0 "$job" 2>/dev/null; do
        sleep 0.2
        now=$(($(date +%s) - began))
        if [ "$((now / 10))" -gt "$((seconds / 10))" ]; then
            say "  ... $now s: $(tail -n 1 "$log" | tr -d '\r' | cut -c 1-100)"
        fi
        seconds=$now
    done
    code=0
    wait "$job" || code=$?
    job=
    if [ "$code" = 0 ]; then
        say "$text: done in $seconds s"
        rm -f "$log"
    else
        tail -n 15 "$log" >&2
        say "$text: failed after $seconds s"
    fi
    return "$code"
}

say() {
    printf 'setup: %s\n' "$*"
}

fail() {
    printf 'setup: %s\n' "$*" >&2
    exit 1
}

# A shell's background job does not hear Ctrl+C by itself.
job=
deaf=
stop() {
    if [ -n "$job" ]; then kill "$job" 2>/dev/null || true; wait "$job" 2>/dev/null || true; fi
    if [ -n "$deaf" ]; then rm -rf "$deaf"; fi
    exit 130
}
trap stop INT TERM HUP

main
