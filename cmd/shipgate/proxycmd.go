package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/shipgate/shipgate/proxy"
	"github.com/shipgate/shipgate/store"
)

func (c *cli) proxyCommand() *cobra.Command {
	command := c.proxyRunCommand("proxy", "The data plane: serve starts it; show, stop, start or replace it")
	command.AddCommand(
		c.proxyRunCommand("run", "Run the proxy in the foreground (serve does this by itself)"),
		c.proxyActionCommand("status", "Show the proxy that runs", c.proxyStatus),
		c.proxyActionCommand("stop", "Stop the proxy, and keep it stopped: no app is served until `shipgate proxy start`", c.proxyStop),
		c.proxyActionCommand("start", "Start the proxy, and end the wish that it stays stopped", c.proxyStart),
		c.proxyActionCommand("restart", "Replace the proxy by this binary without losing a request", c.proxyRestart),
	)
	return command
}

func (c *cli) proxyRunCommand(name, short string) *cobra.Command {
	var public string
	command := &cobra.Command{
		Use: name, Short: short, Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			debug.SetGCPercent(50)
			dir, err := c.absoluteDataDir("proxy run")
			if err != nil {
				return err
			}
			log := logger(proxy.BoundLog(dir, c.stderr), "text", nil)
			return proxy.Serve(command.Context(), proxy.Options{DataDir: dir, PublicAddr: public, Logger: log})
		},
	}
	command.Flags().StringVar(&public, "public-addr", ":8080", "address that the apps are served on, where none is stored")
	return command
}

// proxyActionCommand is one that speaks to the proxy on this machine, whether a server runs or not.
func (c *cli) proxyActionCommand(name, short string, act func(context.Context, string, *proxy.Client) error) *cobra.Command {
	return &cobra.Command{
		Use: name, Short: short, Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			dir, err := c.absoluteDataDir("proxy " + name)
			if err != nil {
				return err
			}
			return act(command.Context(), dir, proxy.NewClient(dir))
		},
	}
}

func (c *cli) proxyStatus(ctx context.Context, dir string, client *proxy.Client) error {
	status, err := client.Status(ctx)
	if proxy.Absent(err) && proxy.Stopped(dir) {
		return stoppedOnPurpose(store.CodeUnreachable)
	}
	if err != nil {
		return err
	}
	if c.json {
		return json.NewEncoder(c.stdout).Encode(status)
	}
	fmt.Fprintf(c.stdout, "process     %d\npublic      %s\nroutes      %d\ngeneration  %d\nversion     %s\n",
		status.PID, status.PublicAddr, status.Routes, status.Generation, status.Version)
	if status.Settings != nil && len(status.Settings.TrustedProxies) > 0 {
		fmt.Fprintf(c.stdout, "trusted     %s\n", strings.Trim(fmt.Sprint(status.Settings.TrustedProxies), "[]"))
	}
	if status.Internal != "" {
		fmt.Fprintf(c.stdout, "internal    %s\n", status.Internal)
	}
	return nil
}

func stoppedOnPurpose(code store.Code) error {
	return store.Problemf(code, "the proxy is stopped on purpose, so no app is served").WithHint("shipgate proxy start")
}

func (c *cli) proxyStop(ctx context.Context, dir string, client *proxy.Client) error {
	if err := proxy.WishStopped(dir, true); err != nil {
		return err
	}
	if err := client.Stop(ctx); err != nil && !proxy.Absent(err) {
		return err
	}
	fmt.Fprintln(c.stdout, "proxy stopped; no app is served until: shipgate proxy start")
	return nil
}

func (c *cli) proxyStart(ctx context.Context, dir string, _ *proxy.Client) error {
	if err := proxy.WishStopped(dir, false); err != nil {
		return err
	}
	options, err := c.proxyOptions(dir)
	if err != nil {
		return err
	}
	_, status, err := proxy.Ensure(ctx, options)
	if err != nil {
		return err
	}
	if status.Started {
		fmt.Fprintf(c.stdout, "proxy started: process %d serves %s\n", status.PID, status.PublicAddr)
	} else {
		fmt.Fprintf(c.stdout, "proxy runs already: process %d serves %s\n", status.PID, status.PublicAddr)
	}
	return nil
}

func (c *cli) proxyRestart(ctx context.Context, dir string, client *proxy.Client) error {
	if proxy.Stopped(dir) {
		return stoppedOnPurpose(store.CodeConflict)
	}
	options, err := c.proxyOptions(dir)
	if err != nil {
		return err
	}
	before, err := client.Status(ctx)
	if proxy.Absent(err) {
		return c.proxyStart(ctx, dir, client)
	}
	if err == nil {
		err = client.Upgrade(ctx, options.Executable)
	}
	if err != nil {
		return err
	}
	after, err := client.Status(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintf(c.stdout, "proxy replaced: process %d serves %s; process %d ends with its last request\n", after.PID, after.PublicAddr, before.PID)
	return nil
}

// proxyOptions leave the settings as they are stored.
func (c *cli) proxyOptions(dir string) (proxy.EnsureOptions, error) {
	executable, err := os.Executable()
	if err != nil {
		return proxy.EnsureOptions{}, fmt.Errorf("find own executable: %w", err)
	}
	return proxy.EnsureOptions{DataDir: dir, Executable: executable, Logger: logger(io.Discard, "text", nil)}, nil
}

const (
	proxyLook  = 2 * time.Second // how often serve looks at the proxy
	proxyPause = time.Second     // between tries to start it: its address may be taken for a moment
)
