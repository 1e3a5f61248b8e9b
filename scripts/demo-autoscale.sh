#!/bin/sh
# Shows a HorizontalPodAutoscaler at work on a cluster of its own: a web server grows from one pod to six under load, and
# goes back to one. It takes about three minutes; Ctrl-C ends it, and removes the cluster.
set -eu

name=autoscale
patience=240 # seconds, for each way
mini() { bin/mini-k8s "$@"; }

home=$(mktemp -d)
trap 'trap - INT TERM; mini down --name $name >/dev/null; rm -rf "$home"; exit $result' EXIT
trap 'exit 130' INT TERM
result=1

export MINI_K8S_HOME="$home" KUBECONFIG="$home/$name/kubeconfig"
mini up --name $name --nodes 2 --demo=false --detach
mini apply -f scripts/demo-autoscale.yaml

# watch WANTED: a line whenever the autoscaler says something new, until there are so many replicas and all are ready.
watch() {
  start=$(date +%s) last=""
  while :; do
    now=$(mini get hpa web | awk 'NR == 2 {print $3, $4, $7}')        # "cpu: 12%/50% 3"
    ready=$(mini get deployment web | awk 'NR == 2 {print $2}')       # "2/3"
    replicas=${ready#*/}
    if [ "$now $ready" != "$last" ]; then
      last="$now $ready"
      bar=$(printf '%*s' "$replicas" '' | tr ' ' '#')
      printf '  %3d s   %-18s %-5s %s\n' $(($(date +%s) - start)) "${now% *}" "$ready" "$bar"
    fi
    [ "$replicas" = "$1" ] && [ "$ready" = "$1/$1" ] && return
    if [ $(($(date +%s) - start)) -gt $patience ]; then
      echo "There are not $1 pods after $patience s. This is what the autoscaler says:"
      mini describe hpa web
      return 1
    fi
    sleep 1
  done
}

echo
echo "One pod, and nobody asks it anything:"
watch 1
echo
echo "Now 50 requests a second come, work for eight pods (six are the most):"
mini scale deployment/load --replicas 1 >/dev/null
watch 6
echo
echo "And now none (the last 20 s count, so it takes a while):"
mini scale deployment/load --replicas 0 >/dev/null
watch 1
echo
mini get events | grep -E "LAST|SuccessfulRescale" || true
result=0
