package store

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
)

// Sign gives the mark that only this server can make of a message: for links and sessions that need no row of their own.
// A mark for one purpose is none for another. It can be part of an address.
func (s *Store) Sign(purpose, message string) string {
	mac := hmac.New(sha256.New, s.signing)
	mac.Write([]byte(purpose + "\x00" + message))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// Signed says whether the mark of a message is genuine.
func (s *Store) Signed(purpose, message, mark string) bool {
	return hmac.Equal([]byte(s.Sign(purpose, message)), []byte(mark))
}

// PageKey opens the page of one deployment to whoever has it, as long as its app shows its logs to the public.
func (s *Store) PageKey(deployment int64) string { return s.Sign("page", itoa(deployment)) }
