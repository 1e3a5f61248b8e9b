package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"runtime"
	"runtime/debug"
	"time"

	"workshop/mini-k8s/client"

	"github.com/urfave/cli/v2"
	"k8s.io/apimachinery/pkg/version"
)

func versionCommand() *cli.Command {
	return &cli.Command{
		Name: "version", Usage: "Tell the versions of this program and of the cluster",
		UsageText: "mini-k8s version", Description: "mini-k8s version",
		Flags: clusterFlags(), Action: showVersion,
	}
}

func showVersion(cCtx *cli.Context) error {
	own := "(devel)"
	if build, ok := debug.ReadBuildInfo(); ok && build.Main.Version != "" {
		own = build.Main.Version
	}
	fmt.Fprintf(cCtx.App.Writer, "Client: mini-k8s %s, %s, %s/%s\n", own, runtime.Version(), runtime.GOOS, runtime.GOARCH)
	s, err := connect(cCtx)
	var body []byte
	if err == nil {
		var cancel context.CancelFunc
		s.ctx, cancel = context.WithTimeout(s.ctx, 5*time.Second)
		defer cancel()
		body, err = s.do(client.Request{Method: http.MethodGet, Path: "/version"})
	}
	var server version.Info
	if err == nil {
		err = json.Unmarshal(body, &server)
	}
	if err != nil { // no failure: the question was answered as far as it goes
		fmt.Fprintln(cCtx.App.ErrWriter, "Server: not reached:", err)
		return nil
	}
	fmt.Fprintf(cCtx.App.Writer, "Server: %s, %s, %s, at %s\n", server.GitVersion, server.GoVersion, server.Platform, s.server)
	return nil
}
