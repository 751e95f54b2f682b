// Command hello is the example app: it answers with its message and says whether it is healthy.
package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	text, err := os.ReadFile("/message.txt")
	if err != nil {
		return err
	}
	message := strings.TrimSpace(string(text))
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, message) })
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) {
		if message == "broken" {
			http.Error(w, "db: connection refused", http.StatusServiceUnavailable)
		}
	})
	server := &http.Server{Addr: ":" + os.Getenv("PORT"), Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	fmt.Println("hello: listening on", server.Addr)

	asked, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	ended := context.AfterFunc(asked, func() {
		patience, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = server.Shutdown(patience)
	})
	defer ended()
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
