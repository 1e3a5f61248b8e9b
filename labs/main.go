// Command labs is the learner's tool: run it as `go run ./labs` in the top folder of the workshop.
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"workshop/labs/workbench"
	"workshop/mini-k8s/cmdline"
	"workshop/mini-k8s/doctor"

	"github.com/urfave/cli/v2"
)

func main() {
	// The first Ctrl-C ends the command in good order, a second one at once.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	if err := run(ctx, os.Args, os.Stdin, os.Stdout); err != nil {
		if err != errFailed {
			fmt.Fprintln(os.Stderr, "Error:", err)
		}
		os.Exit(1)
	}
}

// errFailed ends a command that has said all there is to say.
var errFailed = errors.New("failed")

// tool is one run of the tool.
type tool struct {
	root     string
	progress *workbench.Progress
	in       *os.File
	out      io.Writer
	paint    workbench.Paint
}

func run(ctx context.Context, args []string, in *os.File, out io.Writer) error {
	dir, err := os.Getwd()
	if err != nil {
		return err
	}
	root, err := workbench.Root(dir)
	if err != nil {
		return err
	}
	t := &tool{root: root, in: in, out: out, paint: workbench.PaintFor(out)}
	return t.run(ctx, args)
}

// run does one command.
func (t *tool) run(ctx context.Context, args []string) (err error) {
	if t.progress, err = workbench.LoadProgress(t.root); err != nil {
		return err
	}
	app := &cli.App{
		Name: "labs", Usage: "build a small Kubernetes, piece by piece", UsageText: "go run ./labs COMMAND",
		Description:     "Begin with `go run ./labs next`: it says which guide to read and what to write.",
		HideHelpCommand: true, Writer: t.out, Commands: t.commands(), ExitErrHandler: func(*cli.Context, error) {},
		Action: func(cCtx *cli.Context) error {
			if word := cCtx.Args().First(); word != "" {
				return fmt.Errorf("there is no command %q; `go run ./labs --help` lists them", word)
			}
			return cli.ShowAppHelp(cCtx)
		},
	}
	return app.RunContext(ctx, cmdline.Arrange(app, args))
}

func (t *tool) commands() []*cli.Command {
	yes := &cli.BoolFlag{Name: "yes", Aliases: []string{"y"}, Usage: "do not ask"}
	task := &cli.IntFlag{Name: "task", Usage: "only this `TASK` of the lab"}
	return []*cli.Command{
		{Name: "list", Usage: "show all labs and how far you are", Description: "Example: go run ./labs list",
			Action: func(*cli.Context) error { return workbench.Board(t.out, t.root, t.progress, t.paint) }},
		{Name: "next", Usage: "tell what to do now", Description: "Example: go run ./labs next",
			Action: func(*cli.Context) error { return workbench.Next(t.out, t.root, t.progress, t.paint) }},
		{Name: "check", Usage: "run the tests on what you have written: of the lab where you are, and of those before it that had passed", ArgsUsage: "[LAB]",
			Description: "Examples:\n   go run ./labs check\n   go run ./labs check 05\n   go run ./labs check 03 --race    # with Go's race detector: slower, and worth it before you go on",
			Flags:       []cli.Flag{&cli.BoolFlag{Name: "all", Usage: "every lab that is begun"}, &cli.BoolFlag{Name: "race", Usage: "with the race detector"}},
			Action:      t.check},
		{Name: "watch", Usage: "check whenever you save", Description: "Example: go run ./labs watch",
			Action: t.watch},
		{Name: "hint", Usage: "say a bit more about what is to be written next: first where to look, then what to write", ArgsUsage: "[LAB]",
			Description: "Examples:\n   go run ./labs hint\n   go run ./labs hint 05 --task 2", Flags: []cli.Flag{task}, Action: t.hint},
		{Name: "diff", Usage: "show how your files differ from the solution", ArgsUsage: "LAB",
			Description: "Example: go run ./labs diff 05", Action: t.diff},
		{Name: "solve", Usage: "put the solution into your files, all of it or that of one task; a copy of yours is kept", ArgsUsage: "LAB",
			Description: "Examples:\n   go run ./labs solve 05 --task 2\n   go run ./labs solve 05 --yes", Flags: []cli.Flag{task, yes}, Action: t.solve},
		{Name: "reset", Usage: "start a lab anew; a copy of your files is kept", ArgsUsage: "LAB",
			Description: "Example: go run ./labs reset 05", Flags: []cli.Flag{yes}, Action: t.reset},
		{Name: "run", Usage: "start a cluster with your components in it, and the reference for the rest", ArgsUsage: "[-- FLAGS OF mini-k8s up]",
			Description: "Examples:\n   go run ./labs run --mine 01,05\n   go run ./labs run --mine 01-06 -- --nodes 2\n   go run ./labs run --mine passed -- --runtime hollow    # needs no Docker",
			Flags:       []cli.Flag{&cli.StringFlag{Name: "mine", Usage: "`LABS` whose code is yours: 01,05 or 01-06 or passed"}}, Action: t.runMine},
		{Name: "verify", Usage: "check that the cluster that runs keeps what the lab promised", ArgsUsage: "LAB...",
			Description: "Example: go run ./labs verify 05", Action: t.verify},
		{Name: "doctor", Usage: "look whether this machine has what the labs need, and say how to get the rest",
			Description: "Example: go run ./labs doctor", Action: t.doctor},
		{Name: "generate", Usage: "for authors: make the starters and solutions out of mini-k8s", Hidden: true,
			Flags: []cli.Flag{&cli.BoolFlag{Name: "force", Usage: "though somebody works in the labs here"}}, Action: t.generate},
	}
}

