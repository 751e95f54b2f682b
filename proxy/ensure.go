package proxy

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os/exec"
	"time"

	"github.com/shipgate/shipgate/store"
)

// startLimit is how long a proxy may take until it serves.
const startLimit = 20 * time.Second

// EnsureOptions says what proxy there is to be.
type EnsureOptions struct {
	DataDir        string
	PublicAddr     string // "" leaves the settings as they are stored
	TrustedProxies []netip.Prefix
	Executable     string // started as: Executable proxy --data DIR --public-addr ADDR
	Logger         *slog.Logger
}

func (o EnsureOptions) settings() Settings {
	return Settings{PublicAddr: o.PublicAddr, TrustedProxies: o.TrustedProxies}
}

// Ensure adopts the proxy that answers on DATA/proxy.sock, or starts one in a session of its own, which outlives us, and
// returns when it serves with the settings. One of a lower generation is handed over to the executable. Its output goes to
// DATA/logs/proxy.log.
func Ensure(ctx context.Context, opts EnsureOptions) (*Client, Status, error) {
	client := NewClient(opts.DataDir)
	status, err := client.Status(ctx)
	switch {
	case err == nil:
		status, err = client.adopt(ctx, opts, status)
	case ctx.Err() != nil || Hangs(err):
	default:
		status, err = start(ctx, opts)
	}
	if err != nil {
		return nil, Status{}, err
	}
	return client, status, nil
}

// adopt makes the proxy that runs the one that is wanted.
func (c *Client) adopt(ctx context.Context, opts EnsureOptions, status Status) (_ Status, err error) {
	opts.Logger.Info("proxy adopted", "pid", status.PID, "public", status.PublicAddr, "generation", status.Generation)
	if status, err = c.Renew(ctx, opts, status); err != nil {
		return status, err
	}
	wanted := opts.settings()
	switch {
	case opts.PublicAddr == "":
		return status, nil
	case status.Settings == nil && leadsTo(wanted.PublicAddr, status.PublicAddr) && len(wanted.TrustedProxies) == 0:
		return status, nil // one that knows no settings and could not be replaced yet
	case status.Settings != nil && leadsTo(wanted.PublicAddr, status.PublicAddr):
		wanted.PublicAddr = status.Settings.PublicAddr // it is the same by another name
		if status.Settings.equal(wanted) {
			return status, nil
		}
	}
	if err := c.Configure(ctx, wanted); err != nil {
		return status, err
	}
	before := status.PublicAddr
	if status, err = c.Status(ctx); err == nil {
		opts.Logger.Info("proxy configured", "before", before, "public", status.PublicAddr, "trusted", wanted.TrustedProxies)
	}
	return status, err
}

// Renew hands a proxy of a lower generation over to the executable. While requests are held it cannot be: that is left to
// the next call.
func (c *Client) Renew(ctx context.Context, opts EnsureOptions, status Status) (Status, error) {
	if status.Generation >= Generation {
		return status, nil
	}
	err := c.Upgrade(ctx, opts.Executable)
	if store.CodeOf(err) == store.CodeConflict {
		opts.Logger.Warn("proxy of a lower generation stays for now", "pid", status.PID, "generation", status.Generation, "error", err)
		return status, nil
	}
	if err != nil {
		return status, fmt.Errorf("replace the proxy of generation %d: %w", status.Generation, err)
	}
	next, err := c.Status(ctx)
	if err == nil {
		opts.Logger.Info("proxy replaced by one of a higher generation", "before", status.PID, "pid", next.PID, "generation", next.Generation)
	}
	return next, err
}

// start starts a proxy where none runs, with the settings in its snapshot.
func start(ctx context.Context, opts EnsureOptions) (Status, error) {
	log, err := openLog(opts.DataDir)
	if err != nil {
		return Status{}, err
	}
	defer log.Close()
	if err := StoreSettings(opts); err != nil { // a full or read-only disk keeps nobody from being served
		opts.Logger.Error("store the proxy's settings", "error", err)
	}
	command := command(opts.Executable, opts.DataDir, opts.PublicAddr)
	command.Stdout, command.Stderr = log, log
	bounded, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	status, err := startReady(bounded, command)
	if err != nil {
		if problem, known := store.AsProblem(err); known && problem.Hint != "" {
			return Status{}, store.Problemf(problem.Code, "start proxy: %s", problem.Message).WithHint("%s", problem.Hint)
		}
		return Status{}, store.Problemf(store.CodeErrored, "start proxy: %w", err).WithHint("tail %s", log.Name())
	}
	opts.Logger.Info("proxy started", "pid", status.PID, "public", status.PublicAddr)
	go reap(command, opts.Logger)
	status.Started = true
	return status, nil
}

// StoreSettings writes what the next proxy that starts is to do. None may run.
func StoreSettings(opts EnsureOptions) error {
	if opts.PublicAddr == "" {
		return nil
	}
	kept := snapshots{dir: opts.DataDir}
	last, err := kept.load(opts.Logger)
	if err != nil {
		return err
	}
	wanted := opts.settings()
	if last.Settings != nil && last.Settings.equal(wanted) {
		return nil
	}
	last.Settings = &wanted
	return kept.save(last)
}

// reap takes note of the proxy's end. It has no owner that waits for it: the proxy outlives this process.
func reap(command *exec.Cmd, logger *slog.Logger) {
	if err := command.Wait(); err != nil {
		logger.Error("proxy ended", "pid", command.Process.Pid, "error", err)
		return
	}
	logger.Info("proxy ended", "pid", command.Process.Pid)
}
