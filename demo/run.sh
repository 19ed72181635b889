#!/usr/bin/env bash
# Builds a GRPO, an SFT and a DPO set from the 48 rollouts (and one broken line) of demo/rollouts.jsonl.
set -euo pipefail
cd "$(dirname "$0")/.."

out=demo/out
rm -rf "$out"

show() {  # recipe, what its rows are, further options
    local recipe=$1 title=$2
    shift 2
    # One of the 49 lines is broken, which is more than the usual 1 in 100.
    local command=(rollout-etl "$recipe" demo/rollouts.jsonl -o "$out/$recipe.jsonl" --max-bad-fraction 0.05)
    printf '\n== %s: %s\n\n$ %s' "$recipe" "$title" "${command[*]}"
    [ $# -eq 0 ] || printf ' \\\n      %s' "$*"
    printf '\n'
    "${command[@]}" "$@" 2>&1
    printf '\nThe first of %d rows:\n' "$(wc -l <"$out/$recipe.jsonl")"
    head -n 1 "$out/$recipe.jsonl" | python -m json.tool --indent 2 --no-ensure-ascii
}

show grpo "prompts and what their answers are verified against"
show sft "rollouts that are good enough, as conversations"
show dpo "the best answer to a prompt against the worst" --quarantine "$out/quarantine.jsonl"

printf '\n== The line that is no rollout, from %s\n\n' "$out/quarantine.jsonl"
python -m json.tool --json-lines --indent 2 "$out/quarantine.jsonl" | cut -c 1-100
printf '\nAll files are in %s. README.md says where to go from here.\n' "$out"
