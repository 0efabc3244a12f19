# What a person does daily; `just` lists it.

_list:
    @just --list --unsorted

# Build the release binary
build:
    cargo build --release --locked -p kiseki

# Mount a scratch filesystem that shows itself working
try *DIR:
    scripts/try {{DIR}}

# Run all tests, or those of the named files: just test crash posix
test *NAMES:
    scripts/test {{NAMES}}

# Only the tests inside the packages
units:
    cargo test --workspace --exclude kiseki-tests

# The file-level tests on another filesystem, for comparison: just compare /mnt
compare DIR:
    KISEKI_TEST_DIR={{DIR}} cargo test -p kiseki-tests

# Format and lint
lint:
    cargo fmt --all
    cargo clippy --workspace --all-targets -- -D warnings

# Everything that must hold before a change is taken
ci:
    .ci/run
