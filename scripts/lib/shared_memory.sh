# Gives back the shared memory of ROS nodes that were killed: 7 to 35 MB each. Sourced, never run.

# drop_shared_memory [FOLDER]: removes this user's segments of Fast DDS that no process maps. One
# that was made a moment ago may not be mapped yet, so only those of 2 minutes and more count.
drop_shared_memory() {
  local folder=${1:-/dev/shm} file mapped
  [ -d "$folder" ] || return 0
  mapped=$(cat /proc/[0-9]*/maps 2>/dev/null | sed -n "s|.* \($folder/.*\)|\1|p" | sort -u || true)
  while IFS= read -r file; do
    grep -qxF -- "$file" <<<"$mapped" || rm -f -- "$file"
  done < <(find "$folder" -maxdepth 1 -user "$(id -u)" -mmin +2 \
    \( -name 'fastrtps_*' -o -name 'fastdds_*' -o -name 'sem.fastrtps_*' -o -name 'sem.fastdds_*' \))
}
