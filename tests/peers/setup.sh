#!/bin/sh
# Installs what the peer tests need: npm packages, a Python venv and the clients that are compiled, all inside this folder,
# exactly as locked; and as root the Debian packages of the other clients. Does nothing when nothing has changed since.
set -eu
cd "$(dirname "$0")"

has() { command -v "$1" >/dev/null 2>&1; }
can_install() { [ "$(id -u)" = 0 ] && has apt-get; }
install() { DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null; }

missing=""
for tool in curl openssl python3; do
  has "$tool" || missing="$missing $tool"
done
python3 -c 'import venv, ensurepip' 2>/dev/null || missing="$missing python3-venv"
# Clients that only the step `clients` needs: one that cannot be had is skipped there, with the reason.
# The same goes for redirects in a namespace, which the transparent ways need.
clients=""
for tool in nft:nftables ip:iproute2 git wget certutil:libnss3-tools keytool:default-jre-headless javac:default-jdk-headless chromium; do
  has "${tool%%:*}" || clients="$clients ${tool#*:}"
done
if [ -n "$missing$clients" ] && can_install; then
  apt-get update -qq
fi
if [ -n "$missing" ] && can_install; then
  # shellcheck disable=SC2086
  install $missing ca-certificates
elif [ -n "$missing" ]; then
  echo "peer tests need:$missing (install them and run this again)" >&2
  exit 1
fi
for package in $clients; do
  if ! can_install || ! install "$package"; then echo "peer tests: no $package, so its client will be skipped" >&2; fi
done
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

want=$(stamp clients/go/* clients/java/* clients/reqwest/Cargo.* clients/reqwest/src/* requirements.txt)
if ! fresh .built "$want"; then
  echo "peer tests: compiling clients" >&2
  rm -rf .built
  mkdir .built
  GOTOOLCHAIN=local GOPROXY=off GOFLAGS=-trimpath GOCACHE="$PWD/.built/go-cache" \
    .venv/bin/go build -C clients/go -o "$PWD/.built/peer-go" .
  if has javac; then javac -d .built/java clients/java/Client.java; fi
  if has cargo; then
    cargo build --quiet --locked --manifest-path clients/reqwest/Cargo.toml --target-dir .built/cargo >&2
    cp .built/cargo/debug/peer-reqwest .built/
  fi
  rm -rf .built/go-cache .built/cargo
  echo "$want" > .built/.installed
fi
