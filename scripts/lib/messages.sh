# What the scripts print. Sourced, never run.

if [ -t 1 ]; then BOLD=$'\e[1m' RED=$'\e[31m' RESET=$'\e[0m'; else BOLD='' RED='' RESET=''; fi

say() { printf '%s==>%s %s\n' "$BOLD" "$RESET" "$*"; }

# fail MESSAGE [HINT]
fail() {
  printf '%serror:%s %s\n' "$RED" "$RESET" "$1" >&2
  [ $# -lt 2 ] || printf '\nhint: %s\n' "$2" >&2
  exit 1
}

# show_usage: the comment at the head of the running script.
show_usage() { sed -n '2,/^[^#]/{/^#/s/^# \{0,1\}//p}' "$0"; }

# wrong_arguments MESSAGE: exit code 2, as Python's argparse.
wrong_arguments() {
  printf '%serror:%s %s\n\n' "$RED" "$RESET" "$1" >&2
  show_usage >&2
  exit 2
}

# help_if_asked ARGUMENT...: prints the usage and ends the script if -h or --help is among them.
help_if_asked() {
  local argument
  for argument in "$@"; do
    case $argument in -h | --help) show_usage; exit 0 ;; esac
  done
}
