# The checks of scripts/test and scripts/lint. Sourced, never run. Every check of a step runs, also after a failure.

STEPS=(lint rust python torch ros e2e)
FAILED=()

known_steps() {
  local name
  for name in "$@"; do
    case " ${STEPS[*]} " in *" $name "*) ;; *) wrong_arguments "unknown step '$name', known: ${STEPS[*]}" ;; esac
  done
}

# check NAME COMMAND...
check() {
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
  MYPYPATH=examples:src/openpi_flash_robot:src/openpi_flash_client_node mypy \
    -p flash_transport -p openpi_flash_models -p openpi_flash_server -p openpi_flash_training -p openpi_flash_robot -p openpi_flash_client_node -p sim_robot -p demo &&
    MYPYPATH=examples mypy benchmarks/*.py &&
    MYPYPATH=scripts mypy -p release -p infra_checks &&
    MYPYPATH=benchmarks:benchmarks/network mypy benchmarks/network/*.py benchmarks/models/*.py &&
    MYPYPATH=benchmarks:benchmarks/chunk_methods:src/openpi_flash_robot mypy benchmarks/chunk_methods/*.py &&
    # from inside: at the root the folder hides the ROS package `launch`
    (cd launch && MYPYPATH=../src/openpi_flash_client_node mypy --config-file ../pyproject.toml ./*.py)
}

# Every shell script that git knows or would add, by its ending or its first line.
shell_scripts() {
  local file
  { git ls-files --cached --others --exclude-standard -- '*.sh' scripts/ros_env
    git grep --untracked -lI -E '^#!.*sh$'; } | sort -u | while read -r file; do
    [ ! -f "$file" ] || echo "$file"
  done
}

# cargo-deny says more, where it is installed: sources, and crates that were withdrawn.
licences() {
  PYTHONPATH=scripts:${PYTHONPATH:-} python -m release.licences || return 1
  ! cargo deny --version >/dev/null 2>&1 || cargo deny --log-level error check bans licenses sources
}

audit_packages() {
  uv export --quiet --locked --no-emit-workspace --no-group ros --no-hashes |
    pip-audit --progress-spinner off --disable-pip --no-deps -r /dev/stdin 2>&1
}

# Known weaknesses of crates and packages, where the tools are installed. Without the network cargo-deny reads the
# database that it fetched last; pip-audit asks for each package, and is content if nobody answers.
advisories() {
  local status=0 report skipped
  if cargo deny --version >/dev/null 2>&1; then
    cargo deny --log-level error check advisories || cargo deny --offline --log-level error check advisories || status=1
  else
    echo "cargo deny is not installed on this machine: advisories of crates left out"
  fi
  if pip-audit --version >/dev/null 2>&1; then
    report=$(audit_packages) || { echo "$report" && status=1; }
    skipped=$(grep -c "could not be audited" <<<"$report") ||:
    [ "$skipped" -eq 0 ] || echo "pip-audit got no answer for $skipped packages: their advisories are left out"
  else
    echo "pip-audit is not installed on this machine: advisories of packages left out"
  fi
  return "$status"
}

shell_syntax() {
  local file status=0
  for file in $(shell_scripts); do bash -n "$file" || status=1; done
  return "$status"
}

checks_lint() {
  check "shell syntax" shell_syntax
  check "ruff format" ruff format --check --quiet .
  check "ruff check" ruff check --no-cache --quiet .
  check "mypy" types
  check "licences" licences
  check "advisories" advisories
  check "cargo fmt" cargo fmt --all --check
  check "cargo clippy" clippy
}

checks_rust() { check "cargo test" cargo test --workspace --locked; }

checks_python() {
  # tests run them; one at a time would build them in the middle of others
  check "programs of the transport" cargo build --quiet --locked -p flash_transport --features binary --bins --examples
  check "pytest" python -m pytest -m "not e2e" --ignore-glob='*/test_torch_*'
}

colcon_test() {
  # colcon test exits 0 when tests fail; test-result tells
  rm -rf build/*/pytest.xml build/*/test_results
  colcon test --event-handlers console_direct+ --return-code-on-test-failure &&
    colcon test-result --verbose
}

checks_ros() { check "colcon test" colcon_test; }

checks_torch() {
  if setup_torch; then check "pytest with PyTorch" python -m pytest src/*/tests/test_torch_*.py; else
    say "less than $TORCH_GIGABYTES GB free: PyTorch is not installed, and its models are not tested"
  fi
}

checks_e2e() { check "pytest end to end" python -m pytest -m e2e tests; }
