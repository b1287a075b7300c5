#!/bin/sh
# Usage: experiments/verbosity/run.sh MODEL [heretic arguments]: search, choose, confirm on held-out prompts, save to out/verbosity.
set -eu
cd "$(dirname "$0")/../.."
model=$1
shift
exec heretic --model "$model" --config experiments/verbosity/config.toml --auto-select true --auto-select-path "out/verbosity" "$@"
