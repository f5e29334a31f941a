# The random order of the Python tests. Sourced, never run.

new_seed() { printf '%s\n' $((RANDOM * 32768 + RANDOM)); }

# use_seed SEED: every pytest that starts from here on takes this order, also under colcon and in scripts/test.
use_seed() {
  export TEST_SEED=$1
  # of two such options, pytest takes the last
  export PYTEST_ADDOPTS="${PYTEST_ADDOPTS:-} --randomly-seed=$1"
}
