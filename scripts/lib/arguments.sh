# Answers of programs that take a script's arguments, before any set-up. Sourced, never run.

# check_arguments FILE ARGUMENT...: FILE is a Python program of the standard library that parses the arguments.
# Ends the script where it prints a help, or says what is wrong.
check_arguments() {
  local answer
  find_python
  answer=$("$PYTHON" -I -B "$@") || exit
  [ -z "$answer" ] || { printf '%s\n' "$answer"; exit 0; }
}
