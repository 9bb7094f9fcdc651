#!/usr/bin/env bash
# Installs what the test cluster needs beside Rust and Go: the one place that names the packages. Needs root and apt.
set -euo pipefail

packages=(
    # level one
    etcd-server
    # level two: containers and their network
    containerd
    runc
    containernetworking-plugins
    iproute2
    iptables
    nftables
    # level two: programs for images
    busybox
    catatonit
    # the alerts' tests: promtool
    prometheus
)

missing=()
for package in "${packages[@]}"; do
    if [[ $(dpkg-query --show --showformat '${db:Status-Status}' "$package" 2>/dev/null) != installed ]]; then
        missing+=("$package")
    fi
done
if ((${#missing[@]} == 0)); then
    exit 0
fi

printf 'installing %s\n' "${missing[*]}"
# Packages that bring a service must not start it here: only the harness starts what it then ends.
policy=/usr/sbin/policy-rc.d
if [[ ! -e $policy ]]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
    trap 'rm --force "$policy"' EXIT
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update --quiet=2
apt-get install --yes --quiet=2 --no-install-recommends "${missing[@]}" >/dev/null
