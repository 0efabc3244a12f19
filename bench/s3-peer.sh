#!/bin/bash
# Builds the S3 server that `protocols` compares with, once for each user, and prints where it is.
# Its version stands on the same protocol library as ours, so that the rows compare what lies below.
set -euo pipefail
version=0.14.1
root=${XDG_CACHE_HOME:-$HOME/.cache}/kiseki-bench/s3s-fs-$version
[ -x "$root/bin/s3s-fs" ] || cargo install --quiet --locked s3s-fs --version $version --features binary --root "$root" >&2
echo "$root/bin/s3s-fs"
