package proxy

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/shipgate/shipgate/store"
)

// startLimit is how long a proxy may take until it serves.
const startLimit = 20 * time.Second

// EnsureOptions says how to start a proxy, should none run.
type EnsureOptions struct {
	DataDir    string
	PublicAddr string
	Executable string // started as: Executable proxy --data DIR --public-addr ADDR
	Logger     *slog.Logger
}

// Ensure adopts the proxy that answers on DATA/proxy.sock, or starts one in a session of its own, which outlives us, and
// returns when it serves. Its output goes to DATA/logs/proxy.log.
func Ensure(ctx context.Context, opts EnsureOptions) (*Client, Status, error) {
	client := NewClient(opts.DataDir)
	status, err := client.Status(ctx)
	if err == nil {
		opts.Logger.Info("proxy adopted", "pid", status.PID, "public", status.PublicAddr)
		return client, status, nil
	}
	if ctx.Err() != nil {
		return nil, Status{}, err
	}
	log, err := openLog(opts.DataDir)
	if err != nil {
		return nil, Status{}, err
	}
	defer log.Close()
	command := command(opts.Executable, opts.DataDir, opts.PublicAddr)
	command.Stdout, command.Stderr = log, log
	bounded, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	if status, err = startReady(bounded, command); err != nil {
		return nil, Status{}, store.Problemf(store.CodeErrored, "start proxy: %w", err).WithHint("tail %s", log.Name())
	}
	opts.Logger.Info("proxy started", "pid", status.PID, "public", status.PublicAddr)
	go reap(command, opts.Logger)
	return client, status, nil
}

// reap takes note of the proxy's end. It has no owner that waits for it: the proxy outlives this process.
func reap(command *exec.Cmd, logger *slog.Logger) {
	if err := command.Wait(); err != nil {
		logger.Error("proxy ended", "pid", command.Process.Pid, "error", err)
		return
	}
	logger.Info("proxy ended", "pid", command.Process.Pid)
}

func openLog(dataDir string) (*os.File, error) {
	dir := filepath.Join(dataDir, "logs")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("create log directory: %w", err)
	}
	log, err := os.OpenFile(filepath.Join(dir, "proxy.log"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open log of the proxy: %w", err)
	}
	return log, nil
}
