package cli

import (
	"errors"
	"fmt"
	"strings"

	"workshop/mini-k8s/doctor"

	"github.com/urfave/cli/v2"
)

func doctorCommand() *cli.Command {
	return &cli.Command{
		Name: "doctor", Usage: "Check that this machine has what mini-k8s and the labs need, and say how to get what is missing",
		UsageText: "mini-k8s doctor", Description: "sudo mini-k8s doctor    as root, for so runs `mini-k8s up`",
		Action: examine,
	}
}

// examine fails if the docker runtime cannot be used.
func examine(cCtx *cli.Context) error {
	missing, _ := doctor.Examine(cCtx.Context, cCtx.App.Writer)
	fmt.Fprintln(cCtx.App.Writer, "\nmini-k8s up --runtime hollow needs none of Docker's part: its pods start and stop in memory")
	if len(missing) > 0 {
		return errors.New("`mini-k8s up --runtime docker` needs " + strings.Join(missing, ", ") + ": see above")
	}
	return nil
}
