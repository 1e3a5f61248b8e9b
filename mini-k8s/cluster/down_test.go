package cluster

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"workshop/mini-k8s/worker/runtime"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/network"
	docker "github.com/docker/docker/client"
)

// A Docker that is removing a container already, because somebody else has asked for it, says so and takes its time.
// Until then it does not let go of the network.
func TestTheNetworkIsRemovedAfterTheLastContainer(t *testing.T) {
	const looks = 4 // that still find the container
	var looked, networkRemoved atomic.Int32
	answer := func(w http.ResponseWriter, code int, body any) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(code)
		json.NewEncoder(w).Encode(body)
	}
	fake := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, path, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/") // the version comes first
		labels := map[string]string{runtime.LabelCluster: "x", runtime.LabelUID: "uid", runtime.LabelKind: "sandbox"}
		switch r.Method + " " + path {
		case "GET containers/json":
			if looked.Add(1) > looks {
				answer(w, http.StatusOK, []container.Summary{})
				return
			}
			answer(w, http.StatusOK, []container.Summary{{ID: "c", State: "removing", Labels: labels}})
		case "GET containers/c/json":
			answer(w, http.StatusOK, container.InspectResponse{ContainerJSONBase: &container.ContainerJSONBase{ID: "c", State: &container.State{Status: "removing"}},
				Config: &container.Config{}})
		case "DELETE containers/c":
			answer(w, http.StatusConflict, map[string]string{"message": "removal of container c is already in progress"})
		case "GET networks":
			answer(w, http.StatusOK, []network.Summary{{ID: "n", Name: "mini-k8s-x-node-1"}})
		case "DELETE networks/n":
			if looked.Load() <= looks {
				answer(w, http.StatusForbidden, map[string]string{"message": "network n has active endpoints"})
				return
			}
			networkRemoved.Add(1)
			w.WriteHeader(http.StatusNoContent)
		default:
			t.Errorf("unexpected: %s %s", r.Method, path)
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	defer fake.Close()
	d, err := docker.NewClientWithOpts(docker.WithHost("tcp://"+fake.Listener.Addr().String()), docker.WithVersion("1.41"))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if err := removeDocker(t.Context(), d, "x"); err != nil || networkRemoved.Load() != 1 {
		t.Errorf("the network was removed %d times: %v", networkRemoved.Load(), err)
	}
}
