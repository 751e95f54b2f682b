package store

// SessionCookie names the cookie of who is signed in to the server. The proxy keeps it from apps.
const SessionCookie = "shipgate_session"

// SecureSessionCookie is its name where the server is reached by https. Browsers take a cookie with this prefix only from the
// host itself, over TLS.
const SecureSessionCookie = "__Host-" + SessionCookie
