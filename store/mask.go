package store

import (
	"slices"
	"strings"
	"sync"
)

// MaskOf hides secret values: whole, and line by line, as a log shows a key file. Very short ones would hide half of every
// log. Longer ones come first, or one that another begins with would leave the rest of that in sight.
func MaskOf(values ...string) *strings.Replacer {
	var secrets []string
	for _, value := range values {
		for _, secret := range append(strings.Split(value, "\n"), value) {
			if secret = strings.TrimSpace(secret); len(secret) >= 8 {
				secrets = append(secrets, secret)
			}
		}
	}
	slices.SortFunc(secrets, func(a, b string) int { return len(b) - len(a) })
	var pairs []string
	for _, secret := range secrets {
		pairs = append(pairs, secret, "****")
	}
	return strings.NewReplacer(pairs...)
}

// mostPassing is how many secrets that run out are remembered; the oldest give way.
const mostPassing = 1000

// hidden are the secrets of the server itself, which no stream may show.
type hidden struct {
	mu      sync.RWMutex
	lasting []string
	passing []string
	mask    *strings.Replacer
}

// Hide has secrets of the server itself kept out of all that is stored and shown from now on.
func (s *Store) Hide(values ...string) {
	s.hidden.add(&s.hidden.lasting, values)
}

// HidePassing does so with secrets that run out, such as the forge's tokens of an hour. There may be any number, so the
// oldest are forgotten.
func (s *Store) HidePassing(values ...string) {
	s.hidden.add(&s.hidden.passing, values)
}

func (h *hidden) add(to *[]string, values []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, value := range values {
		if value != "" && !slices.Contains(*to, value) {
			*to = append(*to, value)
			h.mask = nil
		}
	}
	if h.mask == nil {
		h.passing = h.passing[max(0, len(h.passing)-mostPassing):]
		h.mask = MaskOf(slices.Concat(h.lasting, h.passing)...)
	}
}

// Masked gives a text without the secrets of the server itself.
func (s *Store) Masked(text string) string {
	h := &s.hidden
	h.mu.RLock()
	defer h.mu.RUnlock()
	if h.mask == nil {
		return text
	}
	return h.mask.Replace(text)
}

func (s *Store) maskedEvents(events []Event) []Event {
	masked := slices.Clone(events)
	for i := range masked {
		masked[i].Text = s.Masked(masked[i].Text)
	}
	return masked
}
