#!/bin/sh
# Usage: experiments/hedging/run.sh MODEL [heretic arguments]: search, choose, confirm on held-out prompts, save to out/hedging.
set -eu
cd "$(dirname "$0")/../.."
model=$1
shift
exec heretic --model "$model" --config experiments/hedging/config.toml --auto-select true --auto-select-path "out/hedging" "$@"
