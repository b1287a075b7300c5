#!/bin/sh
# Usage: experiments/meta_commentary/run.sh MODEL [heretic arguments]: search, choose, confirm on held-out prompts, save to out/meta_commentary.
set -eu
cd "$(dirname "$0")/../.."
model=$1
shift
exec heretic --model "$model" --config experiments/meta_commentary/config.toml --auto-select true --auto-select-path "out/meta_commentary" "$@"
