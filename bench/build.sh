#!/usr/bin/env bash
# Builds bin/upstream and bin/load (Go 1.19 or newer, standard library only). Root on Debian gets Go installed.
set -euo pipefail
cd "$(dirname "$0")"

if ! command -v go >/dev/null; then
    if [[ $(id -u) != 0 ]] || ! command -v apt-get >/dev/null; then
        echo "The benchmarks need Go 1.19 or newer." >&2
        exit 1
    fi
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -qq -y golang-go >/dev/null
fi
mkdir -p bin
CGO_ENABLED=0 GOFLAGS=-mod=mod go build -o bin ./load ./upstream
