# One set-up at a time in a checkout. Sourced, never run.

# Takes the lock, or waits for the script that holds it. The commands of the set-up inherit the lock:
# should the script be killed, its last command still keeps others out until it ends.
lock_setup() {
  command -v flock >/dev/null || fail "missing on this machine: flock" "install it, on Debian or Ubuntu with: sudo apt-get install util-linux"
  mkdir -p "$TOOLS"
  exec {SETUP_LOCK}>>"$TOOLS/setup.lock"
  if ! flock --nonblock "$SETUP_LOCK"; then
    say "another script sets up this checkout (process $(tail -n 1 "$TOOLS/setup.lock")): waiting until it has finished"
    flock "$SETUP_LOCK"
  fi
  echo "$$" >"$TOOLS/setup.lock"
}

unlock_setup() { exec {SETUP_LOCK}>&-; }
