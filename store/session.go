package store

// SessionCookie names the cookie of who is signed in to the server. The proxy keeps it from apps.
const SessionCookie = "shipgate_session"
