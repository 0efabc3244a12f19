#!/bin/sh
# Builds the Debian package: the release binary, then what it writes itself
# (manual pages, completions), then the package from both.
set -eu
cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-target}

cargo build --release --locked -p kiseki
"$target/release/kiseki" generate \
	--man target/generated/man --completions target/generated/completions
command -v cargo-deb >/dev/null || {
	echo "cargo-deb is missing; run \`cargo install --locked cargo-deb\`" >&2
	exit 1
}
exec cargo deb -p kiseki --no-build "$@"
