// Command testapp is a web app that behaves as its environment says, well or badly.
//
//	PORT           where it listens; 8080
//	LISTEN_PORT    where it listens instead
//	LISTEN_HOST    the address it listens on; all
//	LISTEN_AFTER   duration before it listens; 0s
//	NEVER_LISTEN   1: it runs and opens no socket
//	APP_VERSION    what GET / answers, also in the header App-Version
//	HEALTH_STATUS  status of GET /healthz; 200
//	HEALTH_AFTER   duration from the start during which GET /healthz answers 503; 0s
//	HEALTH_TOLD    1: GET /healthz answers 503 until somebody asks for /ready
//	EXIT_CODE      it exits with this code at its start, or after EXIT_AFTER
//	EXIT_AFTER     duration before it exits; 0s
//	EAT_MEMORY     bytes it takes and writes to at its start, or after EAT_AFTER
//	EAT_AFTER      duration before it eats; 0s
//	LOG_LINES      lines it writes at its start, "line 1" on stdout, "line 2" on stderr, and so on
//	IGNORE_TERM    1: it goes on after SIGTERM
//
// Requests to / may have any method. GET /slow?ms=N answers after N milliseconds, GET /env?name=N with a variable,
// GET /fetch?url=U answers what U answers, or 502 and why not, on a connection of its own, GET /lookup?name=N with the addresses of a name,
// GET /log?line=L writes L to stdout, GET /exit?code=N ends the process, and GET or PUT /file?path=P reads or writes a file. On SIGTERM it answers the
// requests it has and exits with 0. "testapp probe" is a HEALTHCHECK: it exits with 0 when GET /healthz answers 200.
// GET /header answers with the request's headers. Datagrams to the port where it listens are sent back. "testapp attack KIND
// TARGET" and GET /attack are in attack.go. "testapp migrate" is a release command: it writes what it does, adds a line to the
// file MIGRATE_FILE, and exits with MIGRATE_CODE; with MIGRATE_TOLD=1 not before SIGUSR1.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == "probe" {
		os.Exit(probe())
	}
	if len(os.Args) > 2 && os.Args[1] == "attack" {
		os.Exit(attackByCommand(os.Args[2:]))
	}
	if len(os.Args) > 1 && os.Args[1] == "migrate" {
		os.Exit(migrate())
	}
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "testapp:", err)
		os.Exit(1)
	}
}

func run() error {
	started := time.Now()
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, os.Interrupt)
	for i := range number("LOG_LINES") {
		fmt.Fprintln([]io.Writer{os.Stdout, os.Stderr}[i%2], "line", i+1)
	}
	eatWhenTold()
	exitWhenTold()
	if os.Getenv("NEVER_LISTEN") == "1" {
		fmt.Println("running without a socket")
		await(stop)
		return nil
	}
	select {
	case <-time.After(duration("LISTEN_AFTER")):
	case <-stop:
		return nil
	}
	return serve(handler(started), stop)
}

func serve(handler http.Handler, stop <-chan os.Signal) error {
	listener, err := net.Listen("tcp", net.JoinHostPort(os.Getenv("LISTEN_HOST"), port()))
	if err != nil {
		return err
	}
	fmt.Println("listening on", listener.Addr())
	go echo()
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	ended := make(chan error, 1)
	go func() {
		await(stop)
		fmt.Println("stopping")
		ended <- server.Shutdown(context.Background())
	}()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return <-ended
}

// await returns when the process is to end.
func await(stop <-chan os.Signal) {
	for range stop {
		if os.Getenv("IGNORE_TERM") != "1" {
			return
		}
	}
}

