# The steps of scripts/test and scripts/lint. Sourced, never run. Every step runs, also after a failure.

FAILED=()

# step NAME COMMAND...
step() {
  local name=$1 started=$SECONDS
  shift
  say "$name"
  if "$@"; then say "$name: ok ($((SECONDS - started)) s)"; else
    FAILED+=("$name")
    say "${RED}$name: failed${RESET} ($((SECONDS - started)) s)"
  fi
}

# Debian's compiler for browsers comes without clippy; where the tests decide, its absence is a failure.
clippy() {
  if cargo clippy --version >/dev/null 2>&1; then
    cargo clippy --quiet --workspace --all-targets --all-features --locked -- -D warnings
  elif [ -n "${CI:-}" ]; then
    echo "cargo clippy is not installed"
    return 1
  else
    echo "cargo clippy is not installed on this machine: left out"
  fi
}

types() {
  # examples and scripts are roots of their own, as they are when they run
  MYPYPATH=examples:src/openpi_flash_client_node mypy \
    -p flash_transport -p openpi_flash_models -p openpi_flash_server -p openpi_flash_client_node -p sim_robot -p demo &&
    MYPYPATH=examples mypy benchmarks/*.py &&
    MYPYPATH=benchmarks:benchmarks/network mypy benchmarks/network/*.py benchmarks/models/*.py &&
    # from inside: at the root the folder hides the ROS package `launch`
    (cd launch && MYPYPATH=../src/openpi_flash_client_node mypy --config-file ../pyproject.toml ./*.py)
}

shell_syntax() {
  local file
  for file in scripts/{bench,check-wheel,demo,lint,ros_env,setup,test,test-versions} src/flash_transport/fuzz/run scripts/lib/*.sh .ci/run; do bash -n "$file" || return 1; done
}

checks_lint() {
  step "shell syntax" shell_syntax
  step "ruff format" ruff format --check --quiet .
  step "ruff check" ruff check --quiet .
  step "mypy" types
  step "cargo fmt" cargo fmt --all --check
  step "cargo clippy" clippy
}

checks_rust() { step "cargo test" cargo test --workspace --locked; }

checks_python() { step "pytest" python -m pytest -m "not e2e" --ignore-glob='*/test_torch_*'; }

colcon_test() {
  # colcon test exits 0 when tests fail; test-result tells
  rm -rf build/*/pytest.xml build/*/test_results
  colcon test --event-handlers console_direct+ --return-code-on-test-failure &&
    colcon test-result --verbose
}

checks_ros() { step "colcon test" colcon_test; }

checks_torch() {
  if setup_torch; then step "pytest with PyTorch" python -m pytest src/*/tests/test_torch_*.py; else
    say "less than $TORCH_GIGABYTES GB free: PyTorch is not installed, and its models are not tested"
  fi
}

checks_e2e() { step "pytest end to end" python -m pytest -m e2e tests; }

# run_checks GROUP...
run_checks() {
  local group started=$SECONDS
  for group in "$@"; do
    declare -F "checks_$group" >/dev/null || fail "unknown step '$group'" "known: lint rust python torch ros e2e"
    "checks_$group"
  done
  if [ ${#FAILED[@]} -gt 0 ]; then
    printf '\n%sfailed:%s\n' "$RED" "$RESET"
    printf '  %s\n' "${FAILED[@]}"
    exit 1
  fi
  say "all checks passed in $((SECONDS - started)) s"
}
