package web

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/shipgate/shipgate/store"
)

func TestSilentUploadIsCut(t *testing.T) {
	result := make(chan error, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body := &steadyBody{ReadCloser: r.Body, control: http.NewResponseController(w), idle: 100 * time.Millisecond}
		_, err := io.ReadAll(body)
		result <- err
	}))
	defer server.Close()
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, _ = io.WriteString(conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc")
	problem, ok := store.AsProblem(<-result)
	if !ok || problem.Message != "the client sent nothing for 100ms" {
		t.Errorf("got %v", problem)
	}
}
