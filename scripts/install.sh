#!/bin/sh
# Installs from the locks, with uv where it can be had and with pip where not. Used by the Makefile only; it never
# resolves anything: versions and hashes are those of the lock.
#
#   install.sh venv PYTHON FOLDER           make an environment, unless there is one
#   install.sh uv PYTHON FOLDER LOCK        the same, with uv in it (a warning if that fails)
#   install.sh lock FOLDER LOCK             make the environment hold what the lock says
#   install.sh members FOLDER MEMBER...     install the workspace's members, editable
set -eu

fail() {
    echo "setup: $*" >&2
    exit 1
}

make_venv() { # PYTHON FOLDER
    if "$2/bin/python" -c '' 2>/dev/null; then return; fi
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null ||
        fail "$1 is not a Python 3.11 or newer; name one that is: make setup PYTHON=python3.12"
    "$1" -m venv "$2" ||
        fail "$1 could not make an environment in $2; on Debian and Ubuntu install python3-venv"
}

pip_install() { # FOLDER ARGUMENT...
    folder=$1
    shift
    "$folder/bin/python" -m pip --quiet --disable-pip-version-check install "$@"
}

# uv of this environment, or the one that the caller names in UV.
has_uv() { # FOLDER
    uv=${UV:-$1/bin/uv}
    [ "${INSTALLER:-uv}" = uv ] && "$uv" --version >/dev/null 2>&1
}

install_uv() { # PYTHON FOLDER LOCK
    make_venv "$1" "$2"
    [ "${INSTALLER:-uv}" = uv ] || return 0
    pip_install "$2" --require-hashes -r "$3" ||
        echo "setup: uv could not be installed, going on with pip (slower, same versions)" >&2
}

install_lock() { # FOLDER LOCK
    echo "setup: installing $2 into $1"
    if has_uv "$1"; then
        "$uv" pip sync --quiet --require-hashes --python "$1/bin/python" "$2" && return
        echo "setup: uv failed, trying pip" >&2
    fi
    pip_install "$1" --require-hashes -r "$2" ||
        fail "$2 could not be installed into $1; the lines above say why (is a package index reachable?)"
}

install_members() { # FOLDER MEMBER...
    folder=$1
    shift
    for member in "$@"; do
        set -- "$@" -e "./$member"
        shift
    done
    # The build backend is in the lock: nothing unpinned is fetched for an isolated build.
    if has_uv "$folder"; then
        "$uv" pip install --quiet --no-deps --no-build-isolation --python "$folder/bin/python" "$@" && return
        echo "setup: uv failed, trying pip" >&2
    fi
    # pip builds in the member's folder, where a relative PATH leads nowhere.
    PATH="$(cd "$folder/bin" && pwd):$PATH" pip_install "$folder" --no-deps --no-build-isolation "$@"
}

command=$1
shift
case $command in
    venv) make_venv "$@" ;;
    uv) install_uv "$@" ;;
    lock) install_lock "$@" ;;
    members) install_members "$@" ;;
    *) fail "unknown command $command" ;;
esac