// lab returns the lab that the command names, or the one where the learner is.
func (t *tool) lab(cCtx *cli.Context) (workbench.Lab, error) {
	if cCtx.Args().Present() {
		return workbench.Find(cCtx.Args().First())
	}
	return t.progress.Current(t.root)
}

// named is lab for a command that changes or tells much: the lab has to be named.
func (t *tool) named(cCtx *cli.Context) (workbench.Lab, error) {
	if !cCtx.Args().Present() {
		return workbench.Lab{}, fmt.Errorf("say which lab: go run ./labs %s 05", cCtx.Command.Name)
	}
	return workbench.Find(cCtx.Args().First())
}

func (t *tool) check(cCtx *cli.Context) error {
	l, err := t.lab(cCtx)
	if err != nil && !cCtx.Args().Present() { // all have passed: the last, and with it all before
		there := workbench.Available()
		l, err = there[len(there)-1], nil
	}
	if err != nil {
		return err
	}
	var flags []string
	if cCtx.Bool("race") {
		flags = []string{"-race"}
	}
	result, err := t.checkOne(cCtx.Context, l, flags)
	if err != nil {
		return err
	}
	failed := !result.Passed()
	if result.Passed() && !cCtx.Args().Present() {
		fmt.Fprintf(t.out, "Compare with the solution: go run ./labs diff %[1]s    Why it is written so: %[2]s/README.md\nSee it run: go run ./labs run --mine %[1]s    Go on: go run ./labs next\n", l.Number, l.Solution())
	}
	for _, earlier := range workbench.Available() {
		wanted := earlier.Number < l.Number && t.progress.Of(earlier).Passed || cCtx.Bool("all")
		if earlier == l || !wanted || cCtx.Args().Present() && !cCtx.Bool("all") {
			continue
		}
		fmt.Fprintln(t.out)
		if result, err = t.checkOne(cCtx.Context, earlier, flags); err != nil {
			return err
		}
		failed = failed || !result.Passed()
	}
	if failed {
		return errFailed
	}
	return nil
}

// checkOne checks a lab, prints the result and keeps it.
func (t *tool) checkOne(ctx context.Context, l workbench.Lab, flags []string) (workbench.Result, error) {
	waiting := time.AfterFunc(2*time.Second, func() {
		if t.paint { // somebody waits for it
			fmt.Fprintln(t.out, t.paint.Dim("compiling and testing; the first time takes longer ..."))
		}
	})
	result, err := workbench.Check(ctx, t.root, l, flags...)
	waiting.Stop()
	if err != nil {
		return result, err
	}
	result.Print(t.out, t.root, t.paint)
	kept := t.progress.Of(l)
	kept.Passed, kept.CheckedAt = result.Passed(), time.Now()
	return result, t.progress.Save()
}

func (t *tool) watch(cCtx *cli.Context) error {
	return workbench.Watch(cCtx.Context, t.root, t.in, t.out, func(ctx context.Context, out io.Writer, command ...string) error {
		each := &tool{root: t.root, in: t.in, out: out, paint: t.paint}
		err := each.run(ctx, append([]string{"labs"}, command...))
		if errors.Is(err, errFailed) {
			return nil
		}
		return err
	})
}

func (t *tool) hint(cCtx *cli.Context) error {
	l, err := t.lab(cCtx)
	if err != nil {
		return err
	}
	hint, err := workbench.NextHint(t.root, l, cCtx.Int("task"), t.progress.Of(l))
	if err != nil {
		return err
	}
	fmt.Fprintf(t.out, "Lab %s, task %d, %s, hint %d of %d:\n\n   %s\n", l.Number, hint.Task, hint.Function, hint.Number, hint.OfAll, hint.Text)
	return t.progress.Save()
}

