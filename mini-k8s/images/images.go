// Package images makes the container images of the workshop without a registry: each is one static Go program on
// nothing, imported into the local Docker.
//
// Invariants:
//  1. Nothing is pulled: this works with no network at all.
//  2. An image whose program and settings are those that we would import is left as it is; a label with their hash
//     tells.
//
// In Kubernetes: images come from a registry; the pause image is registry.k8s.io/pause.
package images

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/client"
	"github.com/docker/docker/pkg/jsonmessage"
)

// source is where the programs are in this module, one folder each.
const source = "workshop/mini-k8s/images/"

// labelContent carries the hash of an image's program and settings.
const labelContent = "mini-k8s.content"

// Image is one of our images.
type Image struct {
	Name     string   // with its tag
	Program  string   // the folder beside this file; the binary is / and this name
	Settings []string // lines of a Dockerfile beside the ENTRYPOINT
}

// The images. The two versions of hello are the same program and differ in what they say: a rollout to watch.
var (
	Pause   = Image{Name: "mini-k8s/pause:v1", Program: "pause"}
	HelloV1 = Image{Name: "mini-k8s/hello:v1", Program: "hello", Settings: []string{"ENV VERSION=v1", "EXPOSE 8080"}}
	HelloV2 = Image{Name: "mini-k8s/hello:v2", Program: "hello", Settings: []string{"ENV VERSION=v2", "EXPOSE 8080"}}
)

// All are the images that a node needs.
func All() []Image { return []Image{Pause, HelloV1, HelloV2} }

// Ensure makes the images present in Docker.
func Ensure(ctx context.Context, docker *client.Client, images ...Image) error {
	server, err := docker.ServerVersion(ctx)
	if err != nil {
		return fmt.Errorf("ask Docker for its architecture: %w", err)
	}
	if server.Os != "linux" {
		return fmt.Errorf("Docker runs %s containers here; mini-k8s needs Linux containers", server.Os)
	}
	programs := map[string][]byte{} // several images may have the same
	for _, img := range images {
		if programs[img.Program] == nil {
			programs[img.Program], err = program(ctx, img.Program, server.Arch)
		}
		if err == nil {
			err = ensure(ctx, docker, img, programs[img.Program])
		}
		if err != nil {
			return fmt.Errorf("make image %s: %w", img.Name, err)
		}
	}
	return nil
}

func ensure(ctx context.Context, docker *client.Client, img Image, program []byte) error {
	content := fmt.Sprintf("%x", sha256.Sum256(fmt.Appendf(nil, "%s%v", program, img.Settings)))
	old, err := docker.ImageInspect(ctx, img.Name)
	if err != nil && !cerrdefs.IsNotFound(err) {
		return err
	}
	if old.Config != nil && old.Config.Labels[labelContent] == content {
		return nil
	}
	changes := append([]string{fmt.Sprintf("ENTRYPOINT [%q]", "/"+img.Program), "LABEL " + labelContent + "=" + content}, img.Settings...)
	report, err := docker.ImageImport(ctx, image.ImportSource{Source: archive(img.Program, program), SourceName: "-"},
		img.Name, image.ImportOptions{Message: "made by mini-k8s", Changes: changes})
	if err != nil {
		return err
	}
	defer report.Close()
	if err := jsonmessage.DisplayJSONMessagesStream(report, io.Discard, 0, false, nil); err != nil {
		return err
	}
	if old.ID != "" {
		// It has no name now. If a container still runs it Docker refuses, and so it stays until somebody prunes.
		_, _ = docker.ImageRemove(ctx, old.ID, image.RemoveOptions{})
	}
	return nil
}

// archive is the file system of the image: one file.
func archive(name string, program []byte) io.Reader {
	var out bytes.Buffer
	w := tar.NewWriter(&out) // writing to memory does not fail
	_ = w.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Size: int64(len(program))})
	_, _ = w.Write(program)
	_ = w.Close()
	return &out
}

// program returns the static Linux binary: the one beside the running executable, or else a fresh build.
func program(ctx context.Context, name, arch string) ([]byte, error) {
	executable, err := os.Executable()
	if err != nil {
		return nil, err
	}
	file := filepath.Join(filepath.Dir(executable), "images", arch, name)
	built, err := os.ReadFile(file)
	if !errors.Is(err, fs.ErrNotExist) {
		return built, err
	}
	if built, err = build(ctx, name, arch); err != nil {
		return nil, fmt.Errorf("there is no %s, and building it here failed: %w\n"+
			"Run `make build`, which puts it there, or start this inside the source tree with Go installed", file, err)
	}
	return built, nil
}

func build(ctx context.Context, name, arch string) ([]byte, error) {
	dir, err := os.MkdirTemp("", "mini-k8s-images-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, name)
	// The flags make the same source give the same bytes, wherever and at whatever commit it is built.
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", file, source+name)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch, "GOFLAGS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("go build %s: %w: %s", name, err, strings.TrimSpace(string(out)))
	}
	return os.ReadFile(file)
}
