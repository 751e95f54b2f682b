package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/shipgate/shipgate/store"
)

// The exit codes that scripts may rely on.
const (
	exitDone         = 0
	exitFailed       = 1
	exitUsage        = 2
	exitUnauthorised = 3
	exitUnreachable  = 4
	exitErrored      = 5
	exitCancelled    = 130
)

// cli is one call of the command line.
type cli struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	getenv         func(string) string

	dataDir string // --data
	json    bool   // --json
}

// run is the whole program; it gives the exit code.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer, getenv func(string) string) int {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	c := &cli{stdin: stdin, stdout: stdout, stderr: stderr, getenv: getenv}
	root := c.rootCommand()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitDone
	}
	return c.report(err)
}

func (c *cli) rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:           "shipgate",
		Short:         "Push to deploy: build, gate on health, cut over without losing a request",
		Version:       version(),
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.ArbitraryArgs,
		RunE:          chooseCommand,
	}
	root.PersistentFlags().StringVar(&c.dataDir, "data", c.getenv("SHIPGATE_DATA"), "the server's data directory, on its own machine")
	root.PersistentFlags().BoolVar(&c.json, "json", false, "print JSON")
	root.SetFlagErrorFunc(func(command *cobra.Command, err error) error {
		return store.Problemf(store.CodeUsage, "%w", err).WithHint("%s --help", command.CommandPath())
	})
	root.AddCommand(
		c.serveCommand(), c.proxyCommand(), c.appCommand(), c.statusCommand(), c.planCommand(), c.deployCommand(), c.rollbackCommand(),
		c.deploymentsCommand(), c.showCommand(), c.cancelCommand(), c.logsCommand(), c.envCommand(), c.tokenCommand(), c.trustCommand(), c.auditCommand(), c.registryCommand(), c.siteCommand(), c.githubCommand(), c.gcCommand(), c.doctorCommand(), c.actionCommand(),
	)
	root.InitDefaultCompletionCmd()
	explainArguments(root)
	return root
}

// chooseCommand is what a command does that only groups others.
func chooseCommand(command *cobra.Command, args []string) error {
	if len(args) == 0 {
		return command.Help()
	}
	hint := command.CommandPath() + " --help"
	if similar := command.SuggestionsFor(args[0]); len(similar) > 0 {
		hint = command.CommandPath() + " " + similar[0]
	}
	return store.Problemf(store.CodeUsage, "%s has no command %q", command.CommandPath(), args[0]).WithHint("%s", hint)
}

// explainArguments makes too many and too few arguments usage Problems, as wrong flags are.
func explainArguments(command *cobra.Command) {
	if check := command.Args; check != nil {
		command.Args = func(command *cobra.Command, args []string) error {
			if err := check(command, args); err != nil {
				return store.Problemf(store.CodeUsage, "%w", err).WithHint("%s", strings.TrimSuffix(command.UseLine(), " [flags]"))
			}
			return nil
		}
	}
	for _, child := range command.Commands() {
		explainArguments(child)
	}
}

// verdictError ends a command whose deployment did not succeed. Its lines have been shown already.
type verdictError struct{ verdict store.Verdict }

func (e verdictError) Error() string { return string(e.verdict) }

// report prints an error with the next command to type, and gives the exit code.
func (c *cli) report(err error) int {
	var ended verdictError
	if errors.As(err, &ended) {
		return exitOfVerdict(ended.verdict)
	}
	var exit exitError
	if errors.As(err, &exit) {
		return int(exit)
	}
	if errors.Is(err, context.Canceled) {
		return exitCancelled
	}
	problem, known := store.AsProblem(err)
	if !known {
		// What is wrong with the arguments is a Problem already: see explainArguments and SetFlagErrorFunc.
		problem = store.Problemf(store.CodeErrored, "%s", strings.TrimSpace(err.Error())).WithHint("shipgate doctor")
	}
	fmt.Fprintf(c.stderr, "error: %s\n", problem.Message)
	if problem.Hint != "" {
		fmt.Fprintf(c.stderr, "hint:  %s\n", problem.Hint)
	}
	return exitOfCode(problem.Code)
}

func exitOfVerdict(verdict store.Verdict) int {
	switch verdict {
	case store.Succeeded:
		return exitDone
	case store.Errored:
		return exitErrored
	case store.Cancelled:
		return exitCancelled
	}
	return exitFailed
}

func exitOfCode(code store.Code) int {
	switch code {
	case store.CodeUsage, store.CodeNotFound, store.CodeConflict:
		return exitUsage
	case store.CodeUnauthorised:
		return exitUnauthorised
	case store.CodeUnreachable:
		return exitUnreachable
	case store.CodeErrored:
		return exitErrored
	case store.CodeCancelled:
		return exitCancelled
	}
	return exitFailed
}

// version is what the build was told, or what Go recorded of the source.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "devel"
	}
	return info.Main.Version
}
