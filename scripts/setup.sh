#!/bin/sh
# Installs what mini-k8s needs and this machine lacks, and says what and why. What is there is left as it is.
#
#   scripts/setup.sh build     what it takes to build: Go, a C compiler
#   scripts/setup.sh docker    besides, what it takes to run pods: Docker (started), iptables, nft
#   scripts/setup.sh test      besides, what only tests use
set -eu

want=${1:-docker}
missing=""
reasons=""

need() { # need COMMAND PACKAGE WHY
  PATH=$PATH:/usr/sbin:/sbin command -v "$1" >/dev/null 2>&1 && return
  missing="$missing $2"
  reasons="$reasons
  $2: $3"
}

say() { printf '%s\n' "$*" >&2; }

if [ "$want" = test ]; then
  need dig bind9-dnsutils "a client that the tests ask the DNS server with"
  want=docker
fi

if ! command -v go >/dev/null 2>&1; then
  say "Go is missing: install Go 1.26 or newer from https://go.dev/dl (distributions often have older ones)."
  exit 1
fi

if [ "$(uname -s)" != Linux ]; then
  command -v cc >/dev/null 2>&1 || { say "A C compiler is missing: run  xcode-select --install"; exit 1; }
  if [ "$want" = docker ] && ! docker info >/dev/null 2>&1; then
    say "Docker does not answer: install and start Docker Desktop or Colima, or run simulated pods with --runtime hollow."
    exit 1
  fi
  exit 0
fi

command -v cc >/dev/null 2>&1 || need gcc gcc "the state is in SQLite, which is C"
[ -e /usr/include/stdlib.h ] || need no-such-command libc6-dev "the headers for it"
if [ "$want" = docker ]; then
  need dockerd docker.io "it runs the containers of the pods"
  need iptables iptables "lets packets pass between the nodes' bridges"
  need nft nftables "the rules for packets that leave the cluster"
  need ip iproute2 "shows which addresses are taken"
  [ -e /proc/sys/net/bridge ] || need modprobe kmod "loads br_netfilter, for services whose pods are on the client's node"
fi

root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

install() { # install PACKAGE...
  log=$(mktemp)
  if ! { root apt-get update -qq && root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@"; } >"$log" 2>&1; then
    tail -n 20 "$log" >&2
    say "The installation failed; the whole log is in $log"
    exit 1
  fi
  rm -f "$log"
}

if [ -n "$missing" ]; then
  if ! command -v apt-get >/dev/null 2>&1; then
    say "These are missing; install them with your package manager:$reasons"
    exit 1
  fi
  say "Installing what is missing:$reasons"
  install $missing
fi

[ "$want" = docker ] || exit 0

# Newer releases have the docker command in a package of its own.
command -v docker >/dev/null 2>&1 || install docker-cli

answers() { root docker info >/dev/null 2>&1; }

answers && exit 0
say "Starting Docker"
if [ -d /run/systemd/system ]; then
  root systemctl start docker
elif ! root service docker start >/dev/null 2>&1; then
  # No service manager that may: a container or a bare machine. The daemon alone will do. One that was killed has left
  # its pid file, and will not start again if another process has its number by now.
  for file in /var/run/docker.pid /var/run/docker/containerd/containerd.pid; do
    pid=$(root cat "$file" 2>/dev/null) || continue
    case $(cat "/proc/$pid/comm" 2>/dev/null):$(grep State: "/proc/$pid/status" 2>/dev/null) in
      dockerd:*[RSD]\ *|containerd:*[RSD]\ *) ;; # alive
      *) root rm -f "$file" ;;
    esac
  done
  root sh -c 'setsid nohup dockerd >>/var/log/docker.log 2>&1 </dev/null &'
fi
waited=0
until answers; do
  waited=$((waited + 1))
  if [ "$waited" -gt 60 ]; then
    say "Docker does not answer after 30 s; see /var/log/docker.log, or journalctl -u docker"
    exit 1
  fi
  sleep 0.5
done
