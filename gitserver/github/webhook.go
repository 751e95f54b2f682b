package github

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/shipgate/shipgate/store"
)

const (
	largestDelivery = 25 << 20         // bytes; GitHub delivers none that is larger
	usualDelivery   = 1 << 20          // bytes; few are larger
	largeAtOnce     = 8                // that are larger than usual and read at the same time
	readWithin      = 30 * time.Second // of one delivery; GitHub itself waits for 10

	jsonType = "application/json"
	formType = "application/x-www-form-urlencoded"
)

var (
	deliveryGUID = regexp.MustCompile(`^[A-Za-z0-9-]{1,100}$`)
	eventName    = regexp.MustCompile(`^[a-z_]{1,100}$`)
)

// refusal is the answer to a delivery that is not taken.
type refusal struct {
	status int
	*store.Problem
}

func refuse(status int, code store.Code, message string) *refusal {
	return &refusal{status, store.Problemf(code, "%s", message)}
}

// ServeHTTP takes the webhook deliveries of GitHub
// (https://docs.github.com/webhooks/using-webhooks/validating-webhook-deliveries). What it accepts is on the disk before it
// says so, exactly as it came; whether it makes sense is found out later.
func (g *GitHub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	delivery, refused := g.authentic(w, r)
	if refused != nil {
		answer(w, refused.status, refused.Problem)
		return
	}
	delivery.Outcome = foregone(delivery.Event)
	fresh, err := g.Store.ReceiveDelivery(context.WithoutCancel(r.Context()), delivery)
	switch {
	case err != nil: // GitHub shows it, and the catching up makes good for it
		g.Logger.Error("keep webhook delivery", "guid", delivery.GUID, "error", err)
		answer(w, http.StatusInternalServerError, store.Problemf(store.CodeErrored, "the delivery could not be kept"))
	case delivery.Event == "ping":
		answer(w, http.StatusAccepted, map[string]string{"status": "pong"})
	case delivery.Outcome != "":
		answer(w, http.StatusAccepted, map[string]string{"status": "ignored"})
	case !fresh:
		answer(w, http.StatusAccepted, map[string]string{"status": "duplicate"})
	default:
		answer(w, http.StatusAccepted, map[string]string{"status": "accepted"})
	}
}

// foregone is the outcome of events that there is nothing to work on; empty for all others.
func foregone(event string) string {
	switch event {
	case "push", "repository", "installation", "installation_repositories":
		return ""
	case "ping":
		return "pong"
	}
	return "ignored: nothing here depends on " + event + " events"
}

// authentic reads a delivery and holds it to its signature. To a sender who does not know the secret nothing else is said.
func (g *GitHub) authentic(w http.ResponseWriter, r *http.Request) (store.Delivery, *refusal) {
	var none store.Delivery
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		return none, refuse(http.StatusMethodNotAllowed, store.CodeUsage, "webhook deliveries come by POST")
	}
	a, err := g.access(r.Context())
	if err != nil {
		g.Logger.Error("read webhook secret", "error", err)
		return none, refuse(http.StatusInternalServerError, store.CodeErrored, "the webhook secret cannot be read")
	}
	if a == nil || a.WebhookSecret == "" {
		refused := refuse(http.StatusServiceUnavailable, store.CodeErrored, "GitHub is not connected: there is no webhook secret to check a delivery with")
		refused.Problem = refused.WithHint("shipgate github connect")
		return none, refused
	}
	signature, sound := signatureOf(r.Header)
	if !sound {
		return none, refuse(http.StatusUnauthorized, store.CodeUnauthorised, "the delivery is not signed: X-Hub-Signature-256 has to be sha256= and 64 digits")
	}
	body, release, refused := g.readDelivery(w, r)
	defer release()
	if refused != nil {
		return none, refused
	}
	if !hmac.Equal(signature, signed(a.WebhookSecret, body)) {
		return none, refuse(http.StatusUnauthorized, store.CodeUnauthorised, "the signature is wrong: the webhook's secret at GitHub is not the one here")
	}
	return described(r.Header, body)
}

// signatureOf decodes the one header that is good enough: SHA-1 is not, nor is any other prefix.
func signatureOf(header http.Header) ([]byte, bool) {
	values := header.Values("X-Hub-Signature-256")
	if len(values) != 1 {
		return nil, false
	}
	digits, isSHA256 := strings.CutPrefix(values[0], "sha256=")
	signature, err := hex.DecodeString(digits)
	return signature, isSHA256 && err == nil && len(signature) == sha256.Size
}

func signed(secret string, body []byte) []byte {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write(body)
	return mac.Sum(nil)
}

// readDelivery reads a body that anyone may have sent. Only a few large ones are in memory at a time until release says that
// it is known whose they are; those of the usual size wait for none of them.
func (g *GitHub) readDelivery(w http.ResponseWriter, r *http.Request) (body []byte, release func(), refused *refusal) {
	release = func() {}
	tooLarge := refuse(http.StatusRequestEntityTooLarge, store.CodeUsage, "the delivery is larger than 25 MiB")
	if r.ContentLength > largestDelivery {
		return nil, release, tooLarge
	}
	ctx, stop := context.WithTimeout(r.Context(), g.readWithin)
	defer stop()
	deadline, _ := ctx.Deadline()
	// Not every writer knows deadlines; without one the server's own limits hold.
	_ = http.NewResponseController(w).SetReadDeadline(deadline)
	source := http.MaxBytesReader(w, r.Body, largestDelivery)
	var read bytes.Buffer
	_, err := io.CopyN(&read, source, usualDelivery)
	if err == nil {
		select {
		case g.large <- struct{}{}:
			release = func() { <-g.large }
		case <-ctx.Done():
			return nil, release, refuse(http.StatusServiceUnavailable, store.CodeErrored, "too many large deliveries come at once")
		}
		_, err = read.ReadFrom(source)
	}
	var tooMany *http.MaxBytesError
	switch {
	case errors.As(err, &tooMany):
		return nil, release, tooLarge
	case err != nil && err != io.EOF:
		return nil, release, refuse(http.StatusBadRequest, store.CodeUsage, "the delivery ended early")
	}
	return read.Bytes(), release, nil
}

// described takes what the headers say of a body, once that is known to be genuine.
func described(header http.Header, body []byte) (store.Delivery, *refusal) {
	var none store.Delivery
	contentType, _, err := mime.ParseMediaType(header.Get("Content-Type"))
	if err != nil || (contentType != jsonType && contentType != formType) {
		return none, refuse(http.StatusUnsupportedMediaType, store.CodeUsage, "the content type has to be "+jsonType+" or "+formType)
	}
	d := store.Delivery{GUID: header.Get("X-GitHub-Delivery"), Event: header.Get("X-GitHub-Event"), ContentType: contentType, Body: body}
	if !deliveryGUID.MatchString(d.GUID) {
		return none, refuse(http.StatusBadRequest, store.CodeUsage, "X-GitHub-Delivery is not the id of a delivery")
	}
	if !eventName.MatchString(d.Event) {
		return none, refuse(http.StatusBadRequest, store.CodeUsage, "X-GitHub-Event is not the name of an event")
	}
	return d, nil
}

func answer(w http.ResponseWriter, status int, content any) {
	w.Header().Set("Content-Type", jsonType)
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(content) // a sender that has gone reads no answer
}
