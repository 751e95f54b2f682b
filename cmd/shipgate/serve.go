package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"

	docker "github.com/docker/docker/client"
	"github.com/spf13/cobra"

	"github.com/shipgate/shipgate/builder"
	"github.com/shipgate/shipgate/deploy"
	"github.com/shipgate/shipgate/deploy/compose"
	"github.com/shipgate/shipgate/deploy/dockerengine"
	"github.com/shipgate/shipgate/gitserver"
	"github.com/shipgate/shipgate/gitserver/github"
	"github.com/shipgate/shipgate/proxy"
	"github.com/shipgate/shipgate/store"
	"github.com/shipgate/shipgate/web"
)

// What the runner asks for, and who answers.
var (
	_ deploy.Engine    = (*dockerengine.Engine)(nil)
	_ deploy.Commands  = (*dockerengine.Engine)(nil)
	_ deploy.Stacks    = (*compose.Stacks)(nil)
	_ deploy.Addresses = (*dockerengine.Engine)(nil)
	_ deploy.Router    = (*proxy.Client)(nil)
	_ deploy.Builder   = (*builder.Builder)(nil)
	_ deploy.Branches  = (*gitserver.Server)(nil)

	_ github.Repositories = (*gitserver.Server)(nil)
	_ web.GitHub          = (*github.GitHub)(nil)
)

// serveFlags are the flags of shipgate serve.
type serveFlags struct {
	listen, public, url, logFormat string
	catchUpEvery                   time.Duration
	issuers                        []string
	issuerKeys                     string
	policy                         store.PolicyRules
	trusted                        prefixes
	anew                           store.Anew
	builds                         int
	internalPort                   int
	pruneCache                     bool
}

func (c *cli) serveCommand() *cobra.Command {
	var flags serveFlags
	command := &cobra.Command{
		Use: "serve", Short: "The server: takes pushes, builds and deploys", Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			return c.serve(command.Context(), flags)
		},
	}
	command.Flags().StringVar(&flags.listen, "listen", "127.0.0.1:7420", "address of the API and of git")
	command.Flags().StringVar(&flags.public, "public-addr", ":8080", "address that the apps are served on")
	command.Flags().StringVar(&flags.url, "url", "", "public URL of this server, where it is behind another one")
	command.Flags().DurationVar(&flags.catchUpEvery, "catch-up-every", 5*time.Minute, "how often GitHub is asked for pushes that no webhook told of")
	command.Flags().StringSliceVar(&flags.issuers, "oidc-issuer", []string{store.GitHubIssuer}, "whose identity tokens count; GitHub Enterprise Server: https://HOST/_services/token")
	command.Flags().StringVar(&flags.issuerKeys, "oidc-jwks", "", "file with the issuers' keys, where they cannot be asked")
	command.Flags().StringVar(&flags.logFormat, "log-format", "text", "text or json")
	command.Flags().Var(&flags.trusted, "trusted-proxies", "networks of the proxies in front of this one whose X-Forwarded headers are believed")
	addPolicyFlags(command.Flags(), &flags.policy)
	addAnewFlags(command.Flags(), &flags.anew)
	command.Flags().IntVar(&flags.builds, "builds", defaultBuilds(), "how many builds use BuildKit at once; images that are only pulled and plain static sites wait for none")
	command.Flags().IntVar(&flags.internalPort, "internal-port", 80, "port on the bridge at which apps call each other, as http://APP.internal")
	command.Flags().BoolVar(&flags.pruneCache, "prune-build-cache", false, "also remove old build cache that others may have made on this engine")
	return command
}

func (c *cli) absoluteDataDir(command string) (string, error) {
	if c.dataDir == "" {
		return "", store.Problemf(store.CodeUsage, "%s needs a data directory", command).WithHint("shipgate %s --data /var/lib/shipgate", command)
	}
	dir, err := filepath.Abs(c.dataDir)
	if err != nil {
		return "", fmt.Errorf("find data directory: %w", err)
	}
	return dir, nil
}

