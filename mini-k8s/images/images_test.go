package images

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/client"
)

func TestEnsureImportsOnceAndAgainOnlyAfterAChange(t *testing.T) {
	docker := dockerOrSkip(t)
	img := Image{Name: fmt.Sprintf("mini-k8s/test-%d:v1", time.Now().UnixNano()), Program: "pause", Settings: []string{"ENV A=1"}}
	t.Cleanup(func() {
		if _, err := docker.ImageRemove(context.WithoutCancel(t.Context()), img.Name, image.RemoveOptions{}); err != nil {
			t.Error(err)
		}
	})
	ensured := func() image.InspectResponse {
		t.Helper()
		if err := Ensure(t.Context(), docker, img); err != nil {
			t.Fatal(err)
		}
		got, err := docker.ImageInspect(t.Context(), img.Name)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	first := ensured()
	if !slices.Contains(first.Config.Env, "A=1") || !slices.Equal(first.Config.Entrypoint, []string{"/pause"}) {
		t.Errorf("the image's settings are %+v", first.Config)
	}
	if again := ensured(); again.ID != first.ID {
		t.Errorf("the same image was imported again: %s, then %s", first.ID, again.ID)
	}
	img.Settings = []string{"ENV A=2"}
	if changed := ensured(); changed.ID == first.ID || !slices.Contains(changed.Config.Env, "A=2") {
		t.Errorf("after a change of its settings the image is %+v", changed.Config)
	}
	if _, err := docker.ImageInspect(t.Context(), first.ID); !cerrdefs.IsNotFound(err) {
		t.Errorf("the image that was replaced is still there (%v)", err)
	}
}

func TestProgramBesideTheExecutableIsPreferred(t *testing.T) {
	executable, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(filepath.Dir(executable), "images", "vax")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(filepath.Dir(dir)) })
	if err := os.WriteFile(filepath.Join(dir, "pause"), []byte("built before"), 0o755); err != nil {
		t.Fatal(err)
	}
	if got, err := program(t.Context(), "pause", "vax"); err != nil || string(got) != "built before" {
		t.Errorf("program returned %q, %v", got, err)
	}
}

func TestAMissingProgramSaysWhatToDo(t *testing.T) {
	_, err := program(t.Context(), "pause", "no-such-arch")
	if err == nil || !strings.Contains(err.Error(), "make build") {
		t.Errorf("the error is %v", err)
	}
}

func dockerOrSkip(t *testing.T) *client.Client {
	t.Helper()
	docker, err := client.NewClientWithOpts(client.FromEnv, client.WithAPIVersionNegotiation())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { docker.Close() })
	if _, err := docker.Ping(t.Context()); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip("no Docker daemon answers:", err)
	}
	return docker
}
