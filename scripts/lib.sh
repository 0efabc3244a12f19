# Functions that the scripts share; sourced, not run.

# duration SECONDS: as a person writes it.
duration() { printf '%d:%02d min' $(($1 / 60)) $(($1 % 60)); }

# section TITLE ... section_end: a heading, and at the end how long it took.
section() { section_title=$1; section_start=$SECONDS; printf '\n==> %s\n' "$1"; }
section_end() { printf '<== %s (%s)\n' "${section_title%%:*}" "$(duration $((SECONDS - section_start)))"; }

# target_dir: where cargo puts what it builds.
target_dir() { cargo metadata --format-version 1 --no-deps --offline | sed 's/.*"target_directory":"\([^"]*\)".*/\1/'; }

# as_root COMMAND...: as root, through sudo when needed; fails without either.
as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"
    elif command -v sudo > /dev/null; then sudo -n "$@" || sudo "$@"
    else echo "this needs root, and sudo is not installed: $*" >&2; return 1; fi
}

# install_packages NAME...: installs the Debian packages that are missing.
install_packages() {
    local name missing=()
    if ! command -v apt-get > /dev/null; then
        echo "no apt-get here; install by the names of your system: $*"
        return 1
    fi
    for name in "$@"; do
        dpkg-query -W -f '${Status}' "$name" 2> /dev/null | grep -q 'ok installed' || missing+=("$name")
    done
    if [ ${#missing[@]} -eq 0 ]; then echo "all there: $*"; return 0; fi
    echo "installing ${missing[*]}"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" \
        > /dev/null 2>&1 && return 0
    # The lists of packages may be old or empty.
    as_root apt-get update -qq
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" > /dev/null
}
