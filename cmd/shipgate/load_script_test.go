package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// request prints the status and the body of one request: http METHOD URL HOST. Negated, it waits until nothing answers.
func request(ts *testscript.TestScript, neg bool, args []string) {
	request, err := http.NewRequest(args[0], args[1], nil)
	ts.Check(err)
	request.Host = args[2]
	if neg {
		ts.Check(awaitSilence(request))
		return
	}
	response, err := http.DefaultClient.Do(request)
	ts.Check(err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	ts.Check(err)
	fmt.Fprintf(ts.Stdout(), "%d\n%s\n", response.StatusCode, body)
}

func awaitSilence(request *http.Request) error {
	fresh := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		response, err := fresh.Do(request)
		if err != nil {
			return nil
		}
		response.Body.Close()
	}
	return fmt.Errorf("%s still answers", request.URL)
}

// load starts requests that no client may repeat, or stops them and prints how many there were: load start HOST [METHOD].
func load(ts *testscript.TestScript, _ bool, args []string) {
	s := serverOf(ts)
	if args[0] == "stop" {
		fmt.Fprintln(ts.Stdout(), s.load.stop())
		s.load = nil
		return
	}
	method := http.MethodPost
	if len(args) > 2 {
		method = args[2]
	}
	s.load = startLoad("http://"+s.public+"/", args[1], method)
}

// loadRun is a bounded number of clients that send requests until they are stopped.
type loadRun struct {
	sent, failed atomic.Int64
	first        sync.Once
	fault        string
	cancel       context.CancelFunc
	clients      sync.WaitGroup
}

func startLoad(url, host, method string) *loadRun {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	run := &loadRun{cancel: cancel}
	for range 4 {
		run.clients.Go(func() {
			for ctx.Err() == nil {
				run.sent.Add(1)
				if err := sendOnce(url, host, method); err != nil {
					run.failed.Add(1)
					run.first.Do(func() { run.fault = err.Error() })
				}
				select {
				case <-ctx.Done():
				case <-time.After(5 * time.Millisecond):
				}
			}
		})
	}
	return run
}

// sendOnce makes a request that Go's client cannot quietly send again.
func sendOnce(url, host, method string) error {
	var body io.Reader
	if method == http.MethodPost {
		body = io.MultiReader(strings.NewReader("sent once"))
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		return err
	}
	request.Host = host
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", response.Status, answer)
	}
	return err
}

func (l *loadRun) stop() string {
	l.cancel()
	l.clients.Wait()
	text := fmt.Sprintf("requests=%d failed=%d", l.sent.Load(), l.failed.Load())
	if l.fault != "" {
		text = "first failure: " + l.fault + "\n" + text
	}
	return text
}