func handler(started time.Time) http.Handler {
	var ready atomic.Bool
	mux := http.NewServeMux()
	mux.HandleFunc("/{$}", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, os.Getenv("APP_VERSION"))
	})
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		if time.Since(started) < duration("HEALTH_AFTER") || os.Getenv("HEALTH_TOLD") == "1" && !ready.Load() {
			http.Error(w, "not ready yet", http.StatusServiceUnavailable)
			return
		}
		status := cmp.Or(number("HEALTH_STATUS"), http.StatusOK)
		w.WriteHeader(status)
		fmt.Fprintln(w, http.StatusText(status))
	})
	mux.HandleFunc("GET /ready", func(http.ResponseWriter, *http.Request) { ready.Store(true) })
	mux.HandleFunc("GET /slow", slow)
	mux.HandleFunc("GET /env", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, os.Getenv(r.FormValue("name")))
	})
	mux.HandleFunc("GET /log", func(_ http.ResponseWriter, r *http.Request) { fmt.Println(r.FormValue("line")) })
	mux.HandleFunc("GET /exit", func(_ http.ResponseWriter, r *http.Request) {
		code, _ := strconv.Atoi(r.FormValue("code"))
		os.Exit(code)
	})
	mux.HandleFunc("GET /file", func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, r.FormValue("path")) })
	mux.HandleFunc("PUT /file", write)
	mux.HandleFunc("GET /fetch", fetch)
	mux.HandleFunc("GET /attack", attackByRequest)
	mux.HandleFunc("GET /header", func(w http.ResponseWriter, r *http.Request) { _ = r.Header.Write(w) })
	mux.HandleFunc("GET /lookup", func(w http.ResponseWriter, r *http.Request) {
		bounded, cancel := context.WithTimeout(r.Context(), 2*time.Second)
		defer cancel()
		addresses, err := net.DefaultResolver.LookupHost(bounded, r.FormValue("name"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		fmt.Fprintln(w, addresses)
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("App-Version", os.Getenv("APP_VERSION"))
		mux.ServeHTTP(w, r)
	})
}

func slow(w http.ResponseWriter, r *http.Request) {
	milliseconds, _ := strconv.Atoi(r.FormValue("ms"))
	select {
	case <-time.After(time.Duration(milliseconds) * time.Millisecond):
		fmt.Fprintln(w, os.Getenv("APP_VERSION"))
	case <-r.Context().Done():
	}
}

func fetch(w http.ResponseWriter, r *http.Request) {
	client := http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Get(r.FormValue("url"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer response.Body.Close()
	_, _ = io.Copy(w, response.Body)
}

func write(w http.ResponseWriter, r *http.Request) {
	content, err := io.ReadAll(r.Body)
	if err == nil {
		err = os.WriteFile(r.URL.Query().Get("path"), content, 0o644)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
	}
}

func exitWhenTold() {
	text, told := os.LookupEnv("EXIT_CODE")
	if !told {
		return
	}
	code, err := strconv.Atoi(text)
	if err != nil {
		code = 1
	}
	after := duration("EXIT_AFTER")
	if after == 0 {
		fmt.Fprintln(os.Stderr, "exiting with", code)
		os.Exit(code)
	}
	time.AfterFunc(after, func() { os.Exit(code) })
}

func eatWhenTold() {
	time.AfterFunc(duration("EAT_AFTER"), func() {
		taken := eat(number("EAT_MEMORY"))
		defer runtime.KeepAlive(taken)
		select {} // holds on to it
	})
}

// eat takes memory and writes to every page of it, as memory that is only reserved is not counted.
func eat(bytes int) []byte {
	taken := make([]byte, bytes)
	for i := 0; i < len(taken); i += 4096 {
		taken[i] = 1
	}
	return taken
}

func probe() int {
	client := &http.Client{Timeout: time.Second}
	response, err := client.Get("http://" + net.JoinHostPort("127.0.0.1", port()) + "/healthz")
	if err != nil || response.StatusCode != http.StatusOK {
		return 1
	}
	return 0
}

func port() string { return cmp.Or(os.Getenv("LISTEN_PORT"), os.Getenv("PORT"), "8080") }

// number and duration read a variable; what cannot be read is nought.
func number(name string) int {
	value, _ := strconv.Atoi(os.Getenv(name))
	return value
}

func duration(name string) time.Duration {
	value, _ := time.ParseDuration(os.Getenv(name))
	return value
}

func migrate() int {
	fmt.Println("migrating", os.Getenv("APP_VERSION"))
	if os.Getenv("MIGRATE_TOLD") == "1" {
		told := make(chan os.Signal, 1)
		signal.Notify(told, syscall.SIGUSR1)
		<-told
	}
	if name := os.Getenv("MIGRATE_FILE"); name != "" {
		file, err := os.OpenFile(name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
		if err == nil {
			_, err = fmt.Fprintln(file, "migrated", os.Getenv("APP_VERSION"))
		}
		if err = errors.Join(err, file.Close()); err != nil {
			fmt.Fprintln(os.Stderr, "testapp:", err)
			return 1
		}
	}
	return number("MIGRATE_CODE")
}
