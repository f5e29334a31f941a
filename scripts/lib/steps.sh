# Runs the steps of scripts/test, side by side where there are cores for it. Sourced, never run.

MOST_AT_ONCE=4
PATIENCE=60 # seconds between two lines of a long wait

declare -A STEP_PIDS=()

# run_steps STEP...: exit code 1 if a check failed.
run_steps() {
  local name started=$SECONDS alone=()
  if [ $# -eq 1 ]; then
    "checks_$1"
  else
    STEP_LOGS=$(mktemp -d)
    trap stop_steps EXIT
    # the demo of the step e2e has to keep its robot's time limits: it has the machine to itself
    for name in "$@"; do [ "$name" != e2e ] || alone=(e2e); done
    steps_side_by_side "$@"
    for name in "${alone[@]}"; do "checks_$name"; done
  fi
  if [ ${#FAILED[@]} -gt 0 ]; then
    printf '\n%sfailed:%s\n' "$RED" "$RESET"
    printf '  %s\n' "${FAILED[@]}"
    exit 1
  fi
  say "all checks passed in $((SECONDS - started)) s"
}

steps_side_by_side() {
  local name at_once
  at_once=$(nproc)
  [ "$at_once" -le "$MOST_AT_ONCE" ] || at_once=$MOST_AT_ONCE
  for name in "$@"; do
    [ "$name" != e2e ] || continue
    wait_for_steps $((at_once - 1))
    start_step "$name"
  done
  wait_for_steps 0
}

# start_step NAME: in the background, its output into a file.
start_step() {
  say "$1: started"
  set -m
  (
    FAILED=() # those of other steps are in their own files
    "checks_$1"
    printf '%s\n' "${FAILED[@]}" >"$STEP_LOGS/$1.failed"
  ) >"$STEP_LOGS/$1.log" 2>&1 </dev/null &
  STEP_PIDS[$1]=$!
  set +m
}

# wait_for_steps MOST: until at most so many run; prints the output of those that have ended.
wait_for_steps() {
  local name told=$SECONDS
  while [ ${#STEP_PIDS[@]} -gt "$1" ]; do
    for name in "${!STEP_PIDS[@]}"; do
      kill -0 "${STEP_PIDS[$name]}" 2>/dev/null || end_step "$name"
    done
    [ ${#STEP_PIDS[@]} -le "$1" ] || sleep 0.2
    if [ $((SECONDS - told)) -ge "$PATIENCE" ]; then
      told=$SECONDS
      say "still running: ${!STEP_PIDS[*]} (output in $STEP_LOGS)"
    fi
  done
}

end_step() {
  local status=0 failed=()
  wait "${STEP_PIDS[$1]}" || status=$?
  unset "STEP_PIDS[$1]"
  cat "$STEP_LOGS/$1.log"
  if [ -f "$STEP_LOGS/$1.failed" ]; then mapfile -t failed < <(grep . "$STEP_LOGS/$1.failed")
  else failed=("$1: ended with exit code $status before its checks were done"); fi
  FAILED+=("${failed[@]}")
}

stop_steps() {
  local pid
  for pid in "${STEP_PIDS[@]}"; do kill -TERM -- "-$pid" 2>/dev/null || true; done
  rm -rf "$STEP_LOGS"
}
