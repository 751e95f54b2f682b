package proxy

import (
	"crypto/rand"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
)

// transferSize is how large bodies are: 1.2 GB with SHIPGATE_BIG=1.
func transferSize() int64 {
	if os.Getenv("SHIPGATE_BIG") == "1" {
		return 1200 << 20
	}
	return 200 << 20
}

// peakMemory reads what a process had in memory at most.
func peakMemory(t *testing.T, pid int) (bytes int64) {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "VmHWM:")
	if _, err := fmt.Sscanf(rest, "%d", &bytes); err != nil {
		t.Fatalf("peak in %q: %v", status, err)
	}
	return bytes << 10
}

// TestLargeBodiesPassThrough: what is uploaded and downloaded goes through a proxy process whose memory does not follow the size.
func TestLargeBodiesPassThrough(t *testing.T) {
	const most = 100 << 20
	dir := t.TempDir()
	_, address := serveBackend(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		received, _ := io.Copy(io.Discard, r.Body)
		w.Header().Set("Received", fmt.Sprint(received))
		_, _ = io.CopyN(w, rand.Reader, received)
	}))
	client, status := startProxy(t, quietOptions(dir, "127.0.0.1:0"))
	routeTo(t, client, 1, address)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+status.PublicAddr, io.LimitReader(rand.Reader, transferSize()))
	if err != nil {
		t.Fatal(err)
	}
	request.Host = "a.test"
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	came, err := io.Copy(io.Discard, response.Body)
	if err != nil || came != transferSize() || response.Header.Get("Received") != fmt.Sprint(came) {
		t.Errorf("%s bytes reached the app, and %d came back: %v", response.Header.Get("Received"), came, err)
	}
	if peak := peakMemory(t, status.PID); peak > most {
		t.Errorf("the proxy had %d MiB in memory", peak>>20)
	} else {
		t.Logf("the proxy had %d MiB in memory", peak>>20)
	}
}

// TestLongRequestsArriveWhole: queries, cookies and names of files that are long are the app's to judge.
func TestLongRequestsArriveWhole(t *testing.T) {
	r := startRig(t)
	seen := make(chan *http.Request, 1)
	_, address := serveBackend(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { seen <- r }))
	r.apply("a", 1, 1, address, "a.test")
	long := strings.Repeat("a%2Fb//c%20%C3%BC;", 12_000)
	var many []string
	for i := range 1000 {
		many = append(many, fmt.Sprintf(`c%d="v a,l%d"`, i, i))
	}
	for name, test := range map[string]struct{ target, cookie string }{
		"query":        {"/?q=" + long, "a=b"},
		"path":         {"/" + long, "a=b"},
		"cookie":       {"/", "a=" + long},
		"many cookies": {"/", strings.Join(many, "; ")},
		"all of them":  {"/" + long + "?q=" + long, "a=" + long + "; " + strings.Join(many, "; ")},
	} {
		request := r.request(http.MethodGet, "a.test", test.target, nil)
		request.Header["Cookie"] = []string{test.cookie}
		response, _ := r.do(request)
		if response.StatusCode != http.StatusOK {
			t.Errorf("%s: status %d", name, response.StatusCode)
			continue
		}
		got := <-seen
		if got.RequestURI != test.target || got.Header.Get("Cookie") != test.cookie {
			t.Errorf("%s: %d bytes of target and %d of cookies came, of %d and %d", name, len(got.RequestURI), len(got.Header.Get("Cookie")), len(test.target), len(test.cookie))
		}
	}
}
