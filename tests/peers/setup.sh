#!/bin/sh
# Installs what the peer tests need: npm packages and a Python venv, both inside this folder, exactly as locked.
# Does nothing when the lock files have not changed since the last run.
set -eu
cd "$(dirname "$0")"

missing=""
for tool in curl openssl python3; do
  command -v "$tool" >/dev/null 2>&1 || missing="$missing $tool"
done
python3 -c 'import venv, ensurepip' 2>/dev/null || missing="$missing python3-venv"
if [ -n "$missing" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
  apt-get update -qq
  # shellcheck disable=SC2086
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing ca-certificates >/dev/null
elif [ -n "$missing" ]; then
  echo "peer tests need:$missing (install them and run this again)" >&2
  exit 1
fi
if ! node -e 'process.exit(Number(process.versions.node.split(".")[0]) >= 20 ? 0 : 1)' 2>/dev/null; then
  echo "peer tests need Node 20 or newer as 'node' (found: $(node --version 2>/dev/null || echo none))" >&2
  exit 1
fi

stamp() { # what is installed depends on the lock file and on the interpreter it was installed for
  { cat "$@"; node --version; python3 --version; uname -m; } | sha256sum | cut -d' ' -f1
}
fresh() { [ -d "$1" ] && [ -f "$1/.installed" ] && [ "$(cat "$1/.installed")" = "$2" ]; }

want=$(stamp package.json package-lock.json)
if ! fresh node_modules "$want"; then
  echo "peer tests: installing npm packages" >&2
  npm ci --ignore-scripts --no-audit --no-fund --loglevel=error >&2
  echo "$want" > node_modules/.installed
fi

want=$(stamp requirements.txt)
if ! fresh .venv "$want"; then
  echo "peer tests: installing Python packages" >&2
  rm -rf .venv
  python3 -m venv .venv
  .venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: -r requirements.txt >&2
  echo "$want" > .venv/.installed
fi