// logger writes to w what masked leaves of it; nil leaves all.
func logger(w io.Writer, format string, masked func(string) string) *slog.Logger {
	options := &slog.HandlerOptions{}
	if masked != nil {
		options.ReplaceAttr = func(_ []string, a slog.Attr) slog.Attr {
			switch value := a.Value.Any().(type) {
			case string:
				a.Value = slog.StringValue(masked(value))
			case error:
				a.Value = slog.StringValue(masked(value.Error()))
			}
			return a
		}
	}
	if format == "json" {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}

// services is everything that serve wires together.
type services struct {
	trusted     prefixes // of the proxies in front
	dir         string   // the data directory
	store       *store.Store
	docker      *docker.Client
	engine      *dockerengine.Engine
	stacks      *compose.Stacks
	builder     *builder.Builder
	git         *gitserver.Server
	github      *github.GitHub
	identities  *github.Identities
	proxy       *proxy.Client
	runner      *deploy.Runner
	collector   *collector
	policy      store.Policy // what the operator allows beyond the defaults
	policyRules store.PolicyRules
	public      string // where the proxy really listens
	ownProxy    bool   // this start of the server has started the proxy
	base        string // where this server is reached from outside
	logger      *slog.Logger
}

// serve runs until ctx ends. Everything that was under way is taken up before the API listens.
func (c *cli) serve(ctx context.Context, flags serveFlags) (err error) {
	debug.SetGCPercent(50) // idle memory counts for more here than the last bit of speed
	dir, err := c.absoluteDataDir("serve")
	if err != nil {
		return err
	}
	s := &services{trusted: flags.trusted, dir: dir}
	s.logger = logger(c.stderr, flags.logFormat, s.masked)
	defer func() { err = errors.Join(err, s.close()) }()
	// First of all, so that a start that cannot succeed changes nothing about the proxy. Nothing is answered yet.
	listener, err := net.Listen("tcp", flags.listen)
	if err != nil {
		return store.Problemf(store.CodeErrored, "listen on %s: %w", flags.listen, err).WithHint("shipgate serve --listen ADDRESS")
	}
	defer listener.Close()
	ready := false
	defer func() {
		if !ready {
			s.stopOwnProxy(ctx)
		}
	}()
	if err := s.wire(ctx, flags); err != nil {
		return err
	}
	address := s.addresses(listener.Addr(), flags.url)
	s.base = address.API
	if err := s.reserveHosts(ctx, address, flags.listen); err != nil {
		return err
	}
	if err := s.runner.Start(ctx); err != nil {
		return err
	}
	if err := s.github.Start(address.API); err != nil {
		return err
	}
	if err := writeServerFile(dir, address); err != nil {
		return err
	}
	supervised := s.superviseProxy(ctx)
	defer func() { <-supervised }()
	collecting := make(chan struct{})
	go func() { defer close(collecting); s.collector.run(ctx) }()
	defer func() { <-collecting }()
	s.warnOfPlainHTTP(listener.Addr())
	fmt.Fprintf(c.stderr, "ready api=%s public=%s\n", address.API, address.Public)
	ready = true
	notifySystemd(c.getenv, "READY=1")
	debug.FreeOSMemory() // what starting took is not needed again
	defer notifySystemd(c.getenv, "STOPPING=1")
	return s.listen(ctx, listener)
}

func (s *services) addresses(listening net.Addr, url string) serverFile {
	local := "http://" + reachable(listening)
	return serverFile{
		Local: local, API: cmp.Or(strings.TrimSuffix(url, "/"), local), Public: "http://" + s.public,
		PID: os.Getpid(), ServerID: s.store.ServerID(),
	}
}

// reachable is an address as a client on this machine can dial it.
func reachable(address net.Addr) string {
	host, port, err := net.SplitHostPort(address.String())
	if ip := net.ParseIP(host); err == nil && ip != nil && ip.IsUnspecified() {
		return net.JoinHostPort("127.0.0.1", port)
	}
	return address.String()
}

func (s *services) warnOfPlainHTTP(address net.Addr) {
	if tcp, ok := address.(*net.TCPAddr); ok && !tcp.IP.IsLoopback() {
		s.logger.Warn("tokens travel unencrypted over this address; put TLS in front of it", "listen", address.String())
	}
}

// masked keeps the server's own secrets out of its log.
func (s *services) masked(text string) string {
	if s.store == nil {
		return text
	}
	return s.store.Masked(text)
}

// url is the address of a host as people type it: with the port unless it is the usual one.
func (s *services) url(host string) string {
	_, port, err := net.SplitHostPort(s.public)
	if err != nil || port == "80" {
		return "http://" + host
	}
	return "http://" + net.JoinHostPort(host, port)
}

// listen answers requests until ctx ends. Streams and pushes may last, so only reading the header has a limit.
func (s *services) listen(ctx context.Context, listener net.Listener) error {
	handler := web.New(web.Options{
		Store: s.store, Runner: s.runner, Repositories: s.git, Logs: s.engine.Logs, Doctor: s.examine, Destroyed: s.forget, Volumes: s.engine.Volumes, ImageVolumes: s.builder.ImageVolumes, Collect: s.collector.collect,
		GitHub: s.github, Identities: s.identities, BaseURL: func() string { return s.base }, URL: s.url, TrustedProxies: s.trusted, Lifetime: ctx, Version: version(), Logger: s.logger,
	})
	requests, end := context.WithCancel(context.WithoutCancel(ctx)) // those under way may end in peace
	defer end()
	server := &http.Server{
		Handler: handler, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute,
		BaseContext: func(net.Listener) context.Context { return requests },
		ErrorLog:    slog.NewLogLogger(s.logger.Handler(), slog.LevelDebug),
	}
	stopped := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() { stopped <- s.stop(server, end) })
	if err := server.Serve(limitConnections(listener, s.trusted)); !errors.Is(err, http.ErrServerClosed) {
		stop()
		return fmt.Errorf("serve API: %w", err)
	}
	return <-stopped
}

const stopPatience = 5 * time.Second

// stop takes no more requests, lets those under way end, and ends those that do not.
func (s *services) stop(server *http.Server, end context.CancelFunc) error {
	late := time.AfterFunc(stopPatience, end)
	defer late.Stop()
	limit, cancel := context.WithTimeout(context.Background(), 2*stopPatience)
	defer cancel()
	closed := make(chan error, 1)
	go func() { closed <- s.git.Close() }() // pushes that wait for their deployments are told
	return errors.Join(server.Shutdown(limit), <-closed)
}

// forget removes what was made for an app that is destroyed.
func (s *services) forget(ctx context.Context, app string, withData bool) error {
	if err := s.builder.Forget(ctx, app); err != nil {
		return err
	}
	if !withData {
		return nil
	}
	return errors.Join(s.builder.ForgetData(ctx, app), s.engine.RemoveVolumes(ctx, app))
}

// close ends what was wired, in the reverse order. The proxy stays: it serves on.
func (s *services) close() error {
	var errs []error
	if s.runner != nil {
		errs = append(errs, s.runner.Close())
	}
	if s.github != nil {
		errs = append(errs, s.github.Close())
	}
	if s.git != nil {
		errs = append(errs, s.git.Close())
	}
	if s.engine != nil {
		errs = append(errs, s.engine.Close())
	}
	if s.docker != nil {
		errs = append(errs, s.docker.Close())
	}
	if s.store != nil {
		errs = append(errs, s.store.Close())
	}
	return errors.Join(errs...)
}
