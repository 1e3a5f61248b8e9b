// Pause holds a pod's network namespace by doing nothing until it is told to end.
//
// In Kubernetes: registry.k8s.io/pause, some 70 lines of C, which also reaps orphans when a pod shares its process
// namespace.
package main

import (
	"os"
	"os/signal"
	"syscall"
)

func main() {
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	<-stop
}
