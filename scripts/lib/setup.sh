# The set-up of a checkout, for scripts/setup and every script that needs one. Sourced, never run.
# Every step looks first, works only if something is missing or changed, and says what it does.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
TOOLS=$ROOT/.tools
UV_VERSION=0.13.9
RUST_MINIMUM=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$ROOT/Cargo.toml")
SETUP_LOG=$ROOT/.tools/setup.log

source "$ROOT/scripts/lib/messages.sh"
source "$ROOT/scripts/lib/setup_lock.sh"

# logged WHAT COMMAND...: runs quietly with a seconds counter; shows the end of the log when it fails.
logged() {
  local what=$1 started=$SECONDS pid status=0
  shift
  say "$what"
  printf '\n### %s\n' "$what" >>"$SETUP_LOG"
  # in a process group of its own, which ends with this script; the trap comes first, as a signal may come at once
  trap 'kill -TERM -- "-${!-}" 2>/dev/null' EXIT
  # without a trap bash goes on if the command that it waits for ends by itself at the moment of a Ctrl-C
  trap 'exit 130' INT
  set -m
  "$@" >>"$SETUP_LOG" 2>&1 </dev/null &
  pid=$!
  set +m
  while kill -0 "$pid" 2>/dev/null; do
    sleep 1
    if [ -t 1 ]; then printf '\r    %3d s' $((SECONDS - started))
    elif [ $(((SECONDS - started) % 30)) -eq 29 ]; then printf '    %d s ...\n' $((SECONDS - started)); fi
  done
  wait "$pid" || status=$?
  trap - EXIT INT
  [ -t 1 ] && printf '\r             \r'
  if [ "$status" -ne 0 ]; then
    tail -n 40 "$SETUP_LOG" >&2
    fail "$what: failed with exit code $status" "the whole output is in $SETUP_LOG"
  fi
}

# fingerprint PATH...: one hash over the files that git knows or would add under the paths.
fingerprint() {
  (cd "$ROOT" && { git ls-files -z --cached --others --exclude-standard -- "$@" 2>/dev/null | sort -zu |
    xargs -0 -r sha256sum -- 2>/dev/null; echo "${PYTHON-}"; "${PYTHON-python3}" --version; } | sha256sum | cut -d' ' -f1)
}

# The mark of a finished step lies in the folder that the step makes, and goes when that goes.
is_done() { [ "$(cat "$ROOT/$1" 2>/dev/null)" = "$2" ]; }
mark_done() { printf '%s\n' "$2" >"$ROOT/$1"; }

as_root() {
  if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo -n "$@"; fi
}

may_install() {
  command -v apt-get >/dev/null || return 1
  [ "$(id -u)" -eq 0 ] || sudo -n true 2>/dev/null
}

apt_update_once() {
  [ -n "${APT_UPDATED:-}" ] || logged "updating Debian's package lists" as_root apt-get update -q
  APT_UPDATED=1
}

# need_packages REASON PACKAGE...: installs them, or says which are missing and for what.
need_packages() {
  local reason=$1
  shift
  may_install || fail "missing on this machine: $reason" "install it, on Debian or Ubuntu with: sudo apt-get install $*"
  apt_update_once
  logged "installing $* ($reason)" as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "$@"
}

has_library() { ldconfig -p 2>/dev/null | grep -q "$1" || /sbin/ldconfig -p 2>/dev/null | grep -q "$1"; }

python_at_least_311() {
  "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null
}

find_python() {
  local candidate config=$ROOT/.venv/pyvenv.cfg own=
  # the environment's own first: for another one, which PATH may have today, uv makes the environment anew
  if [ -f "$config" ]; then
    own=$(sed -n 's/^home = //p' "$config")/python$(sed -n 's/^version_info = \([0-9]*\.[0-9]*\).*/\1/p' "$config")
  fi
  for candidate in $own python3.11 python3.12 python3.13 python3; do
    if command -v "$candidate" >/dev/null && python_at_least_311 "$candidate"; then
      PYTHON=$("$candidate" -c 'import sys; print(sys.executable)')
      return
    fi
  done
  fail "no Python 3.11, 3.12 or 3.13 on PATH" "the ROS 2 wheels of the demo exist for these versions only"
}

setup_system() {
  find_python
  command -v c++ >/dev/null && command -v cc >/dev/null || need_packages "a C and C++ compiler" build-essential
  "$PYTHON" -c 'import ensurepip, venv' 2>/dev/null || need_packages "Python's venv module" "python$("$PYTHON" -c 'import sys; print("%d.%d" % sys.version_info[:2])')-venv"
  [ -f "$("$PYTHON" -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h" ] ||
    need_packages "Python's headers" "python$("$PYTHON" -c 'import sys; print("%d.%d" % sys.version_info[:2])')-dev"
  has_library libEGL.so.1 && has_library libEGL_mesa.so.0 && has_library libOpenGL.so.0 ||
    need_packages "software rendering for the simulated cameras" libegl1 libegl-mesa0 libgl1-mesa-dri libopengl0
}

rust_is_new_enough() {
  local version
  version=$(cargo --version 2>/dev/null | cut -d' ' -f2) || return 1
  [ -n "$version" ] && [ "$(printf '%s\n' "$RUST_MINIMUM" "$version" | sort -V | head -n 1)" = "$RUST_MINIMUM" ]
}

