# shellcheck shell=bash
# What `up` and `down` share: telling processes apart, and ending exactly those that were started.

# The file that marks a scratch folder as an instance, and holds its settings.
# shellcheck disable=SC2034  # used by both
readonly MARK=instance.env

# Field 22 of /proc/PID/stat. With the number it names a process for good: numbers come back.
start_time() {
  local line
  line=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
  line=${line##*) }
  # shellcheck disable=SC2086  # the fields are what we want
  set -- $line
  [[ $1 != Z ]] && printf '%s\n' "${20}"
}

# is_alive PID START_TIME
is_alive() {
  [[ $(start_time "$1") == "$2" ]]
}

# Lines "PID START_TIME" of the processes that a pid file names and that still live.
living() {
  local pid started
  [[ -r $1 ]] || return 0
  while read -r pid started; do
    if is_alive "$pid" "$started"; then printf '%s %s\n' "$pid" "$started"; fi
  done <"$1"
}

# end_all SIGNAL PID_FILE...: signals the supervisors, which end their members.
end_all() {
  local signal=$1 file pid
  shift
  for file in "$@"; do
    while read -r pid _; do
      kill -s "$signal" "$pid" 2>/dev/null || true
      [[ $signal == KILL ]] || break
    done < <(living "$file")
  done
}

all_ended() {
  local file
  for file in "$@"; do
    [[ -z $(living "$file") ]] || return 1
  done
}

# wait_until SECONDS COMMAND...: polls, and gives up after that time.
wait_until() {
  local deadline=$((SECONDS + $1))
  shift
  until "$@"; do
    ((SECONDS <= deadline)) || return 1
    sleep 0.05
  done
}

# Ends every process of the instance in folder $1, politely, then not, and unmounts its spool.
end_instance() {
  local files=("$1"/pids/*)
  if [[ -e ${files[0]} ]]; then
    end_all TERM "${files[@]}"
    if ! wait_until 5 all_ended "${files[@]}"; then
      end_all KILL "${files[@]}"
      wait_until 5 all_ended "${files[@]}" || return 1
    fi
  fi
  ! mountpoint -q "$1/spool" || umount "$1/spool"
}
