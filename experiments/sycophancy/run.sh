#!/bin/sh
# Usage: experiments/sycophancy/run.sh MODEL [heretic arguments]: search, choose, confirm on held-out prompts, save to out/sycophancy.
set -eu
cd "$(dirname "$0")/../.."
model=$1
shift
exec heretic --model "$model" --config experiments/sycophancy/config.toml --auto-select true --auto-select-path "out/sycophancy" "$@"
