// Command load sends requests that no client may repeat, until it is interrupted, and counts those that fail.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

func main() {
	url := flag.String("url", "", "where to send the requests")
	host := flag.String("host", "", "the Host header")
	method := flag.String("method", http.MethodPost, "the request method")
	workers := flag.Int("workers", 4, "how many send at once")
	pause := flag.Duration("pause", 10*time.Millisecond, "between two requests of one worker")
	limit := flag.Duration("for", 5*time.Minute, "the longest it runs")
	flag.Parse()

	asked, unlisten := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer unlisten()
	ctx, stop := context.WithTimeout(asked, *limit)
	defer stop()
	var sent, failed atomic.Int64
	var all sync.WaitGroup
	for range *workers {
		all.Go(func() {
			for ctx.Err() == nil {
				sent.Add(1)
				if err := send(*method, *url, *host); err != nil {
					failed.Add(1)
					fmt.Fprintln(os.Stderr, "load:", err)
				}
				select {
				case <-ctx.Done():
				case <-time.After(*pause):
				}
			}
		})
	}
	all.Wait()
	fmt.Printf("requests=%d failed=%d\n", sent.Load(), failed.Load())
}

// send makes one request whose body can be read once only, so that Go's client cannot quietly send it again.
func send(method, url, host string) error {
	var body io.Reader
	if method == http.MethodPost {
		body = io.MultiReader(strings.NewReader("one body, sent once"))
	}
	request, err := http.NewRequest(method, url, body)
	if err != nil {
		return err
	}
	request.Host = host
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if _, err := io.Copy(io.Discard, response.Body); err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s %s: %s", method, url, response.Status)
	}
	return nil
}
