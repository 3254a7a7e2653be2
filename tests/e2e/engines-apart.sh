# Sourced by scripts that run container engines: these neither use nor disturb the host's own, and what they leave goes
# when the script ends.
#
#   $scratch       a folder for everything, readable by other users
#   servers        the processes that end with the script: add to them
#   free_port      prints a port that nobody listens on
#   start_docker   starts a daemon for `docker` to talk to
#   die            ends the script with a message

die() { echo "$(basename "$0"): $*" >&2; exit 1; }

scratch=$(mktemp -d)
chmod 755 "$scratch"
servers=()
cleanup() {
    podman rm --all --force --time 0 >/dev/null 2>&1 || true
    if [ -e "$scratch/docker.sock" ]; then
        docker ps --quiet | xargs --no-run-if-empty docker kill >/dev/null 2>&1 || true
    fi
    for server in "${servers[@]}"; do kill "$server" 2>/dev/null || true; wait "$server" 2>/dev/null || true; done
    # Mounts that a killed engine has left would keep the folder from going.
    awk -v scratch="$scratch/" 'index($2, scratch) == 1 {print $2}' /proc/mounts | sort -r |
        xargs --no-run-if-empty --max-args=1 umount --lazy
    rm -rf "$scratch"
}
trap cleanup EXIT

cat > "$scratch/containers.conf" <<END
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
END
cat > "$scratch/storage.conf" <<END
[storage]
driver = "overlay"
graphroot = "$scratch/containers/storage"
runroot = "$scratch/containers/run"
END
export CONTAINERS_CONF=$scratch/containers.conf CONTAINERS_STORAGE_CONF=$scratch/storage.conf
export DOCKER_HOST=unix://$scratch/docker.sock DOCKER_CONFIG=$scratch/docker-config
mkdir "$DOCKER_CONFIG"
echo "{}" > "$DOCKER_CONFIG/config.json"

free_port() {
    local port
    while port=$((20000 + RANDOM % 20000)); (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do :; done
    echo "$port"
}

start_docker() {
    dockerd --data-root "$scratch/docker" --exec-root "$scratch/docker-run" --pidfile "$scratch/docker.pid" \
        --host "$DOCKER_HOST" --iptables=false --bridge none > "$scratch/dockerd.log" 2>&1 &
    servers+=($!)
    for _ in $(seq 150); do
        docker version >/dev/null 2>&1 && return
        kill -0 "${servers[-1]}" 2>/dev/null || break
        sleep 0.2
    done
    die "dockerd does not start: $(tail -20 "$scratch/dockerd.log")"
}