func (t *tool) diff(cCtx *cli.Context) error {
	l, err := t.named(cCtx)
	if err != nil {
		return err
	}
	text, err := workbench.Diff(t.root, l)
	if err == nil && text == "" {
		text = "There is no difference.\n"
	}
	fmt.Fprint(t.out, text)
	return err
}

func (t *tool) solve(cCtx *cli.Context) error {
	l, err := t.named(cCtx)
	if err != nil {
		return err
	}
	if !t.agrees(cCtx, fmt.Sprintf("Put the solution of lab %s into your files?", l.Number)) {
		return nil
	}
	functions, backup, err := workbench.Solve(t.root, l, cCtx.Int("task"))
	if err != nil {
		return err
	}
	fmt.Fprintf(t.out, "Solved: %s\nYour files as they were are in %s.\n", strings.Join(functions, ", "), backup)
	return nil
}

func (t *tool) reset(cCtx *cli.Context) error {
	l, err := t.named(cCtx)
	if err != nil {
		return err
	}
	if !t.agrees(cCtx, fmt.Sprintf("Start lab %s anew?", l.Number)) {
		return nil
	}
	backup, err := workbench.Reset(t.root, l)
	if err != nil {
		return err
	}
	delete(t.progress.Labs, l.Number)
	fmt.Fprintf(t.out, "Lab %s is as it was at first. Your files as they were are in %s.\n", l.Number, backup)
	return t.progress.Save()
}

// agrees asks, unless --yes was said.
func (t *tool) agrees(cCtx *cli.Context, question string) bool {
	if cCtx.Bool("yes") {
		return true
	}
	fmt.Fprintf(t.out, "%s A copy of what is there is kept. [y/N] ", question)
	answer, _ := bufio.NewReader(t.in).ReadString('\n')
	if word := strings.ToLower(strings.TrimSpace(answer)); word == "y" || word == "yes" {
		return true
	}
	fmt.Fprintln(t.out, "Nothing was changed.")
	return false
}

func (t *tool) runMine(cCtx *cli.Context) error {
	mine, err := workbench.ParseMine(cCtx.String("mine"), t.progress)
	if err != nil {
		return err
	}
	program, err := workbench.Build(cCtx.Context, t.root, mine, t.out)
	if err != nil {
		return err
	}
	args := append([]string{"up"}, cCtx.Args().Slice()...)
	for _, l := range mine {
		if !t.progress.Of(l).Passed { // the demo may never be ready, and up would give up waiting for it
			fmt.Fprintf(t.out, "Lab %s has not passed its check: the cluster starts without the demo.\n", l.Number)
			args = append(args, "--demo=false")
			break
		}
	}
	return t.hand(program, args...)
}

func (t *tool) verify(cCtx *cli.Context) error {
	if !cCtx.Args().Present() {
		return errors.New("say which lab: go run ./labs verify 05")
	}
	for _, name := range cCtx.Args().Slice() {
		if _, err := workbench.Find(name); err != nil {
			return err
		}
	}
	return t.hand("go", append([]string{"run", "./labs/verify"}, cCtx.Args().Slice()...)...)
}

// hand makes this process another program: so a Ctrl-C reaches it once, from the terminal, and not again from us.
func (t *tool) hand(program string, args ...string) error {
	path, err := exec.LookPath(program)
	if err != nil {
		return err
	}
	if err := os.Chdir(t.root); err != nil {
		return err
	}
	return fmt.Errorf("run %s: %w", program, syscall.Exec(path, append([]string{program}, args...), os.Environ()))
}

func (t *tool) doctor(cCtx *cli.Context) error {
	forDocker, forLabs := doctor.Examine(cCtx.Context, t.out)
	switch {
	case len(forLabs) > 0:
		return fmt.Errorf("the labs need %s: see above", strings.Join(forLabs, ", "))
	case len(forDocker) > 0:
		fmt.Fprintf(t.out, "\nEnough for every lab that needs no Docker. For real containers there lacks %s.\n", strings.Join(forDocker, ", "))
	default:
		fmt.Fprintln(t.out, "\nAll that the labs need is here.")
	}
	return nil
}

func (t *tool) generate(cCtx *cli.Context) error {
	if _, err := os.Stat(filepath.Join(t.root, "labs", ".progress.json")); err == nil && !cCtx.Bool("force") {
		return errors.New("somebody works in the labs here (labs/.progress.json): say --force to replace what they wrote")
	}
	changed, err := workbench.Generate(t.root)
	for _, path := range changed {
		fmt.Fprintln(t.out, path)
	}
	return err
}