# apt_offers PACKAGE: its candidate version is at least RUST_MINIMUM.
apt_offers() {
  local version
  version=$(apt-cache policy "$1" 2>/dev/null | sed -n 's/ *Candidate: //p')
  [ -n "$version" ] && [ "$version" != "(none)" ] && dpkg --compare-versions "$version" ge "$RUST_MINIMUM"
}

setup_rust() {
  export PATH=$PATH:$HOME/.cargo/bin
  rust_is_new_enough && return
  if may_install; then
    apt_update_once
    # Debian keeps a current compiler for its browsers beside the old one
    if apt_offers cargo; then need_packages "Rust" cargo
    elif apt_offers cargo-web; then need_packages "Rust" cargo-web rustc-web rustfmt-web
    fi
    hash -r
    rust_is_new_enough && return
  fi
  if command -v curl >/dev/null && curl -fsS -o "$TOOLS/rustup-init.sh" https://sh.rustup.rs; then
    logged "installing Rust with rustup" sh "$TOOLS/rustup-init.sh" -y --profile minimal --no-modify-path -c rustfmt -c clippy
    export PATH=$HOME/.cargo/bin:$PATH
    rust_is_new_enough && return
  fi
  fail "no cargo of at least $RUST_MINIMUM (found: $(cargo --version 2>/dev/null || echo none))" "install Rust from https://rustup.rs and run this again"
}

setup_uv() {
  if [ "$("$TOOLS/bin/uv" --version 2>/dev/null | cut -d' ' -f2)" != "$UV_VERSION" ]; then
    logged "installing uv $UV_VERSION into .tools" bash -c "'$PYTHON' -m venv '$TOOLS' && '$TOOLS/bin/python' -m pip install -q uv==$UV_VERSION"
  fi
  export PATH=$TOOLS/bin:$PATH
}

# setup_python demo|all: the locked environment; `demo` leaves out linters and test peers.
setup_python() {
  local key groups
  key=$(fingerprint pyproject.toml uv.lock Cargo.toml Cargo.lock src/*/pyproject.toml src/flash_transport/Cargo.toml src/flash_transport/src)
  is_done .venv/.setup-all "$key" && return
  if [ "$1" = demo ]; then
    is_done .venv/.setup-demo "$key" && return
    groups=(--no-default-groups --group ros --group demo)
  else
    groups=()
  fi
  unset PYTHONDONTWRITEBYTECODE VIRTUAL_ENV
  # Inexact: the ROS wheels carry metadata of packages that no lock knows (rclpy, std-msgs ...), and an
  # exact second sync would uninstall these, and with them the files of the wheels.
  logged "building flash_transport and installing the locked Python packages (several minutes the first time)" \
    uv sync --project "$ROOT" --frozen --python "$PYTHON" --compile-bytecode --inexact "${groups[@]}"
  mark_done ".venv/.setup-$1" "$key"
}

TORCH_GIGABYTES=8

# setup_torch: adds PyTorch to the environment; fails quietly where the disk has no room for it.
setup_torch() {
  local status=0
  lock_setup
  install_torch || status=$?
  unlock_setup
  return "$status"
}

install_torch() {
  local key free
  key=$(fingerprint pyproject.toml uv.lock)
  is_done .venv/.setup-torch "$key" && return
  free=$(df --output=avail -BG "$ROOT" | tail -n 1 | tr -dc 0-9)
  [ "$free" -ge "$TORCH_GIGABYTES" ] || return 1
  unset PYTHONDONTWRITEBYTECODE VIRTUAL_ENV
  logged "installing PyTorch (3 GB)" uv sync --project "$ROOT" --frozen --python "$PYTHON" --inexact --group torch
  mark_done .venv/.setup-torch "$key"
}

setup_ros() {
  local key
  key=$(fingerprint src/openpi_flash src/openpi_flash_msgs src/openpi_flash_{client_node,robot}/{setup.py,package.xml} src/openpi_flash_client_node/setup.cfg \
    src/flash_transport/{CMakeLists.txt,package.xml,cmake} launch config \
    scripts/lib/{setup.sh,ros_wheel_paths.cmake} uv.lock)
  is_done install/.setup "$key" && return
  logged "building the ROS 2 packages with colcon" bash -c "cd '$ROOT' && source scripts/ros_env &&
    colcon build --symlink-install --event-handlers console_cohesion+ \
      --cmake-args -GNinja -DCMAKE_PROJECT_INCLUDE='$ROOT/scripts/lib/ros_wheel_paths.cmake'"
  mark_done install/.setup "$key"
}

# setup demo|all
setup() {
  cd "$ROOT"
  [ "$(uname -sm)" = "Linux x86_64" ] || fail "the demo and the tests need Linux on x86-64 (this is $(uname -sm))" \
    "the ROS 2 wheels they use exist for nothing else; a robot with its own ROS needs none of this"
  lock_setup
  : >"$SETUP_LOG"
  setup_system
  setup_rust
  setup_uv
  setup_python "$1"
  setup_ros
  unlock_setup
}
