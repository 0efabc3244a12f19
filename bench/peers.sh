#!/bin/bash
# Installs the peers that kiseki-bench compares with, and the programs it runs, from Debian or Ubuntu.
set -euo pipefail
missing=()
for package in gocryptfs bindfs fuse3 git postgresql sqlite3; do
    dpkg-query -W -f '${Status}' "$package" 2> /dev/null | grep -q 'ok installed' || missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0
export DEBIAN_FRONTEND=noninteractive
apt-get update -q
apt-get install -q -y --no-install-recommends "${missing[@]}"
